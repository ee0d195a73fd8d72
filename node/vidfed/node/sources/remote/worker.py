"""The process that reads, and writes the unit's outbox table. It has no key and no environment, and knows what came on its standard input.

`python -I -m vidfed.node.sources.remote.worker` reads one JSON object, writes JSON lines, and ends when nobody takes them any more:
`{"rows": [...]}` statements, `{"skipped": [...]}` why rows have none, `{"page": {...}}` where a broken look may go on,
`{"end": {...}}` or `{"error": "..."}` last.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import TYPE_CHECKING, Any

from vidfed.node.sources.errors import SourceError, SourceSettingsError
from vidfed.node.sources.rows.mapping import Reader, RowMapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vidfed.node.sources.rows.statement import Statement

MEMORY_BYTES = 4 << 30
"""Of address space: what a hostile answer or row can make this process take."""
BATCH = 2_000
_DUP = 1


def main() -> None:
    """Do what standard input says."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    out = os.fdopen(os.dup(_DUP), "w", encoding="utf-8", errors="replace")
    os.dup2(2, _DUP)  # whatever a driver prints goes elsewhere
    talk = _Talk(out)
    try:
        task = json.load(sys.stdin)
        _TASKS[task.pop("task")](task, talk)
    except BrokenPipeError:
        os._exit(0)
    except MemoryError:
        talk.say(error="what was read takes more memory than it may")
    except SourceError as error:
        kind = "settings" if isinstance(error, SourceSettingsError) else "read"
        talk.say(error=str(error), kind=kind, retry_after_s=getattr(error, "retry_after_s", 0.0))
    out.close()


class _Talk:
    """Says things, a line each."""

    def __init__(self, out: Any) -> None:  # noqa: ANN401 - a text file
        self._out = out

    def say(self, **message: object) -> None:
        self._out.write(json.dumps(message, ensure_ascii=False, separators=(",", ":")) + "\n")
        self._out.flush()

    def batch(self, found: Iterable[Statement | str]) -> None:
        rows, skipped = [], []
        for each in found:
            if isinstance(each, str):
                skipped.append(each)
            else:
                rows.append(each.to_wire())
        if rows:
            self.say(rows=rows)
        if skipped:
            self.say(skipped=skipped)


def _mapping(fields: Mapping[str, Any]) -> RowMapping:
    return RowMapping(**fields)


def _read_sql(task: dict[str, Any], talk: _Talk) -> None:
    from vidfed.node.sources.remote.sql import Query, SqlReader, cursor_text, cursor_value  # noqa: PLC0415 - only this task needs it

    mapping = _mapping(task["mapping"])
    reader = Reader(mapping)
    query = Query.from_fields(task["query"])
    since = cursor_value(task["since"], task["overlap"]) if task.get("since") else None
    most = task.get("most") or sys.maxsize
    taken = 0
    with SqlReader(query) as source:
        for page in source.pages(since):
            part = page[: most - taken]
            taken += len(part)
            talk.batch(reader.statement(row) for row in part)
            if taken >= most:
                break
        end: dict[str, object] = {"without_key": source.rows_without_key}
        if task.get("most"):
            end["unchanging"] = source.count_unchanging()
        newest = source.cursor()
        end["cursor"] = cursor_text(newest) if newest is not None else task.get("since") or ""
        talk.say(end=end)


def _client(fields: Mapping[str, Any]) -> Any:  # noqa: ANN401 - an HttpsClient, imported late
    from vidfed.node.sources.remote.https import HttpsClient  # noqa: PLC0415 - only this task needs it

    return HttpsClient(**fields)


def _read_ncmec(task: dict[str, Any], talk: _Talk) -> None:
    from vidfed.node.sources.remote.clearing_house import read_pages  # noqa: PLC0415 - only this task needs it

    until_ms = 0
    for page in read_pages(_client(task["client"]), from_ms=task["from_ms"], now_ms=task["now_ms"], resume=task.get("resume")):
        talk.batch([*page.statements, *page.skipped])
        until_ms = page.until_ms
        talk.say(page={"rest": page.rest, "until_ms": page.until_ms})
        if task.get("most"):
            break
    talk.say(end={"cursor": str(until_ms)})


def _read_list(task: dict[str, Any], talk: _Talk) -> None:
    from vidfed.node.sources.remote.lists import rows  # noqa: PLC0415 - only this task needs it

    mapping = _mapping(task["mapping"])
    reader = Reader(mapping)
    answer = _client(task["client"]).get("")
    most = task.get("most") or sys.maxsize
    batch: list[Statement | str] = []
    for number, row in enumerate(rows(answer.body, mapping.needed, task["items"])):
        if number >= most:
            break
        batch.append(row if isinstance(row, str) else _statement(reader, row))
        if len(batch) >= BATCH:
            talk.batch(batch)
            batch.clear()
    talk.batch(batch)
    talk.say(end={"cursor": ""})


def _statement(reader: Reader, row: Sequence[Any]) -> Statement | str:
    return reader.statement(row)


def _tell(task: dict[str, Any], talk: _Talk) -> None:
    from vidfed.node.sources.remote.outbox_table import OutboxTable  # noqa: PLC0415 - only this task needs it

    OutboxTable(**task["place"]).write(task["events"])
    talk.say(end={})


_TASKS = {"sql": _read_sql, "ncmec": _read_ncmec, "list": _read_list, "tell": _tell}

if __name__ == "__main__":
    main()
