"""VICS JSON ("Project VIC") 1.x and 2.0, in the shape of cases and in the shape of hash sets, as a stream of entries.

Written for what tools really produce: keys in any case and order, counts that mean nothing, digests that are empty texts, numbers and
booleans as texts. What is absent or null is unknown. What cannot be read is left out and noted, never guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from vidfed.formats import values as read
from vidfed.formats.entries import Entry, Skip
from vidfed.formats.json_stream import JsonStream
from vidfed.wire.values import Ternary

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from vidfed.formats.source import Source

SCALE = "VICS"
EXTENSION = "vidfedRecord"
"""Key under which our export adds what VICS has no place for; other tools pass over it."""

_CONTEXT = re.compile(r"/(?P<version>\d+\.\d+)\.xml(?:/(?P<region>[^/$#]{1,40})/\$metadata)?#(?P<shape>\w+)", re.IGNORECASE)
_MAX_KEYS = 1_000  # spellings of keys remembered; a hostile file may have millions
_FLAG_VALUES: dict[object, Ternary] = {True: Ternary.YES, False: Ternary.NO, "true": Ternary.YES, "false": Ternary.NO}
_CONTACT = ("contactorganization", "contactname", "contactemail", "contactphone")


_ReadKey: TypeAlias = "Callable[[Entry, Any], None]"


@dataclass(slots=True)
class VicsAbout:
    """What a file says about itself; filled while it is read.

    Attributes:
        version: of the format, empty where not stated.
        region: whose categories are used, as the context says; empty where not stated.
        tool: that wrote it.
        notes: what the operator should know about the file as a whole.
    """

    version: str
    region: str
    tool: str
    notes: list[str]


def read_vics(source: Source, about: VicsAbout, *, keep: Callable[[int, dict[str, Any]], None] | None = None) -> Iterator[Entry | Skip]:
    """Yield the entries of a VICS file.

    Args:
        source: the file.
        about: gets what the file says about itself.
        keep: called with each entry's number and JSON object before it is yielded, for who wants to write it again.

    Raises:
        FormatError: it is no JSON, not VICS, or cut off; the message names line and column.
    """
    with source.text() as text:
        stream = JsonStream(text, str(source.path))
        reader = _Reader(stream, about, keep)
        yield from reader.document()
        stream.end()


class _Reader:
    """Walks down to the media, in whatever shape."""

    def __init__(self, stream: JsonStream, about: VicsAbout, keep: Callable[[int, dict[str, Any]], None] | None) -> None:
        self._stream = stream
        self._about = about
        self._keep = keep
        self._number = 0
        self._readers: dict[str, _ReadKey | None] = {}
        self._found_list = False

    def document(self) -> Iterator[Entry | Skip]:
        stream = self._stream
        if stream.peek() == "[":
            self._about.notes.append("no VICS context: read as a bare list of media")
            yield from self._list()
            return
        if stream.peek() != "{":
            stream.fail("no JSON object: not a VICS file")
        for key in stream.members():
            name = key.casefold().lstrip("@")
            if name in {"odata.context", "odata.metadata"}:
                self._context(stream.value())
            elif name in {"value", "media", "cases"} and stream.peek() == "[":
                yield from self._list()
            elif name == "value" and stream.peek() == "{":
                yield from self._element()
            else:
                stream.value()
        if not self._found_list:
            stream.fail("no list `value` with media: not a VICS file")

    def _context(self, context: object) -> None:
        found = _CONTEXT.search(context) if isinstance(context, str) else None
        if found is None:
            self._about.notes.append("the context names no version of VICS")
            return
        self._about.version = found["version"]
        self._about.region = found["region"] or ""
        if self._number:
            self._about.notes.append("the context comes after the media: the region of the categories was not known when they were read")

    def _list(self) -> Iterator[Entry | Skip]:
        """The first element shows whether these are cases or media; media are read whole, cases walked into."""
        self._found_list = True
        if not self._about.version and not self._about.notes:
            self._about.notes.append("the file does not begin with a VICS context that names its version")
        media_only = False
        for _ in self._stream.elements():
            if not media_only:
                before = self._number
                is_case = yield from self._element()
                media_only = not is_case and self._number == before + 1
                continue
            for media in self._stream.several():
                yield from self._media(media, {})

    def _element(self) -> Generator[Entry | Skip, None, bool]:
        """Yield one element's entries and return whether it was a case."""
        self._found_list = True
        if self._stream.peek() != "{":
            yield self._skip(self._stream.value())
            return False
        gathered: dict[str, Any] = {}
        is_case = False
        for key in self._stream.members():
            if key.casefold() == "media" and self._stream.peek() == "[":
                is_case = True
                case = self._case(gathered)
                count = len(gathered)
                for _ in self._stream.elements():
                    for media in self._stream.several():
                        yield from self._media(media, case)
            else:
                gathered[key] = self._stream.value()
        if is_case:
            if len(gathered) > count and not case and self._case(gathered):
                self._about.notes.append(
                    "a case's number and contact come after its media and were not used; give them with --case and --contact"
                )
            return True
        yield from self._media(gathered, {})
        return False

    def _case(self, gathered: dict[str, Any]) -> dict[str, object]:
        fields = {key.casefold(): value for key, value in gathered.items()}
        tool = " ".join(_text_or_empty(fields.get(name)) for name in ("sourceapplicationname", "sourceapplicationversion")).strip()
        self._about.tool = self._about.tool or tool
        case: dict[str, object] = {}
        if number := _text_or_empty(fields.get("casenumber")) or _text_or_empty(fields.get("caseid")):
            case["case_reference"] = number
        if contact := ", ".join(part for name in _CONTACT if (part := _text_or_empty(fields.get(name)))):
            case["case_contact"] = read.text(contact)
        return case

    def _media(self, media: object, case: dict[str, object]) -> Iterator[Entry | Skip]:
        if not isinstance(media, dict):
            yield self._skip(media)
            return
        inner = media.get("Media")
        if isinstance(inner, list):  # a case among media, or small enough to have been read whole
            case = self._case(media)
            for each in inner:
                yield from self._media(each, case)
            return
        self._number += 1
        if self._keep is not None:
            self._keep(self._number, media)
        yield self._entry(media, case)

    def _skip(self, value: object) -> Skip:
        self._number += 1
        if self._keep is not None:
            self._keep(self._number, value)  # type: ignore[arg-type]  # written again as it was
        return Skip(self._number, "no object")

    def _entry(self, media: dict[str, Any], case: dict[str, object]) -> Entry | Skip:
        """Read one media object."""
        entry = Entry(self._number, {}, dict(case))
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
                return Skip(self._number, str(error))
            except (ValueError, TypeError) as error:  # a list where a text belongs
                entry.notes.append(f"{key!r:.40}: {error}; left out")
        if not entry.codes:
            return Skip(self._number, "; ".join(["no usable hash", *entry.notes]))
        return entry

    def _learn(self, key: str) -> _ReadKey | None:
        """Return how to read what stands under this spelling of a key, None for nothing to us, and remember it."""
        name = key.casefold()
        reader = self._category if name == "category" else _READERS.get(name)
        if len(self._readers) < _MAX_KEYS:
            self._readers[key] = reader
        return reader

    def _category(self, entry: Entry, value: object) -> None:
        entry.values["category"] = read.text(value) if isinstance(value, str) else str(read.whole_number(value))
        entry.values["category_scale"] = SCALE
        if self._about.region:
            entry.values["category_region"] = self._about.region


def _digest(name: str) -> _ReadKey:
    def reader(entry: Entry, value: Any) -> None:  # noqa: ANN401 - JSON
        entry.codes[name] = read.read_code(name, value)

    return reader


def _flag(name: str) -> _ReadKey:
    def reader(entry: Entry, value: Any) -> None:  # noqa: ANN401 - JSON
        if (flag := _FLAG_VALUES.get(value) or read.ternary(value)) is not Ternary.UNKNOWN:
            entry.values[name] = flag

    return reader


def _plain(name: str) -> _ReadKey:
    def reader(entry: Entry, value: Any) -> None:  # noqa: ANN401 - JSON
        if said := read.field_value(name, value):
            entry.values[name] = said

    return reader


def _alternative_hashes(entry: Entry, hashes: object) -> None:
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


def _digest_of_files(entry: Entry, files: object) -> None:
    """Take the digest that all the media's files share, where the media itself gives none."""
    if "md5" in entry.codes or not isinstance(files, list):
        return
    digests = {digest for each in files if isinstance(each, dict) and isinstance(digest := each.get("MD5"), str) and digest}
    if len(digests) == 1:
        entry.codes["md5"] = read.read_code("md5", digests.pop())


def _extension(entry: Entry, fields: object) -> None:
    """Read what our own export adds."""
    for name, value in fields.items() if isinstance(fields, dict) else ():
        if name not in read.RECORD_FIELDS:
            continue
        try:
            entry.values[name] = read.field_value(name, value)
        except ValueError as error:
            entry.notes.append(f"{error}; left out")


_READERS: dict[str, _ReadKey] = {name: _digest(name) for name in ("md5", "sha1", "sha256", "photodna")}
_READERS |= {
    "victimidentified": _flag("victim_identified"),
    "offenderidentified": _flag("offender_identified"),
    "isdistributed": _flag("distributed"),
    "mediasize": _plain("size_bytes"),
    "series": _plain("series"),
    "tags": _plain("tags"),
    "mimetype": _plain("mime_type"),
    "alternativehashes": _alternative_hashes,
    "mediafiles": _digest_of_files,
    EXTENSION.casefold(): _extension,
}


def _text_or_empty(value: object) -> str:
    try:
        return read.text(value) if value is not None else ""
    except ValueError:
        return ""
