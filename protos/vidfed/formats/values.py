"""How the field writes hashes, yes and no, numbers and texts, in all the spellings seen; each read once, here."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vidfed.index import Algorithm, Code, HashTextError
from vidfed.index.texts import says_none
from vidfed.index.worth import EMPTY_FILE_DIGESTS, plain_rule, why_plain, why_worthless
from vidfed.wire.values import MAX_TEXT, HandlingCode, Ternary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# In the languages seen; -1 is Access's.
_YES = ("yes", "y", "true", "t", "1", "-1", "ja", "j", "oui", "si", "s\u00ed", "s\u00ec", "sim", "tak", "ano", "da")
_NO = ("no", "n", "false", "f", "0", "nein", "nee", "nej", "nei", "non", "nie", "ne", "n\u00e3o", "nao")
_TERNARY: dict[object, Ternary] = {**dict.fromkeys(_YES, Ternary.YES), **dict.fromkeys(_NO, Ternary.NO)}
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
_ALGORITHMS = {algorithm.value: algorithm for algorithm in Algorithm}
_LENGTHS = {algorithm.value: algorithm.code_bytes for algorithm in Algorithm}
_HEX_DIGITS = {name: 2 * length for name, length in _LENGTHS.items()}
_PLAIN = {algorithm.value: plain_rule(algorithm) for algorithm in Algorithm}
_DIGEST_NAMES = frozenset(algorithm.value for algorithm in Algorithm if algorithm.is_digest)
_WORTHLESS = frozenset(bytes(length) for length in _LENGTHS.values()) | EMPTY_FILE_DIGESTS
_PHOTODNA_BASE64 = 192  # characters, the usual form: read at once, as there are millions
_DATE_MS = re.compile(r"/Date\((-?\d{1,15})(?:[+-]\d{4})?\)/")
_BAD_OFFSET = re.compile(r"[+-]\d{1,2}:\d{2}Z$")
_FORMULA = "=+@\\-\uff1d\uff0b\uff0d\uff20"  # what a spreadsheet takes for the beginning of a formula; the last four are their wide forms
_CELL_BEGINS = r"((?:^|[;,|\t\r\n\uff1b\uff0c]) *)"  # of the text, or behind what another program may take for a separator
_TO_GUARD = re.compile(f"{_CELL_BEGINS}(?=['{_FORMULA}])")
_GUARDED = re.compile(f"{_CELL_BEGINS}'(?=['{_FORMULA}])")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]+")
MAX_INT64 = 2**63 - 1
_LAST_MS = 253_402_300_799_999  # of the year 9999


def algorithm_name(text: str) -> str | None:
    """Return the name of the algorithm that a file calls this, or None: `SHA-256`, `PhotoDNA`, `pdna`, ..."""
    return _NAMES.get(text) or _NAMES.get("".join(c for c in text.casefold() if c.isalnum()))


def is_digest(name: str) -> bool:
    """Return whether the algorithm of this name gives a digest of a file's bytes."""
    return name in _DIGEST_NAMES


def read_code(name: str, text: object) -> bytes:
    """Read a code of the algorithm of this name, in any of the forms of `vidfed.index.texts`; also a list of its bytes.

    Raises:
        EmptyFileError: it is the digest of an empty file.
        NoCodeError: it says that there is none: `0`, zeros, `N/A`.
        ValueError: of another form, or too plain to find anything by.
    """
    code = None
    if type(text) is str and len(text) == _HEX_DIGITS[name]:  # nearly always
        try:
            code = bytes.fromhex(text)
        except ValueError:
            code = None
    if code is None or len(code) != _LENGTHS[name]:
        code = _other_form(name, text)
    if code in _WORTHLESS:
        if any(code):
            raise EmptyFileError(why_worthless(_ALGORITHMS[name], code))
        raise NoCodeError(why_worthless(_ALGORITHMS[name], code))
    is_plain = _PLAIN[name]
    if is_plain is not None and is_plain(code):
        raise ValueError(why_plain(_ALGORITHMS[name]))
    return code


class EmptyFileError(ValueError):
    """The digest of the empty file, which some sets list; an entry with it is worth nothing."""


class NoCodeError(ValueError):
    """What stands in a code's place says that there is none."""


def _other_form(name: str, text: object) -> bytes:
    """Read what is not plain hex; or say what is wrong with it."""
    if type(text) is not str:
        if type(text) is not list or not all(type(each) is int for each in text):
            raise ValueError(f"{name}: is no text")
        text = ",".join(map(str, text))
    if name == "photodna" and len(text) == _PHOTODNA_BASE64:
        with contextlib.suppress(ValueError):
            code = binascii.a2b_base64(text, strict_mode=True)
            if len(code) == _LENGTHS[name]:
                return code
    if says_none(text):
        raise NoCodeError(f"{name}: {text.strip()[:10]!r} stands for none")
    try:
        return _ALGORITHMS[name].parse(text)
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
        if isinstance(value, int | float) and math.isfinite(value):
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


def texts(value: object) -> tuple[str, ...]:
    """Read several texts: a list, or one text with `;` between them.

    Raises:
        ValueError: neither.
    """
    parts = value if isinstance(value, list | tuple) else text(value).split(";")
    return tuple(part for each in parts if (part := text(each)))


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


def further_text(codes: Iterable[Code]) -> str:
    """Write further codes as one cell: `pdq:HEX@rendering:black@80`, with spaces between them; `read_further` reads it."""
    texts = []
    for each in codes:
        quality = "" if each.quality is None else f"@{each.quality}"
        texts.append(f"{each.algorithm.value}:{each.code.hex()}@{each.kind}{quality}")
    return " ".join(texts)


def read_further(said: str) -> tuple[Code, ...]:
    """Read what `further_text` wrote.

    Raises:
        ValueError: not of that form.
    """
    return tuple(_further_code(part) for part in said.split())


def _further_code(said: str) -> Code:
    named, _, rest = said.partition("@")
    kind, _, quality = rest.partition("@")
    name, _, code = named.partition(":")
    if name not in _ALGORITHMS or name in _DIGEST_NAMES or not kind:
        raise ValueError("further: write ALGORITHM:HEX@KIND or ALGORITHM:HEX@KIND@QUALITY, with a perceptual algorithm")
    return further_code(name, read_code(name, code), kind, int(quality) if quality.isdecimal() and quality.isascii() else None)


def further_code(name: str, code: bytes, kind: str, quality: int | None) -> Code:
    """Return a further code.

    Raises:
        ValueError: kind or quality is not of its form.
    """
    try:
        return Code(_ALGORITHMS[name], code, kind, quality)
    except HashTextError as error:
        raise ValueError(f"further: {error}") from None


def guarded(said: str) -> str:
    """Return a cell that no spreadsheet takes for a formula, whatever separator it splits by; `unguarded` undoes it exactly."""
    return _TO_GUARD.sub(r"\1'", said)


def unguarded(said: str) -> str:
    """Return what `guarded` was given."""
    return _GUARDED.sub(r"\1", said) if "'" in said else said


def dumps(value: object) -> str:
    """Write compact JSON that any text survives."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
