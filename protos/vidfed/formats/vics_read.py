"""VICS JSON ("Project VIC") 1.x and 2.0, in the shape of cases and in the shape of hash sets, as a stream of entries.

Counts in the header mean different things to different tools and are passed over. Keys may come in any order: where a case's fields or
the context stand behind the media, the file is read twice.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from vidfed.formats import values as read
from vidfed.formats.entries import FileEntry, Skip
from vidfed.formats.json_stream import JsonStream
from vidfed.formats.source import Source
from vidfed.formats.vics_media import MediaReader, is_media

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

_CONTEXT = re.compile(r"/(?P<version>\d+\.\d+)\.xml(?:/(?P<region>[^/$#]{1,40})/\$metadata)?#(?P<shape>\w+)", re.IGNORECASE)
_CONTEXT_KEYS = {"odata.context", "odata.metadata"}
_CONTACT = ("contactorganization", "contactname", "contactemail", "contactphone")
_HOLDING_SPELLINGS = frozenset(spelling for key in ("media", "cases", "value") for spelling in (key, key.title(), key.upper()))
_MAX_DEPTH = 8  # cases within cases; two were seen


@dataclass(slots=True)
class VicsAbout:
    """What a file says about itself; filled while it is read.

    Attributes:
        version: of the format, empty where not stated.
        region: whose categories are used, as the context says; empty where not stated.
        tool: that wrote it.
        notes: what the operator should know about the file as a whole.
        cases: number and contact of each case that holds media; only of a file that was read ahead.
    """

    version: str
    region: str
    tool: str
    notes: list[str]
    cases: list[dict[str, object]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class VicsCopy:
    """Writes a file again while it is read, its structure as it was.

    Attributes:
        file: to write.
        media: returns what is to be written for the media object of an entry's number.
    """

    file: IO[str]
    media: Callable[[int, Any], Any]


def read_vics(source: Source, about: VicsAbout, *, copy: VicsCopy | None = None) -> Iterator[FileEntry | Skip]:
    """Yield the entries of a VICS file.

    Args:
        source: the file.
        about: gets what the file says about itself.
        copy: writes it again.

    Raises:
        FormatError: it is no JSON, not VICS, or cut off; the message names line and column.
    """
    with source.text() as text:
        walker = _Walker(source, JsonStream(text, str(source.path)), about, copy)
        yield from walker.document()


class _Walker:
    """Walks down to the media, in whatever shape."""

    def __init__(self, source: Source, stream: JsonStream, about: VicsAbout, copy: VicsCopy | None, *, is_ahead: bool = False) -> None:
        self._source = source
        self._stream = stream
        self._about = about
        self._copy = copy
        self._write: Callable[[str], object] = copy.file.write if copy else lambda _text: None
        self._media_reader = MediaReader(about.region)
        self._number = self._cases = 0
        self._document = 0
        self._is_ndjson = False
        self._is_ahead = is_ahead
        self._ahead: VicsAbout | None = None

    def document(self) -> Iterator[FileEntry | Skip]:
        """Yield the entries of the whole file."""
        stream = self._stream
        if stream.peek() == "[":
            self._about.notes.append("no VICS context: read as a bare list of media")
            yield from self._list({}, 1)
        elif stream.peek() != "{":
            stream.fail("no JSON object: not a VICS file")
        else:
            yield from self._documents()
        stream.end()

    def _documents(self) -> Iterator[FileEntry | Skip]:
        """Yield the entries of one document after the other, or of media objects, one a line: some tools join files, some write NDJSON."""
        stream = self._stream
        region = self._media_reader.region
        while stream.peek() == "{":
            self._document += 1
            if self._document > 1:
                self._write("\n")
                self._media_reader.region = region
            if self._is_ndjson:
                yield from self._media(stream.value(), {}, 1)
            else:
                yield from self._object({}, 0)
        if self._is_ndjson:
            self._about.notes.append("no VICS context: read as media objects one after the other (NDJSON)")
        elif self._document > 1:
            self._about.notes.append(f"{self._document} VICS documents in one file: all were read")

    def _object(self, case: dict[str, object], depth: int, *, may_wrap: bool = False) -> Generator[FileEntry | Skip, None, bool]:
        """Yield the entries of the object that comes and return True if it holds others: the document, a case. Others are media.

        Args:
            case: what the case around it says.
            depth: 0 for the document.
            may_wrap: it stands where a list is usual, and may hold that list as its `value`.
        """
        stream = self._stream
        if depth > _MAX_DEPTH:
            stream.fail("cases are nested too deeply")
        fields: dict[str, Any] = {}
        holds, place = False, -1
        for key in stream.members():
            name = key.casefold().lstrip("@")
            if (name in {"media", "cases"} or (name == "value" and (may_wrap or not depth))) and (follows := stream.peek()) in {"[", "{"}:
                self._copy_fields(fields if not holds else {}, opens=not holds)
                if not holds and name == "media":
                    place = self._cases
                    self._cases += 1
                    if self._is_ahead:
                        self._about.cases.append({})
                if not holds:
                    case = case | self._case(fields, place, is_document=not depth)
                holds = True
                self._copy_key(key, first=not fields)
                yield from self._list(case, depth + 1) if follows == "[" else self._object(case, depth + 1, may_wrap=True)
                fields[key] = None
                continue
            fields[key] = value = stream.value()
            if name in _CONTEXT_KEYS and not depth:
                self._context(value)
            if holds:
                self._copy_key(key)
                self._write(read.dumps(value) if self._copy else "")
        yield from self._close(fields, case, depth, place, holds=holds)
        return holds

    def _close(self, fields: dict[str, Any], case: dict[str, object], depth: int, place: int, *, holds: bool) -> Iterator[FileEntry | Skip]:
        """Yield what an object that was read is itself: a medium, unless it holds others."""
        if holds:
            self._write("}")
            if place >= 0 and self._is_ahead:
                self._about.cases[place] = _case_of(fields)
            yield from self._lost(fields)
        elif depth:
            yield from self._media(fields, case, depth)
        elif is_media(fields):
            self._is_ndjson = True
            yield from self._media(fields, case, 1)
        else:
            self._stream.fail("no list `value` with media: not a VICS file")

    def _list(self, case: dict[str, object], depth: int) -> Iterator[FileEntry | Skip]:
        """Yield the entries of the list that comes. Its first element shows whether it holds media, which are then read whole."""
        stream = self._stream
        media_only = first = True
        self._write("[")
        for _ in stream.elements():
            if not first and media_only:
                for media in stream.several():
                    self._write(",\n")
                    yield from self._media(media, case, depth)
                continue
            self._write("" if first else ",\n")
            first = False
            if stream.peek() == "{":
                media_only = not (yield from self._object(case, depth))
            else:
                yield from self._media(stream.value(), case, depth)
        self._write("]")

    def _lost(self, fields: dict[str, Any]) -> Iterator[Skip]:
        """Name an object that holds media and has hashes of its own: it is read as a case."""
        if is_media(fields) and not self._is_ahead:
            self._number += 1
            yield Skip(self._number, "an object that holds media: its own hashes were not read")

    def _media(self, media: Any, case: dict[str, object], depth: int) -> Iterator[FileEntry | Skip]:  # noqa: ANN401 - JSON
        if isinstance(media, dict) and (held := _held(media)) is not None:  # a case among media, read whole
            if depth > _MAX_DEPTH:
                self._stream.fail("cases are nested too deeply")
            key, wrapper, inner = held
            case = case | _case_of(media)
            self._copy_fields({name: value for name, value in media.items() if name != key}, opens=True)
            self._copy_key(key, first=len(media) == 1)
            self._write(f"{{{read.dumps(wrapper)}:" if wrapper else "")
            for position, each in enumerate(inner):
                self._write(",\n" if position else "[")
                yield from self._media(each, case, depth + 1)
            self._write(("]" if inner else "[]") + ("}" if wrapper else "") + "}")
            yield from self._lost(media)
            return
        self._number += 1
        if self._copy is not None:
            self._write(read.dumps(self._copy.media(self._number, media)))
        if self._is_ahead:
            return
        yield self._media_reader.entry(self._number, media, case) if isinstance(media, dict) else Skip(self._number, "no object")

    def _context(self, context: object) -> None:
        if self._is_ahead and self._document > 1:
            return  # each further document's own stands before its media
        found = _CONTEXT.search(context) if isinstance(context, str) else None
        if found is None:
            self._about.notes.append("the context names no version of VICS")
            return
        self._about.version = found["version"]
        self._about.region = self._media_reader.region = found["region"] or self._about.region

    def _case(self, fields: dict[str, Any], place: int, *, is_document: bool) -> dict[str, object]:
        """Return what the object that holds what comes says as a case; where it says so only later, from further on in the file."""
        about, said = self._about, _case_of(fields)
        has_context = not is_document or any(key.casefold().lstrip("@") in _CONTEXT_KEYS for key in fields)
        if not has_context and self._document > 1:
            self._stream.fail("a further document whose context does not stand before its media: split the file")
        if not self._is_ahead and self._ahead is None and not (has_context and (said or place < 0)):
            self._ahead = VicsAbout("", about.region, "", [])
            again = Source(self._source.path)
            with again.text() as text:
                walker = _Walker(again, JsonStream(text, str(again.path)), self._ahead, None, is_ahead=True)
                deque(walker.document(), maxlen=0)
        if self._ahead is not None:
            if is_document:
                about.version, about.region = self._ahead.version, self._ahead.region
                self._media_reader.region = about.region
            said = self._ahead.cases[place] if place >= 0 else said
        if is_document and not about.version and not about.notes:
            about.notes.append("the file has no VICS context that names its version")
        about.tool = about.tool or _tool_of(fields)
        return said

    def _copy_fields(self, fields: dict[str, Any], *, opens: bool) -> None:
        if self._copy is not None:
            text = ",".join(f"{read.dumps(key)}:{read.dumps(value)}" for key, value in fields.items())
            self._write("{" + text if opens else text)

    def _copy_key(self, key: str, *, first: bool = False) -> None:
        if self._copy is not None:
            self._write(("" if first else ",") + read.dumps(key) + ":")


def _held(media: dict[str, Any]) -> tuple[str, str, list[Any]] | None:
    """Return the key under which an object holds a list of others, the key of the wrapper around that list or "", and the list."""
    if _HOLDING_SPELLINGS.isdisjoint(media):  # of millions, nearly all
        return None
    for key, value in media.items():
        if key not in _HOLDING_SPELLINGS:
            continue
        if isinstance(value, list):
            return key, "", value
        if isinstance(value, dict) and len(value) == 1:
            wrapper, inner = next(iter(value.items()))
            if wrapper.casefold() == "value" and isinstance(inner, list):
                return key, wrapper, inner
    return None


def _tool_of(fields: dict[str, Any]) -> str:
    """Return the program and version that a case names."""
    lower = {key.casefold(): value for key, value in fields.items()}
    return " ".join(_text_or_empty(lower.get(name)) for name in ("sourceapplicationname", "sourceapplicationversion")).strip()


def _case_of(fields: dict[str, Any]) -> dict[str, object]:
    """Return a case's number and contact, by a record's field."""
    lower = {key.casefold(): value for key, value in fields.items()}
    case: dict[str, object] = {}
    if number := _text_or_empty(lower.get("casenumber")) or _text_or_empty(lower.get("caseid")):
        case["case_reference"] = number
    if contact := ", ".join(part for name in _CONTACT if (part := _text_or_empty(lower.get(name)))):
        case["case_contact"] = read.text(contact)
    return case


def _text_or_empty(value: object) -> str:
    try:
        return read.text(value) if value is not None else ""
    except ValueError:
        return ""
