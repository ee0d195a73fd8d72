"""Reading a table or query of somebody else's database: read-only, one snapshot, pages by key, constant memory."""

from __future__ import annotations

import datetime as dt
import decimal
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa

from vidfed.node.sources.errors import SourceReadError, SourceSettingsError
from vidfed.node.sources.remote.engine import cause_of, engine_of
from vidfed.node.sources.rows.mapping import key_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MOST_TEXT = 20_000  # characters of one value: a PhotoDNA as decimals has 600; a picture in a column must not come in by mistake
_TIME = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True)
class Query:
    """What is read.

    Attributes:
        url: without a password.
        password: or empty.
        table, query: one of them.
        columns: wanted, keys among them.
        key: those that name a row.
        changed: column that grows with every change, or empty.
        page_rows: rows a page.
        connect_s, silence_s: see `SqlSection`.
    """

    url: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    password: str = ""
    table: str = ""
    query: str = ""
    changed: str = ""
    page_rows: int = 5_000
    connect_s: float = 10.0
    silence_s: float = 600.0

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Query:
        """Read the JSON form."""
        said = dict(fields)
        return cls(**said | {"columns": tuple(said["columns"]), "key": tuple(said["key"])})


class SqlReader:
    """One snapshot of a database. Use as a context manager."""

    def __init__(self, query: Query) -> None:
        """Prepare; connects when entered.

        Raises:
            SourceSettingsError: the URL is of no known kind, or its driver is not installed.
        """
        self._query = query
        self._engine = engine_of(query)
        self.rows_without_key = 0
        self.newest: object = None
        self._now: object = None

    def __enter__(self) -> Self:
        """Connect and take the snapshot.

        Raises:
            SourceReadError: the server cannot be reached, or what is to be read is not there.
        """
        self._connection = self._guarded(self._engine.connect)
        try:
            self._guarded(self._begin)
            self._source = self._guarded(self._describe)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection; nothing was written that would have to be undone."""
        try:
            self._connection.close()
        except sa.exc.SQLAlchemyError:
            pass
        finally:
            self._engine.dispose()

    def pages(self, since: object = None) -> Iterator[list[Sequence[Any]]]:
        """Yield the rows, a page at a time, each row with the wanted columns.

        Args:
            since: only rows whose `changed` is at or after this value, as `cursor` gave it; None: all.

        Raises:
            SourceReadError: the database fails; what was read so far is worth nothing alone.
        """
        query, source = self._query, self._source
        order = [source.c[name] for name in ((query.changed, *query.key) if since is not None else query.key)]
        wanted = [source.c[name] for name in query.columns]
        extra = [source.c[query.changed]] if query.changed else []
        at = self._positions(order, [*wanted, *extra])
        statement = sa.select(*wanted, *extra).where(*(source.c[name].is_not(None) for name in query.key))
        statement = statement.order_by(*order).limit(query.page_rows)
        if since is not None:
            statement = statement.where(source.c[query.changed] >= since)
        else:
            self._count_nulls()
        last: tuple[Any, ...] | None = None
        before: frozenset[str] = frozenset()
        while True:
            page = statement if last is None else statement.where(_from(order, last))
            rows = self._guarded(lambda page=page: self._connection.execute(page).all())
            fresh = self._without_overlap(rows, before)
            if extra:
                self._note_newest(rows)
            if fresh:
                yield [_bounded(row[: len(wanted)]) for row in fresh]
            if len(rows) < query.page_rows:
                return
            end = tuple(rows[-1][position] for position in at)
            if not fresh or end == last:
                raise SourceReadError(
                    f"key: more than {query.page_rows} rows have the same {', '.join(query.key)}; that is no key. Nothing was changed"
                )
            last, before = end, frozenset(self._name(row) for row in rows)

    def cursor(self) -> object:
        """Return from where the next run may read changes: the newest seen, but never beyond the server's own clock; None: unknown.

        A row that is dated into the future would otherwise hide every change until then.
        """
        newest, now = self.newest, self._now
        if isinstance(newest, dt.datetime) and isinstance(now, dt.datetime):
            if (newest.tzinfo is None) is not (now.tzinfo is None):
                now = now.replace(tzinfo=None) if newest.tzinfo is None else now.astimezone(dt.UTC)
            return min(newest, now)
        if isinstance(newest, str) and isinstance(now, str) and _TIME.match(newest):  # SQLite's texts, with a space or a T
            return min(newest, now if " " in newest else now.replace(" ", "T"))
        return newest

    def _positions(self, order: Sequence[sa.ColumnElement[Any]], selected: Sequence[sa.ColumnElement[Any]]) -> list[int]:
        names = [column.name for column in selected]
        return [names.index(column.name) for column in order]

    def _name(self, row: Sequence[Any]) -> str:
        columns = self._query.columns
        try:
            return key_text([row[columns.index(name)] for name in self._query.key])
        except ValueError:
            return ""

    def _without_overlap(self, rows: Sequence[Sequence[Any]], before: frozenset[str]) -> Sequence[Sequence[Any]]:
        """Return a page without the rows of the page before: pages overlap by the last key, so that one that is no key is found.

        Comparing is the database's, by its collation: to some, `A` and `a` are one key. Rows equal in text are dropped, once each.
        """
        if not before:
            return rows
        fresh, dropped = [], set()
        for row in rows:
            name = self._name(row)
            if name and name in before and name not in dropped:
                dropped.add(name)
            else:
                fresh.append(row)
        return fresh

    def _note_newest(self, rows: Sequence[Sequence[Any]]) -> None:
        for row in rows:
            value = row[-1]
            if value is not None and (self.newest is None or value > self.newest):
                self.newest = value

    def _count_nulls(self) -> None:
        source, query = self._source, self._query
        empty = sa.or_(*(source.c[name].is_(None) for name in query.key))
        count = sa.select(sa.func.count()).select_from(source)
        self.rows_without_key = self._guarded(lambda: self._connection.execute(count.where(empty)).scalar_one())

    def count_unchanging(self) -> int:
        """Return how many rows have no time of change: only a full comparison sees that they changed."""
        if not self._query.changed:
            return 0
        source = self._source
        count = sa.select(sa.func.count()).select_from(source).where(source.c[self._query.changed].is_(None))
        return int(self._guarded(lambda: self._connection.execute(count).scalar_one()))

    def _begin(self) -> None:
        """Begin a read-only transaction that sees one moment."""
        dialect = self._engine.dialect.name
        execute = self._connection.exec_driver_sql
        milliseconds = int(self._query.silence_s * 1000)
        if dialect == "postgresql":
            # The snapshot is taken by the first statement. Nobody's VACUUM should wait for us longer than reading takes.
            execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            execute(f"SET LOCAL statement_timeout = {milliseconds}")
            execute(f"SET LOCAL idle_in_transaction_session_timeout = {milliseconds}")
        elif dialect in {"mysql", "mariadb"}:
            execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        elif dialect == "mssql":
            execute("SET TRANSACTION ISOLATION LEVEL SNAPSHOT")
        elif dialect == "oracle":
            execute("SET TRANSACTION READ ONLY")
        self._now = self._connection.execute(sa.select(sa.literal_column("CURRENT_TIMESTAMP"))).scalar_one()

    def _describe(self) -> sa.FromClause:
        """Return what is read, with its columns.

        Raises:
            SourceSettingsError: a column is not there; the message names those that are.
        """
        query = self._query
        named = (*query.columns, *([query.changed] if query.changed else []))
        if query.query:
            shape = self._connection.execute(sa.text(f"SELECT * FROM ({query.query}) vidfed_source WHERE 1 = 0"))  # noqa: S608 - the operator's own query
            there = list(shape.keys())
            shape.close()
        else:
            schema, _, table = query.table.rpartition(".")
            probe = sa.table(table, schema=schema or None)
            shape = self._connection.execute(sa.select(sa.text("*")).select_from(probe).where(sa.text("1 = 0")))
            there = list(shape.keys())
            shape.close()
        folded = {name.casefold(): name for name in there}
        missing = [name for name in named if name not in there and name.casefold() not in folded]
        if missing:
            raise SourceSettingsError(f"the source has no column {missing[0]!r}; it has {', '.join(there)}")
        columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in named]
        if query.query:
            return sa.text(query.query).columns(*columns).subquery("vidfed_source")
        return sa.table(table, *columns, schema=schema or None)

    def _guarded(self, act: Any) -> Any:  # noqa: ANN401 - whatever the call gives
        """Call, and turn the database's errors into one without statement, parameters or password."""
        try:
            return act()
        except sa.exc.SQLAlchemyError as error:
            raise SourceReadError(f"{self._engine.url.render_as_string(hide_password=True)}: {cause_of(error)}") from None
        except UnicodeError:
            raise SourceReadError("the database gave a text that is not of its own encoding; set the encoding in the url") from None


def _from(order: Sequence[sa.ColumnElement[Any]], last: Sequence[Any]) -> sa.ColumnElement[bool]:
    """Return the condition for rows at or after a place in the order; written out, for not every database compares rows of values."""
    condition: sa.ColumnElement[bool] = order[-1] >= last[-1]
    for column, value in list(zip(order, last, strict=True))[-2::-1]:
        condition = sa.or_(column > value, sa.and_(column == value, condition))
    if len(order) > 1:
        condition = sa.and_(order[0] >= last[0], condition)  # what an index on the first column can use
    return condition


def _bounded(row: Sequence[Any]) -> Sequence[Any]:
    if any(isinstance(value, str | bytes | memoryview) and len(value) > _MOST_TEXT for value in row):
        return [
            f"a value of {len(value)} characters" if isinstance(value, str | bytes | memoryview) and len(value) > _MOST_TEXT else value
            for value in row
        ]
    return row


def cursor_text(value: object) -> str:
    """Write a value of `changed` so that `cursor_value` reads it back.

    Raises:
        SourceSettingsError: it is of a type that has no order in time.
    """
    if isinstance(value, dt.datetime):
        return f"time:{value.isoformat()}"
    if isinstance(value, dt.date):
        return f"date:{value.isoformat()}"
    if isinstance(value, float):
        return f"real:{value!r}"
    if isinstance(value, bool) or not isinstance(value, int | decimal.Decimal | str | bytes):
        raise SourceSettingsError(f"changed: a column of {type(value).__name__} does not say when a row changed")
    if isinstance(value, bytes):  # SQL Server's rowversion
        return f"bytes:{value.hex()}"
    return f"text:{value}" if isinstance(value, str) else f"number:{int(value)}"


def cursor_value(text: str, overlap: float) -> object:
    """Return what `cursor_text` wrote, moved back by `overlap`: seconds for times, as much for numbers.

    Raises:
        SourceSettingsError: a text that is no time.
    """
    kind, _, said = text.partition(":")
    seconds = dt.timedelta(seconds=overlap)
    if kind == "time":
        return dt.datetime.fromisoformat(said) - seconds
    if kind == "date":
        return dt.date.fromisoformat(said) - max(seconds, dt.timedelta(days=1))  # the day goes on
    if kind == "real":
        return float(said) - overlap
    if kind == "number":
        return int(said) - int(overlap)
    if kind == "bytes":
        size = len(said) // 2
        return max(0, int(said, 16) - int(overlap)).to_bytes(size)
    try:
        moved = dt.datetime.fromisoformat(said) - seconds
    except ValueError:
        raise SourceSettingsError(f"changed: {said!r:.40} is no time; such a column cannot say what changed since") from None
    separator = " " if " " in said else "T"
    whole = moved.isoformat(separator, "microseconds" if "." in said else "seconds")
    return whole.replace("+00:00", "Z") if said.endswith("Z") else whole
