"""One media object of VICS JSON: what its fields mean.

Written for what tools really produce: keys in any case and order, digests that are empty texts, numbers and booleans as texts. What is
absent or null is unknown. What cannot be read is left out and noted, never guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from vidfed.formats import values as read
from vidfed.formats import vpdq
from vidfed.formats.entries import FileEntry, Skip
from vidfed.formats.fields import FIELDS, RESTRICTING, Kind, UnreadableLimitError, field_value
from vidfed.wire.values import Ternary

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.index import Code

SCALE = "VICS"
EXTENSION = "vidfedRecord"
"""Key under which our export adds what VICS has no place for; other tools pass over it."""

KIND, QUALITY = "vidfedKind", "vidfedQuality"
"""Keys of an alternative hash that say what of the picture it is the hash of; others take it for one more hash of it, which it is."""

FRAMES = "vidfedFrames"
"""Key of an alternative hash vPDQ: the same frames with how long each is shown, and without borders."""

_MAX_KEYS = 1_000  # spellings of keys remembered; a hostile file may have millions
_FLAG_VALUES: dict[object, Ternary] = {True: Ternary.YES, False: Ternary.NO, "true": Ternary.YES, "false": Ternary.NO}
_ReadKey: TypeAlias = "Callable[[FileEntry, Any], None]"


class MediaReader:
    """Reads the media objects of one file.

    Attributes:
        region: whose categories the file uses; empty where it does not say.
    """

    def __init__(self, region: str) -> None:
        self.region = region
        self._readers: dict[str, _ReadKey | None] = {}

    def entry(self, number: int, media: dict[str, Any], case: dict[str, object]) -> FileEntry | Skip:
        """Read one media object.

        Args:
            number: of the entry, from 1.
            media: the JSON object.
            case: what its case says, by a record's field.
        """
        entry = FileEntry(number, {}, dict(case))
        readers = self._readers
        for key, value in media.items():
            if value is None or value == "":
                continue
            reader = readers[key] if key in readers else self._learn(key)
            if reader is None:
                continue
            try:
                reader(entry, value)
            except (read.EmptyFileError, UnreadableLimitError) as error:
                return Skip(number, str(error))
            except ValueError as error:
                entry.notes.append(f"{key!r:.40}: {error}; left out")
        if not entry.codes and not entry.further:
            return Skip(number, "; ".join(["no usable hash", *entry.notes]))
        return entry

    def _learn(self, key: str) -> _ReadKey | None:
        """Return how to read what stands under this spelling of a key, None for nothing to us, and remember it."""
        name = key.casefold()
        reader = self._category if name == "category" else _READERS.get(name)
        if len(self._readers) < _MAX_KEYS:
            self._readers[key] = reader
        return reader

    def _category(self, entry: FileEntry, value: object) -> None:
        entry.values["category"] = read.text(value) if isinstance(value, str) else str(read.whole_number(value))
        entry.values["category_scale"] = SCALE
        if self.region:
            entry.values["category_region"] = self.region


def is_media(fields: dict[str, Any]) -> bool:
    """Return whether an object has a hash as a media object has it."""
    return any(value and key.casefold() in _HASH_KEYS for key, value in fields.items())


def _digest(name: str) -> _ReadKey:
    def reader(entry: FileEntry, value: Any) -> None:  # noqa: ANN401 - JSON
        entry.codes[name] = read.read_code(name, value)

    return reader


def _flag(name: str) -> _ReadKey:
    def reader(entry: FileEntry, value: Any) -> None:  # noqa: ANN401 - JSON
        if type(value) is list or type(value) is dict:
            raise ValueError("is not yes, no or unknown")
        if (flag := _FLAG_VALUES.get(value) or read.ternary(value)) is not Ternary.UNKNOWN:
            entry.values[name] = flag

    return reader


def _plain(name: str) -> _ReadKey:
    def reader(entry: FileEntry, value: Any) -> None:  # noqa: ANN401 - JSON
        if said := field_value(name, value):
            entry.values[name] = said

    return reader


def _alternative_hashes(entry: FileEntry, hashes: object) -> None:
    for each in hashes if isinstance(hashes, list) else ():
        if not isinstance(each, dict):
            continue
        hash_name, value = each.get("HashName"), each.get("HashValue")
        if hash_name is None:
            fields = {key.casefold(): value for key, value in each.items()}
            hash_name, value = fields.get("hashname"), fields.get("hashvalue")
        if not isinstance(hash_name, str) or not isinstance(value, str) or not value:
            continue
        try:
            if vpdq.take_unsearched(entry, hash_name, value) or _frames(entry, hash_name, value, each):
                continue
        except ValueError as error:
            entry.notes.append(f"alternative hash {error}; left out")
            continue
        if (name := read.algorithm_name(hash_name)) is None:
            entry.notes.append(f"alternative hash {hash_name!r:.40}: not known; left out")
            continue
        try:
            _alternative_hash(entry, name, read.read_code(name, value), each)
        except read.EmptyFileError:
            raise
        except ValueError as error:
            entry.notes.append(f"alternative hash {error}; left out")


def _frames(entry: FileEntry, hash_name: str, value: str, each: dict[str, Any]) -> bool:
    """Take vPDQ of a film: in our own export with the whole of what is known of each frame. False if it is another hash.

    Raises:
        ValueError: it is vPDQ and cannot be read.
    """
    if not vpdq.is_name(hash_name):
        return False
    own = each.get(FRAMES)
    if isinstance(own, str):
        frames: tuple[Code, ...] = read.read_further(own)
    else:
        frames, notes = vpdq.frames_of(value)
        entry.notes += notes
    entry.further = (*entry.further, *frames)
    return True


def _alternative_hash(entry: FileEntry, name: str, code: bytes, each: dict[str, Any]) -> None:
    """Take one: the first of an algorithm is the picture's, others are of further views of it; of a digest there is one."""
    kind, quality = each.get(KIND), each.get(QUALITY)
    if kind is None and name not in entry.codes:
        entry.codes[name] = code
        return
    if entry.codes.get(name) == code:
        return
    if read.is_digest(name):
        raise ValueError(f"{name}: another one than that of the media object")
    kind = f"alternative:{len(entry.further) + 2}" if kind is None else read.text(kind)
    further = read.further_code(name, code, kind, read.whole_number(quality, 100) if quality is not None else None)
    entry.further = (*entry.further, further)


def _digest_of_files(entry: FileEntry, files: object) -> None:
    """Take the digest that all the media's files share, where the media itself gives none."""
    if "md5" in entry.codes or not isinstance(files, list):
        return
    said = [each.get("MD5") or each.get("md5") for each in files if isinstance(each, dict)]
    digests = {digest for digest in said if isinstance(digest, str) and digest}
    if len(digests) == 1:
        entry.codes["md5"] = read.read_code("md5", digests.pop())


def _extension(entry: FileEntry, fields: object) -> None:
    """Read what our own export adds."""
    for name, value in fields.items() if isinstance(fields, dict) else ():
        if name not in FIELDS:
            continue
        try:
            entry.values[name] = field_value(name, value)
        except ValueError as error:
            if name in RESTRICTING:
                raise UnreadableLimitError(str(error)) from None
            entry.notes.append(f"{error}; left out")


_HASH_KEYS = frozenset(("md5", "sha1", "sha256", "photodna", "alternativehashes", "hashes"))
_READERS: dict[str, _ReadKey] = {name: _digest(name) for name in ("md5", "sha1", "sha256", "photodna")}
_READERS |= {
    field.vics.casefold(): _flag(field.name) if field.kind is Kind.TERNARY else _plain(field.name)
    for field in FIELDS.values()
    if field.vics
}
_READERS |= {
    "alternativehashes": _alternative_hashes,
    "hashes": _alternative_hashes,
    "mediafiles": _digest_of_files,
    EXTENSION.casefold(): _extension,
}
