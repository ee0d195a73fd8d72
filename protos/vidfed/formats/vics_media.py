"""One media object of VICS JSON: what its fields mean.

Written for what tools really produce: keys in any case and order, digests that are empty texts, numbers and booleans as texts. What is
absent or null is unknown. What cannot be read is left out and noted, never guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from vidfed.formats import values as read
from vidfed.formats.entries import FileEntry, Skip
from vidfed.formats.fields import FIELDS, Kind, field_value
from vidfed.wire.values import Ternary

if TYPE_CHECKING:
    from collections.abc import Callable

SCALE = "VICS"
EXTENSION = "vidfedRecord"
"""Key under which our export adds what VICS has no place for; other tools pass over it."""

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
            except read.EmptyFileError as error:
                return Skip(number, str(error))
            except ValueError as error:
                entry.notes.append(f"{key!r:.40}: {error}; left out")
        if not entry.codes:
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
        name = read.algorithm_name(hash_name)
        if name is None or name in entry.codes:
            continue
        try:
            entry.codes[name] = read.read_code(name, value)
        except read.EmptyFileError:
            raise
        except ValueError as error:
            entry.notes.append(f"alternative hash {error}; left out")


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
            entry.notes.append(f"{error}; left out")


_READERS: dict[str, _ReadKey] = {name: _digest(name) for name in ("md5", "sha1", "sha256", "photodna")}
_READERS |= {
    field.vics.casefold(): _flag(field.name) if field.kind is Kind.TERNARY else _plain(field.name)
    for field in FIELDS.values()
    if field.vics
}
_READERS |= {
    "alternativehashes": _alternative_hashes,
    "mediafiles": _digest_of_files,
    EXTENSION.casefold(): _extension,
}
