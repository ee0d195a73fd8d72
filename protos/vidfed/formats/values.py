"""How the field writes hashes, yes and no, numbers and texts, in all the spellings seen; each read once, here."""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vidfed.index import Algorithm, HashTextError
from vidfed.wire.values import MAX_TEXT, HandlingCode, Ternary

if TYPE_CHECKING:
    from collections.abc import Callable

_TERNARY: dict[object, Ternary] = dict.fromkeys(("yes", "y", "true", "t", "1"), Ternary.YES)
_TERNARY |= dict.fromkeys(("no", "n", "false", "f", "0"), Ternary.NO)
_TERNARY |= dict.fromkeys(("unknown", "", "null", "none", "n/a", "-"), Ternary.UNKNOWN)
_NAMES = {algorithm.value: algorithm.value for algorithm in Algorithm}
_NAMES |= {
    "PDQ": "pdq",
    "PhotoDNA": "photodna",
    "SHA256": "sha256",
    "pdna": "photodna",
    "photodnahash": "photodna",
    "md5hash": "md5",
    "sha1hash": "sha1",
    "sha256hash": "sha256",
    "pdqhash": "pdq",
}
_LENGTHS = {algorithm.value: algorithm.code_bytes for algorithm in Algorithm}
_WORTHLESS = frozenset(bytes(length) for length in _LENGTHS.values()) | frozenset(
    bytes.fromhex(digest)  # of the empty file
    for digest in (
        "d41d8cd98f00b204e9800998ecf8427e",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    )
)
_DATE_MS = re.compile(r"/Date\((-?\d{1,15})(?:[+-]\d{4})?\)/")
_BAD_OFFSET = re.compile(r"[+-]\d{1,2}:\d{2}Z$")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]+")
MAX_INT64 = 2**63 - 1
_LAST_MS = 253_402_300_799_999  # of the year 9999


def algorithm_name(text: str) -> str | None:
    """Return the name of the algorithm that a file calls this, or None: `SHA-256`, `PhotoDNA`, `pdna`, ..."""
    return _NAMES.get(text) or _NAMES.get("".join(c for c in text.casefold() if c.isalnum()))


def read_code(name: str, text: str) -> bytes:
    """Read a code of the algorithm of this name: hex in either case; PhotoDNA also in base64 or as 144 numbers with commas.

    Raises:
        ValueError: of another form, of an empty file, or all zeros.
    """
    length = _LENGTHS[name]
    if type(text) is not str:
        raise ValueError(f"{name}: is no text")
    if len(text) == 2 * length:
        try:
            code = bytes.fromhex(text)
        except ValueError:
            raise ValueError(f"{name}: not hex: only 0-9 and a-f may occur") from None
    elif name == "photodna":
        code = _photodna(text)
    else:
        code = _other_form(name, text)
    if len(code) != length:
        raise ValueError(f"{name}: {len(code)} bytes, expected {length}")
    if code in _WORTHLESS:
        if any(code):
            raise EmptyFileError("the digest of an empty file says nothing about a picture")
        raise ValueError(f"{name}: all zeros: a tool's placeholder")
    return code


class EmptyFileError(ValueError):
    """The digest of the empty file, which some sets list; an entry with it is worth nothing."""


def _photodna(text: str) -> bytes:
    if "," in text:
        numbers = text.split(",")
        if len(numbers) != _LENGTHS["photodna"] or not all(number.strip().isdecimal() and int(number) <= 255 for number in numbers):  # noqa: PLR2004 - a byte
            raise ValueError("photodna: not 144 numbers from 0 to 255")
        return bytes(map(int, numbers))
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # with line breaks, or of the alphabet for URLs
        plain = "".join(text.split()).replace("-", "+").replace("_", "/")
        return _other_form("photodna", plain)


def _other_form(name: str, text: str) -> bytes:
    """Read what is not at once right: spaces around it; or say what is wrong with it."""
    try:
        return Algorithm(name).parse(text)
    except HashTextError as error:
        raise ValueError(str(error)) from None


def ternary(value: object) -> Ternary:
    """Read yes, no or unknown in any spelling; null and empty are unknown, and so is what cannot be read as either.

    Raises:
        ValueError: something else.
    """
    if value is True:
        return Ternary.YES
    if value is False:
        return Ternary.NO
    if value is None:
        return Ternary.UNKNOWN
    try:
        return _TERNARY[str(value).strip().casefold()]
    except KeyError:
        raise ValueError(f"{str(value)!r:.40} is not yes, no or unknown") from None


def whole_number(value: object, maximum: int = MAX_INT64) -> int:
    """Read a number of bytes or the like, given as a number or in a text.

    Raises:
        ValueError: negative, too large, with a fraction, or no number.
    """
    if isinstance(value, str):
        stripped = value.strip()
        value = int(stripped) if stripped.isdecimal() and stripped.isascii() and len(stripped) < 20 else None  # noqa: PLR2004 - digits of 2**63
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= maximum:
        raise ValueError(f"must be a whole number from 0 to {maximum}")
    return value


def text(value: object) -> str:
    """Return a text that fits into a record: one line, printable, at most MAX_TEXT characters.

    Raises:
        ValueError: it is a structure, no text.
    """
    if not isinstance(value, str):
        if isinstance(value, int | float):
            return str(value)
        raise ValueError("is no text")
    if len(value) <= MAX_TEXT and value.isprintable():
        return value.strip()
    cleaned = _UNPRINTABLE.sub(" ", value)
    return "".join(c if c.isprintable() else " " for c in cleaned).strip()[:MAX_TEXT].rstrip()


def tags(value: object) -> tuple[str, ...]:
    """Read tags: a list, or a text with commas.

    Raises:
        ValueError: neither.
    """
    parts = value if isinstance(value, list) else text(value).split(",")
    return tuple(dict.fromkeys(part for each in parts if (part := text(each))))[:100]


def moment_ms(value: object) -> int:
    """Read a time in any of the field's forms as ms since the epoch: ISO 8601, a date, `/Date(ms)/`, and `...+1:00Z`, which is malformed.

    A time without a zone is taken as UTC.

    Raises:
        ValueError: none of them, or not from 1970 to 9999.
    """
    said = text(value)
    ms = int(found[1]) if (found := _DATE_MS.fullmatch(said)) else _iso_ms(said)
    if not 0 <= ms <= _LAST_MS:
        raise ValueError(f"{said!r:.40} is not from 1970 to 9999")
    return ms


def _iso_ms(said: str) -> int:
    said = _BAD_OFFSET.sub(lambda match: f"{match[0][0]}{match[0][1:-1].zfill(5)}", said)
    try:
        moment = datetime.fromisoformat(said)
    except ValueError:
        raise ValueError(f"{said!r:.40} is no date or time") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def handling(value: object) -> HandlingCode:
    """Read a Europol handling code.

    Raises:
        ValueError: another one.
    """
    try:
        return HandlingCode[text(value).upper()]
    except KeyError:
        raise ValueError(f"must be one of {', '.join(code.name for code in HandlingCode)}") from None


def one_of(*allowed: str) -> Callable[[object], str]:
    """Return a reader of one of these texts, in either case."""

    def read(value: object) -> str:
        said = text(value).upper()
        if said not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return said

    return read


def sharing(value: object) -> str:
    """Read a sharing rule's text; what it means: `vidfed.node.records.record.Sharing`.

    Raises:
        ValueError: of none of the three forms.
    """
    said = text(value).replace(" ", "")
    kind, _, names = said.partition(":")
    if said == "nobody" or (kind in {"only", "not"} and names.strip(",")):
        return said
    raise ValueError("must be nobody, only:MEMBER,... or not:MEMBER,...")


def code_text(name: str, code: bytes, *, upper: bool = False) -> str:
    """Write a code as `read_code` reads it."""
    if name == "photodna":
        return base64.b64encode(code).decode()
    return code.hex().upper() if upper else code.hex()


def dumps(value: object) -> str:
    """Write compact JSON that any text survives."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
