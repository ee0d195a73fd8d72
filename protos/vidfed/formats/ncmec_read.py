"""NCMEC Hash Sharing v2: pages of XML as they come from its interface, with entries, corrections and deletions.

Document types are refused: entities are how XML is made to explode or to read other files, and these pages have none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.parsers import expat  # document types, and with them entities, are refused below

from vidfed.formats import values as read
from vidfed.formats import vpdq
from vidfed.formats.entries import FileEntry, FormatError, Skip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidfed.formats.source import Source

NAMESPACE = "https://hashsharing.ncmec.org/hashsharing/v2"
SCALE = "ncmec"
_MAX_DEPTH = 12
_MAX_TEXT = 10_000  # characters of one element
_PIECE = 64 * 1024
_ITEMS = {"image": False, "video": False, "deletedimage": True, "deletedvideo": True}
FURTHER_PAGE = "there is a further page: import it too"
MAX_VOTES = 100  # kept of one item
_VOTES = {"affirmativefeedback": "affirmed", "negativefeedback": "disputed"}
_PLURALS = {"deletedimages", "deletedvideos", "deleted"}


@dataclass(slots=True)
class _Item:
    deleted: bool
    member: str = ""
    texts: dict[str, str] = field(default_factory=dict)
    fingerprints: list[tuple[str, str]] = field(default_factory=list)
    votes: list[str] = field(default_factory=list)
    voters: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    voted_on: str = ""


class _Page:
    """What the XML parser calls; finished items queue up in `ready`."""

    def __init__(self) -> None:
        self.ready: list[_Item] = []
        self.next_page = ""
        self._path: list[str] = []
        self._text: list[str] = []
        self._size = 0
        self._item: _Item | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        namespace, _, local = tag.rpartition(" ")
        name = local.casefold()
        if not self._path and namespace != NAMESPACE:
            raise ValueError(f"the root element is of namespace {namespace!r:.80}, not {NAMESPACE}")
        if len(self._path) >= _MAX_DEPTH:
            raise ValueError("nested too deeply")
        if self._item is None and name in _ITEMS:
            self._item = _Item(_ITEMS[name] or bool(_PLURALS & set(self._path)))
        elif self._item is not None and name == "member" and self._path[-1] in _ITEMS:  # who voted is a member too, further down
            self._item.member = attributes.get("id", "")
        elif self._item is not None and name in _VOTES:
            self._item.voted_on, self._item.voters, self._item.reasons = attributes.get("type", ""), [], []
        elif self._item is not None and name == "member" and self._in_vote():
            self._item.voters.append(attributes.get("id", ""))
        elif self._item is not None and name == "reason" and self._in_vote():
            self._item.reasons.append(attributes.get("name") or attributes.get("type") or attributes.get("guid", ""))
        self._path.append(name)
        self._text, self._size = [], 0

    def _in_vote(self) -> bool:
        return not _VOTES.keys().isdisjoint(self._path)

    def data(self, text: str) -> None:
        self._size += len(text)
        if self._size > _MAX_TEXT:
            raise ValueError("an element with too long a text")
        self._text.append(text)

    def end(self, _tag: str) -> None:
        name = self._path.pop()
        text = "".join(self._text).strip()
        self._text, self._size = [], 0
        item = self._item
        if item is None:
            if name == "next" and self._path[-1:] == ["paging"]:
                self.next_page = text
        elif name in _ITEMS and not (set(self._path) & set(_ITEMS)):
            self.ready.append(item)
            self._item = None
        elif name in _VOTES:
            about = f" {item.voted_on}" if item.voted_on else ""
            why = f" ({', '.join(filter(None, item.reasons))})" if any(item.reasons) else ""
            item.votes += [f"{_VOTES[name]}{about} by {voter or 'unknown'}{why}" for voter in item.voters or [""]]
        elif self._path[-1:] == ["fingerprints"]:
            item.fingerprints.append((name, text))
        elif text and self._path[-1] in _ITEMS:
            item.texts[name] = text

    def refuse(self, *_: object) -> None:
        raise ValueError("a document type or entity, which these pages do not have: refused")


def read_ncmec(source: Source, notes: list[str]) -> Iterator[FileEntry | Skip]:
    """Yield the entries of one page; deletions as entries that retract.

    Args:
        source: the file.
        notes: gets what the operator should know about the page as a whole.

    Raises:
        FormatError: it is no XML, of another namespace, or has a document type; the message names line and column.
    """
    page = _Page()
    parser: Any = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = page.start, page.end, page.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = parser.ExternalEntityRefHandler = page.refuse
    number = 0
    with source.bytes() as file:
        while True:
            piece = file.read(_PIECE)
            try:
                parser.Parse(piece, not piece)
            except (expat.ExpatError, ValueError) as error:
                words = str(error).partition(": line")[0]
                place = f"line {parser.CurrentLineNumber}, column {parser.CurrentColumnNumber + 1}"
                raise FormatError(f"{source.path}: {place}: {words}") from None
            for item in page.ready:
                number += 1
                yield _entry(number, item)
            page.ready.clear()
            if not piece:
                break
    if page.next_page:
        notes.append(FURTHER_PAGE)


def _take_of_film(entry: FileEntry, tag: str, text: str) -> bool:
    """Take TMK, which is kept, or vPDQ, whose frames are searched; False if the tag is that of another hash."""
    try:
        if vpdq.take_unsearched(entry, tag, text):
            return True
        if not vpdq.is_name(tag):
            return False
        entry.further, notes = vpdq.frames_of(text)
        entry.notes += notes
    except ValueError as error:
        entry.notes.append(f"{tag}: {error}; left out")
    return True


def _entry(number: int, item: _Item) -> FileEntry | Skip:
    entry = FileEntry(number, {}, {}, retracts=item.deleted)
    identity = item.texts.get("id", "")
    if identity:
        entry.values["source_id"] = read.text(f"ncmec/{item.member}/{identity}")
    if classification := item.texts.get("classification"):
        entry.values |= {"category": read.text(classification), "category_scale": SCALE}
    if item.votes:
        entry.values["votes"] = read.texts(item.votes[:MAX_VOTES])
        if len(item.votes) > MAX_VOTES:
            entry.notes.append(f"{len(item.votes)} votes: the first {MAX_VOTES} were kept")
    for tag, text in item.fingerprints:
        if not text or (_take_of_film(entry, tag, text) or (name := read.algorithm_name(tag)) is None):
            continue
        try:
            entry.codes[name] = read.read_code(name, text)
        except read.EmptyFileError as error:
            return Skip(number, str(error))
        except ValueError as error:
            entry.notes.append(f"{error}; left out")
    if entry.retracts:
        return entry if identity or entry.codes else Skip(number, "a deletion that names no item")
    return entry if entry.codes or entry.further else Skip(number, "; ".join(["no usable hash", *entry.notes]))
