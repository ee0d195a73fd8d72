"""The text forms in which tools write a code, each read once, here, for every door: files, the command line, sources.

Hex in either case is the field's own. Seen besides: in braces, brackets or quotes; with `0x`; bytes apart by spaces, dashes or colons;
base64, of either alphabet and with or without its padding; the bytes as decimal numbers, apart by commas, semicolons or spaces.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

MAX_CODE_TEXT: Final = 4_096
"""Characters: 144 numbers with `0x`, commas and spaces take a quarter of it."""

_NONE: Final = frozenset(("", "-", "0", "na", "n/a", "nil", "none", "null", "nan", "unknown"))
_WRAPPERS: Final = " \t\r\n\"'`"
_BRACKETS: Final = {"{": "}", "[": "]", "(": ")", "<": ">"}
_APART: Final = re.compile(r"[\s,;:]+|-")
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_HEX_DIGITS: Final = frozenset("0123456789abcdefABCDEF")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_LINE_BREAK: Final = re.compile(r"[ \t]*[\r\n]+[ \t]*")
_MAX_BYTE: Final = 255


def says_none(text: str) -> bool:
    """Return whether a text in the place of a code says that there is none: empty, `0`, zeros, `N/A`, `null`."""
    plain = text.strip(_WRAPPERS)
    return plain.casefold() in _NONE or not plain.strip("0")


def read_code_text(text: str, length: int) -> bytes | None:
    """Return the code that a text stands for.

    Args:
        text: in any of the forms above.
        length: of the code, in bytes.

    Returns:
        `length` bytes; None if the text is of none of the forms, or of a code of another length.
    """
    if len(text) > MAX_CODE_TEXT:
        return None
    plain = text.strip(_WRAPPERS)
    while plain[:1] in _BRACKETS and plain[-1:] == _BRACKETS[plain[0]]:
        plain = plain[1:-1].strip(_WRAPPERS)
    bare = plain[2:] if plain[:2] in {"0x", "0X"} else plain
    if len(bare) == 2 * length and set(bare) <= _HEX_DIGITS:
        return bytes.fromhex(bare)
    parts = [part for part in _APART.split(plain) if part]
    if len(parts) > 1 and (found := _of_parts(parts, plain, length)) is not None:
        return found
    return _of_base64(plain, length)


def _of_parts(parts: list[str], plain: str, length: int) -> bytes | None:
    """Read a code whose bytes, or groups of them, stand apart. Two digits in each part are hex, unless a comma says otherwise."""
    groups = [part.removeprefix("0x").removeprefix("0X") for part in parts]
    in_pairs = all(map(_HEX.fullmatch, groups))
    numbers = len(parts) == length and all(part.isascii() and part.isdecimal() and int(part) <= _MAX_BYTE for part in parts)
    if numbers and ("," in plain or ";" in plain or not in_pairs):
        return bytes(map(int, parts))
    return bytes.fromhex("".join(groups)) if in_pairs and len("".join(groups)) == 2 * length else None


def _of_base64(plain: str, length: int) -> bytes | None:
    joined = _LINE_BREAK.sub("", plain).replace("-", "+").replace("_", "/")
    if not _BASE64.fullmatch(joined):
        return None
    try:
        code = base64.b64decode(joined.rstrip("=") + "=" * (-len(joined.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return code if len(code) == length else None
