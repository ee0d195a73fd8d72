"""NCMEC Hash Sharing v2 over HTTPS: a journal of entries, corrections and deletions, asked for from the last look on, a page at a time.

Entries do not come in the order of time, so a look counts only when its last page has been read.
"""

from __future__ import annotations

import html
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit
from xml.parsers import expat  # document types, and with them entities, are refused below

from vidfed.formats.entries import FileEntry, FormatError
from vidfed.formats.ncmec_read import read_ncmec
from vidfed.formats.source import Source
from vidfed.node.records.record import to_column
from vidfed.node.sources.errors import SourceReadError
from vidfed.node.sources.rows.statement import MAX_KEY, Kind, Statement, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vidfed.node.sources.remote.https import HttpsClient

PATH = "/v2/entries"
MOST_PAGES = 100_000
"""Of one look: at 1,000 entries a page, a hundred million; a server that pages for ever is stopped."""
_CLOCK_SLACK_MS = 300_000
_PREFIX = "ncmec/"


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    Attributes:
        statements: what could be read; `skipped`: why other entries could not.
        rest: path and query of the next page; empty: this was the last.
        until_ms: up to when the whole look reaches, ms since the epoch.
    """

    statements: list[Statement]
    skipped: list[str]
    rest: str
    until_ms: int


def read_pages(client: HttpsClient, *, from_ms: int, now_ms: int, resume: Mapping[str, Any] | None = None) -> Iterator[Page]:
    """Yield the pages of one look.

    Args:
        client: of the address before PATH.
        from_ms: changes at or after this are wanted.
        now_ms: this machine's time.
        resume: `rest` and `until_ms` of the last page read by an earlier, broken look at the same time span.

    Raises:
        SourceReadError: the server cannot be reached, or gives something else than pages.
    """
    if resume and resume.get("rest"):
        rest, until_ms = _next(str(resume["rest"])), int(resume["until_ms"])
    else:
        rest, until_ms = f"{PATH}?{urlencode({'from': _moment(from_ms), 'to': _moment(now_ms)})}", now_ms
    asked = {rest}
    for _ in range(MOST_PAGES):
        answer = client.get(rest)
        if answer.server_ms is not None and answer.server_ms < until_ms + _CLOCK_SLACK_MS:
            # What the server adds before our "now", by its clock, would be missed by the next look if its clock is behind ours.
            until_ms = min(until_ms, answer.server_ms)
        statements, skipped, following = _parse(answer.body)
        rest = _next(following) if following else ""
        if rest in asked:
            raise SourceReadError("the clearing house's pages lead in a circle; nothing was changed")
        asked.add(rest)
        yield Page(statements, skipped, rest, until_ms)
        if not rest:
            return
    raise SourceReadError(f"the clearing house has more than {MOST_PAGES} pages; nothing was changed")


def _next(said: str) -> str:
    """Return path and query of a following page. Only these are taken from what the server says; where it is asked stays configured."""
    parts = urlsplit(html.unescape(said.strip()))
    at = parts.path.find(PATH)
    if at < 0 or parts.path[at:] != PATH or not parts.query or not parse_qs(parts.query):
        raise SourceReadError("the clearing house names a following page that is none of its own; it was not asked")
    if not parts.query.isascii() or not parts.query.isprintable() or " " in parts.query:
        raise SourceReadError("the clearing house names a following page with characters that no address has")
    return f"{PATH}?{parts.query}"


def _parse(body: bytes) -> tuple[list[Statement], list[str], str]:
    if not body.strip():
        raise SourceReadError("the clearing house answered with nothing")
    descriptor = os.memfd_create("page")  # the reader of files reads a file; this one never touches a disk
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
            file.flush()
            found = list(read_ncmec(Source(Path(f"/proc/self/fd/{descriptor}")), []))
    except FormatError as error:
        words = str(error).partition(": ")[2] or str(error)
        raise SourceReadError(f"the clearing house's page cannot be used: {words}") from None
    statements, skipped = [], []
    for entry in found:
        if not isinstance(entry, FileEntry):
            skipped.append(entry.reason)
            continue
        key = str(entry.values.pop("source_id", "")).removeprefix(_PREFIX)
        if not 0 < len(key) <= MAX_KEY or not key.isprintable():
            skipped.append("an entry without an id: its correction or deletion could not be told later")
        elif entry.retracts:
            statements.append(Statement(key, Kind.DELETED))
        elif not entry.codes:
            statements.append(Statement(key, Kind.UNUSABLE, notes=shorten(["no usable hash", *entry.notes])))
        else:
            values = {name: to_column(value) for name, value in entry.values.items()}
            statements.append(Statement(key, Kind.LIVE, entry.codes, values, shorten(entry.notes)))
    return statements, skipped, _following(body)


def _following(body: bytes) -> str:
    """Return the text of `<paging><next>`, empty where there is none."""
    path: list[str] = []
    text: list[str] = []

    def start(tag: str, _attributes: object) -> None:
        path.append(tag.rpartition(" ")[2].casefold())

    def data(piece: str) -> None:
        if path[1:] == ["paging", "next"]:
            text.append(piece)

    def end(_tag: str) -> None:
        path.pop()

    def refuse(*_: object) -> None:
        raise SourceReadError("a document type or entity, which these pages do not have: refused")

    parser: Any = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except expat.ExpatError:
        raise SourceReadError("the clearing house's page is cut") from None
    return "".join(text).strip()


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
