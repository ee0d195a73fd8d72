"""vPDQ hashes of films as the vpdq tools and HMA write them: read and written. And TMK hashes, which are kept as they come.

In use are a text with a line for each frame, a JSON list of such lines, and an object by frame numbers:

    0,100,HASH,0.000                      frame, quality, hash, seconds: vpdq-hash-video and its Python binding's tests
    100,HASH,0.000                        quality, hash, seconds
    HASH,100,0.000                        hash, quality, seconds: one element of python-threatexchange's and HMA's list
    {"0": {"quality": 100, "hash": HASH, "timestamp": 0.0}}    python-threatexchange before that

Which is which is told by the hash, the only one with 64 hex digits; the seconds are last. HMA says of a file's signals `{"vpdq": LIST AS A
TEXT, "video_md5": ...}`, and a list of those is a list of films.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from vidfed.formats import values as read
from vidfed.formats.entries import FileEntry, FormatError, Skip
from vidfed.index import Algorithm, Code
from vidfed.index.codes import FRAME, MAX_FILM_MS, frame_kind, frame_times

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vidfed.formats.source import Source

NAME: Final = "vpdq"
RELIABLE_QUALITY: Final = 50
"""Frames below it match anything; the vpdq tools leave them out of matching, too."""

MAX_CHARACTERS: Final = 64 << 20
"""Of one file: half a million frames; it is held in memory."""
MAX_FRAMES: Final = 65_535
"""Of one film, as many codes as a record has: 18 hours at one a second."""

MAX_TMK: Final = 400_000
"""Of one hash: TMK+PDQF's full features are 262,148 bytes, in base64 349,532 characters."""
MAX_TMK_HASHES: Final = 4
"""Of one item."""
FIELD: Final = "other_hashes"
KEPT: Final = "kept as it came, and exported; lookups do not search it"

_VALUE: Final = re.compile(r"[A-Za-z0-9+/=_.,|-]+")
_TMK: Final = frozenset(("tmk", "tmkpdqf", "tmkpdqfhash", "tmkhash"))

_HASH: Final = re.compile(r"[0-9A-Fa-f]{64}")
_LINE: Final = re.compile(r"(?:\d{1,9} *, *)?(?:\d{1,3} *, *[0-9A-Fa-f]{64}|[0-9A-Fa-f]{64} *, *\d{1,3}) *, *\d{1,9}(?:\.\d{1,12})?")
_BY_NUMBER: Final = re.compile(r'\{\s*"\d{1,9}"\s*:\s*\{')
_OF_HMA: Final = re.compile(r'(?:\[\s*)?\{\s*"(?:video_md5|md5|sha1|sha256|filename|file_name|vpdq)"\s*:')
_KEY: Final = re.compile(r'"vpdq"\s*:')
_DIGESTS: Final = {"video_md5": "md5", "md5": "md5", "sha1": "sha1", "sha256": "sha256"}
_MAX_QUALITY: Final = 100


def is_vpdq(head: str) -> bool:
    """Return whether a file that begins so is vPDQ."""
    text = head.lstrip()
    if text.startswith("["):
        element = text[1:].lstrip()
        return bool(element.startswith('"') and _LINE.match(element[1:])) or bool(_OF_HMA.match(text) and _KEY.search(text))
    if text.startswith("{"):
        return bool(_BY_NUMBER.match(text)) or bool(_OF_HMA.match(text) and _KEY.search(text))
    first = next((line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    return _LINE.fullmatch(first) is not None


def is_name(text: str) -> bool:
    """Return whether a file calls vPDQ this: `vPDQ`, `VPDQ`, `vpdq_hash`."""
    return "".join(c for c in text.casefold() if c.isalnum()) in {NAME, f"{NAME}hash"}


def read_vpdq(source: Source, notes: list[str]) -> Iterator[FileEntry | Skip]:
    """Yield one entry for each film: its frames as further codes, and the digests that the file gives.

    Args:
        source: the file: lines of one film, its JSON, or HMA's objects of many.
        notes: gets what there is to know about the file as a whole.

    Raises:
        FormatError: it is too large, or no JSON.
    """
    del notes
    with source.text() as file:
        text = file.read(MAX_CHARACTERS + 1)
    if len(text) > MAX_CHARACTERS:
        raise FormatError(f"{source.path}: vPDQ of more than {MAX_CHARACTERS >> 20} million characters; one film takes far less")
    begins = text.lstrip()[:1]
    if begins not in {"[", "{"}:
        yield _entry(1, text.splitlines(), {})
        return
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{source.path}: {error}") from None
    films = said if isinstance(said, list) and said and isinstance(said[0], dict) else [said]
    for number, film in enumerate(films, 1):
        if isinstance(film, dict) and NAME in film:
            yield _entry(number, film[NAME], film)
        else:
            yield _entry(number, film, {})


def _entry(number: int, said: object, about: dict[str, Any]) -> FileEntry | Skip:
    entry = FileEntry(number, {}, {})
    try:
        for key, name in _DIGESTS.items():
            if value := about.get(key):
                entry.codes[name] = read.read_code(name, value)
        entry.further, notes = frames_of(said)
    except ValueError as error:
        return Skip(number, f"vPDQ: {error}")
    file_name = about.get("file_name") or about.get("filename")
    if isinstance(file_name, str):
        entry.file_name = read.text(file_name)
    entry.notes += notes
    if not entry.further and not entry.codes:
        return Skip(number, "; ".join(["no usable frame", *entry.notes]))
    return entry


def frames_of(said: object) -> tuple[tuple[Code, ...], list[str]]:
    """Read the frames of one film in any of the forms.

    Args:
        said: lines; a text of lines or of JSON; or what that JSON holds.

    Returns:
        the distinct frames in the order in which they are shown, each until it is last seen in a row, and what was left out.

    Raises:
        ValueError: not of any of the forms; the message names the frame.
    """
    if isinstance(said, str):
        said = json.loads(said) if said.lstrip()[:1] in {"[", "{"} else said.splitlines()
    if isinstance(said, dict):
        said = [_of_object(number, each) for number, each in said.items()]
    if not isinstance(said, list):
        raise ValueError("no list of frames")  # noqa: TRY004 - of a file, not of a caller
    shown = sorted((_frame(number, each) for number, each in enumerate(said, 1) if str(each).strip()), key=lambda frame: frame[0])
    plain = sum(quality < RELIABLE_QUALITY for _, _, quality in shown)
    notes = [f"{plain} of {len(shown)} frames are too plain (quality below {RELIABLE_QUALITY}) and were left out"] if plain else []
    frames: dict[bytes, list[int]] = {}
    last = b""
    for at_ms, code, quality in shown:
        if code == last:
            frames[code][1] = at_ms
        elif quality >= RELIABLE_QUALITY and code not in frames:
            frames[code] = [at_ms, at_ms, quality]
        last = code if code in frames else b""
    if len(frames) > MAX_FRAMES:
        notes.append(f"{len(frames):,} distinct frames: the first {MAX_FRAMES:,} were kept")
    kept = list(frames.items())[:MAX_FRAMES]
    return tuple(Code(Algorithm.PDQ, code, frame_kind(first, end), quality) for code, (first, end, quality) in kept), notes


def frame_lines(further: Iterable[Code]) -> list[str]:
    """Return the frames of a film as elements of HMA's list: `HASH,100,12.500`; empty of what is no film."""
    return [f"{code},{quality},{seconds:.3f}" for code, quality, seconds in _shown(further)]


def frame_text(further: Iterable[Code]) -> str:
    """Return the frames of a film as vpdq-hash-video's text: `0,100,HASH,12.500` a line."""
    return "".join(f"{number},{quality},{code},{seconds:.3f}\n" for number, (code, quality, seconds) in enumerate(_shown(further)))


def hma_object(codes: dict[str, bytes], further: Sequence[Code]) -> dict[str, str]:
    """Return a film as HMA says it: its digests, and the frames' list as a text."""
    said = {"video_md5" if name == "md5" else name: codes[name].hex() for name in ("md5", "sha1", "sha256") if name in codes}
    return said | {NAME: json.dumps(frame_lines(further))}


def _shown(further: Iterable[Code]) -> Iterator[tuple[str, int, float]]:
    """Yield hash, quality and seconds of a film's frames, with borders, as the tools have them."""
    frames = [(times[0], each) for each in further if each.kind.startswith(f"{FRAME}:") and (times := frame_times(each.kind))]
    for from_ms, each in sorted(frames, key=lambda frame: frame[0]):
        yield each.code.hex(), _MAX_QUALITY if each.quality is None else each.quality, from_ms / 1000


def _of_object(number: str, said: object) -> str:
    if not isinstance(said, dict) or not {"hash", "quality", "timestamp"} <= said.keys():
        raise ValueError(f"frame {number!r:.20} is no object with hash, quality and timestamp")
    return f"{said['hash']},{said['quality']},{said['timestamp']}"


def _frame(number: int, said: object) -> tuple[int, bytes, int]:
    """Return when a frame is shown, in milliseconds, its hash and its quality.

    Raises:
        ValueError: not of any of the forms.
    """
    text = said.strip() if isinstance(said, str) else ""
    if not _LINE.fullmatch(text):
        raise ValueError(
            f"frame {number}: {text!r:.80} is not hash,quality,seconds, quality,hash,seconds or one of these with a number before"
        )
    *rest, seconds = (cell.strip() for cell in text.split(","))
    (code,) = (cell for cell in rest if _HASH.fullmatch(cell))
    quality = int(next(cell for cell in reversed(rest) if cell != code))
    at_ms = round(float(seconds) * 1000)
    if quality > _MAX_QUALITY or at_ms > MAX_FILM_MS:
        raise ValueError(f"frame {number}: quality {quality} at {seconds} seconds: at most 100, and 100 hours")
    return at_ms, bytes.fromhex(code), quality


# --- TMK+PDQF, of whole films: kept as it comes, exported and never searched ---


def is_unsearched(text: str) -> bool:
    """Return whether a file calls such a hash this: `TMK`, `tmk_pdqf`, `TMK+PDQF`."""
    return "".join(c for c in text.casefold() if c.isalnum()) in _TMK


def other_hashes(value: object) -> tuple[str, ...]:
    """Read such hashes: a list or one text with `;` between them, each `TMK:VALUE` or the value alone.

    Raises:
        ValueError: too many, too long, or with characters that no such hash has.
    """
    parts = value if isinstance(value, list | tuple) else str(value).split(";")
    found = tuple(dict.fromkeys(_checked(part.strip()) for part in parts if isinstance(part, str) and part.strip()))
    if len(found) > MAX_TMK_HASHES:
        raise ValueError(f"{len(found)} hashes that are not searched, at most {MAX_TMK_HASHES} are kept")
    return found


def take_unsearched(entry: FileEntry, name: str, value: str) -> bool:
    """Keep a hash with an entry, and say so; False if the name is that of another hash.

    Raises:
        ValueError: as `other_hashes`.
    """
    if not is_unsearched(name):
        return False
    before = entry.values.get(FIELD, ())
    entry.values[FIELD] = other_hashes([*(before if isinstance(before, tuple) else ()), value])
    entry.notes.append(f"{name:.20}: {KEPT}")
    return True


def _checked(said: str) -> str:
    value = said.removeprefix("TMK:")
    if len(value) > MAX_TMK:
        raise ValueError(f"TMK: {len(value):,} characters, at most {MAX_TMK:,}")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"TMK: {value!r:.40} is neither hex nor base64")
    return f"TMK:{value}"
