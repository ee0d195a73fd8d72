"""A whole list by HTTPS: CSV with a header, JSON, or one JSON object a line. Columns are mapped as a table's are."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from vidfed.formats.lines_read import delimiter_of
from vidfed.node.sources.errors import SourceReadError, SourceSettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MOST_CELL = 20_000


def rows(body: bytes, columns: Sequence[str], items: str = "") -> Iterator[list[Any] | str]:
    """Yield each row's values of the columns wanted, or why it cannot be used.

    Args:
        body: the whole list.
        columns: wanted.
        items: see `ListSection`.

    Raises:
        SourceReadError: it is neither CSV nor JSON; an HTML page is said to be one.
        SourceSettingsError: it has no such column.
    """
    try:
        text = body.decode("utf-16" if body[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig")
    except UnicodeDecodeError:
        raise SourceReadError("the list is neither UTF-8 nor UTF-16 text") from None
    start = text.lstrip()[:200]
    if start.startswith("<"):
        what = "an HTML page: is a log-in wanted?" if "html" in start.casefold() else "XML"
        raise SourceReadError(f"the list is {what}")
    if not start:
        raise SourceReadError("the list is empty, without even a header")
    yield from _json_rows(text, columns, items) if start[0] in "{[" else _csv_rows(text, columns)


def _csv_rows(text: str, columns: Sequence[str]) -> Iterator[list[Any] | str]:
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text.splitlines()[0]), strict=True)
    try:
        header = [name.strip() for name in next(lines)]
        folded = {name.casefold(): position for position, name in enumerate(header)}
        if missing := [name for name in columns if name.casefold() not in folded]:
            raise SourceSettingsError(f"the list has no column {missing[0]!r}; it has {', '.join(header)!s:.500}")
        at = [folded[name.casefold()] for name in columns]
        for row in lines:
            if not any(row):
                continue
            if len(row) < len(header):
                yield f"{len(row)} values for {len(header)} columns"
                continue
            yield [row[position][:_MOST_CELL] or None for position in at]
    except csv.Error as error:
        raise SourceReadError(f"the list is cut or no CSV: line {lines.line_num}: {error}") from None


def _json_rows(text: str, columns: Sequence[str], items: str) -> Iterator[list[Any] | str]:
    for found in _objects(text, items):
        if isinstance(found, dict):
            yield [found.get(name) for name in columns]
        else:
            yield "an item that is no object"


def _objects(text: str, items: str) -> Iterator[object]:
    try:
        document = json.loads(text)
    except RecursionError:
        raise SourceReadError("the list is nested too deeply") from None
    except ValueError as error:
        if not text.lstrip().startswith("{") or "\n" not in text.strip():
            raise SourceReadError(f"the list is cut or no JSON: {error}"[:200]) from None
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    raise SourceReadError(f"the list is cut or no JSON: line {number}") from None
        return
    for name in filter(None, items.split(".")):
        if not isinstance(document, dict) or name not in document:
            raise SourceSettingsError(f"items: the list has no member {name!r}")
        document = document[name]
    if isinstance(document, dict) and not items:
        document = [document]
    if not isinstance(document, list):
        raise SourceSettingsError("items: name the member that holds the list")
    yield from document
