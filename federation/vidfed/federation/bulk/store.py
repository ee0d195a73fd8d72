"""What a bulk lookup is about and what was answered so far: one SQLite file in the result folder.

With it memory stays constant, and a killed lookup goes on where it was.

Entries are what the source lists, numbered as there; items are what is asked about, numbered from 1 in the order they came, equal ones
once. Of each member it holds which items it has answered, as ranges, and its hits.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import threading
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from vidfed.federation.bulk.ranges import Range, Ranges, lacking, ranges_of
from vidfed.federation.lookup.errors import QuestionError
from vidfed.federation.lookup.evidence import Evidence
from vidfed.federation.lookup.question import Item, Shortfall
from vidfed.index import Algorithm
from vidfed.security.clock import system_clock
from vidfed.security.sqlite import connect, transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from vidfed.security.clock import Clock

FILE = "lookup.db"
_KEY_BYTES = 16
_BATCH = 2_000  # rows read or written at a time
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (
    item INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, label TEXT NOT NULL, codes BLOB NOT NULL, extra TEXT NOT NULL,
    exact_only INTEGER NOT NULL, shortfalls TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS entries (number INTEGER PRIMARY KEY, label TEXT NOT NULL, item INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS entries_of_item ON entries (item);
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, changed_ns INTEGER NOT NULL, number INTEGER, reason TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answered (member TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS members (
    member TEXT PRIMARY KEY, first_ms INTEGER, last_ms INTEGER, directory INTEGER NOT NULL DEFAULT 0, few TEXT NOT NULL DEFAULT ''
    ) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hits (item INTEGER NOT NULL, member TEXT NOT NULL, weak INTEGER NOT NULL, hit TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS more (item INTEGER NOT NULL, member TEXT NOT NULL, PRIMARY KEY (item, member)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS hits_of_item ON hits (item, weak, member);
"""
_KNOWN = "item IN (SELECT item FROM hits WHERE NOT weak)"
_WITH_HITS = "item IN (SELECT item FROM hits)"


@dataclass(frozen=True, slots=True)
class EntryResult:
    """One entry with what was answered about it.

    Attributes:
        number: of the entry in its source.
        item: what was asked, under the entry's own label.
        status: `known` if somebody knows it, else `weak` if there are weak hits; else `open` while not everybody has answered, and `unseen`
            once everybody, signed, has said no.
        hits: exact and near ones, as JSON objects.
        weak_hits: those that say nothing by themselves.
        open: members that have not answered.
    """

    number: int
    item: Item
    status: str
    hits: list[dict[str, Any]]
    weak_hits: list[dict[str, Any]]
    open: list[str]


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of one member's answers as a whole.

    Attributes:
        first_ms, last_ms: when the oldest and the newest came, in ms since the epoch; None if there is none.
        directory: the highest version of the trust directory by which it answered.
        few: algorithms that few of its records carry.
    """

    first_ms: int | None
    last_ms: int | None
    directory: int
    few: tuple[Algorithm, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many entries are known to somebody, have weak hits only, are open without any hit, and were not answered by everybody."""

    known: int
    weak: int
    open: int
    partial: int


@dataclass(frozen=True, slots=True)
class HitFilter:
    """Which hits are wanted: those whose fields are these; empty ones let everything through."""

    evidence: str = ""
    member: str = ""
    series: str = ""
    reference: str = ""

    def condition(self) -> tuple[str, list[str]]:
        """Return the SQL condition and its values."""
        said = {name: getattr(self, name) for name in self.__dataclass_fields__ if getattr(self, name)}
        terms = [f"json_extract(h.hit, '$.{name}') = ?" for name in said]
        return " AND ".join(terms) or "1", list(said.values())


@dataclass(frozen=True, slots=True)
class ToldHit:
    """One hit of one entry: its place, the entry's label, and the hit as JSON object."""

    place: tuple[int, int]
    label: str
    hit: dict[str, Any]


class BulkStore:
    """An open file. Safe from several threads. Use as a context manager."""

    def __init__(self, folder: Path, scope: Mapping[str, object], clock: Clock = system_clock) -> None:
        """Open what is in a folder, or begin it.

        Args:
            folder: for the results; made if absent.
            scope: what must be the same when the lookup goes on.
            clock: says when answers came.

        Raises:
            QuestionError: the folder holds another question, or what is in it is damaged.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / FILE
        self._path = path
        self._clock = clock
        self.begun_ms = clock()
        self._lock = threading.RLock()
        self._database = connect(path)
        try:
            self._begin(json.dumps(scope, sort_keys=True))
        except BaseException:
            self._database.close()
            raise
        self.amend: Callable[[dict[str, Any]], dict[str, Any]] = lambda hit: hit
        """Given each hit as it is read, with what has become known since it was kept."""
        self._answered: dict[str, Ranges] = {}
        for member, first, last in self._database.execute("SELECT member, first, last FROM answered"):
            self._answered.setdefault(member, Ranges()).add(Range(first, last))
        self.count: int = self._one("SELECT coalesce(max(item), 0) FROM items")

    def _begin(self, scope: str) -> None:
        try:
            # What a power cut can undo is asked again; a killed process loses nothing.
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.executescript(_SCHEMA)
            if not self._one("SELECT count(*) FROM answered"):  # no answer to lose: the source was broken, or nobody was there
                # Hashing took its time, though: of the same question the files that were read stay.
                same = self._one("SELECT count(*) FROM meta WHERE name = 'scope' AND value = ?", (scope,))
                hashed = same and self._one("SELECT count(*) FROM files")
                source = () if hashed else ("meta", "items", "entries", "files")
                for table in (*source, "members", "hits", "more"):
                    self._database.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the line above
            self._database.execute("INSERT OR IGNORE INTO meta VALUES ('scope', ?)", (scope,))
            stated = self._one("SELECT value FROM meta WHERE name = 'scope'")
        except sqlite3.DatabaseError as error:
            raise QuestionError(f"{self._path}: {error}; name another --out, or delete it to ask everything anew") from None
        if stated != scope:
            raise QuestionError(f"{self._path.parent}: holds the results of another question{_unlike(stated, scope)}; name another --out")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    # --- what is asked ---

    def add(self, entries: Iterable[tuple[int, Item]]) -> None:
        """Take entries with their numbers, all or none. Those it has already are passed over, items that are equal kept once."""
        with self._writing():
            for number, item in entries:
                codes = _pack(item.codes)
                fields = item.to_fields()
                extra = json.dumps(fields) if fields else ""
                # Two files with equal codes may have been asked about differently, and each is told as it was.
                key = hashlib.blake2b(codes + extra.encode(), digest_size=_KEY_BYTES).digest()
                self._database.execute(
                    "INSERT OR IGNORE INTO items (key, label, codes, extra, exact_only, shortfalls) VALUES (?, ?, ?, ?, ?, ?)",
                    (key, item.label, codes, extra, item.exact_only, " ".join(each.value for each in item.shortfalls)),
                )
                self._database.execute(
                    "INSERT OR IGNORE INTO entries SELECT ?, ?, item FROM items WHERE key = ?", (number, item.label, key)
                )
        self.count = self._one("SELECT coalesce(max(item), 0) FROM items")

    def add_file(self, path: str, size_bytes: int, changed_ns: int, outcome: Item | str) -> None:
        """Take a file: its item, or why it cannot be asked about."""
        with self._writing():
            known = self._database.execute("SELECT number FROM files WHERE path = ?", (path,)).fetchone()
            number = (known and known[0]) or self._one("SELECT coalesce(max(number), 0) + 1 FROM entries")
            if known and known[0]:
                self._database.execute("DELETE FROM entries WHERE number = ?", (number,))
            if isinstance(outcome, Item):
                self.add([(number, outcome)])
            row = (path, size_bytes, changed_ns, number, "") if isinstance(outcome, Item) else (path, size_bytes, changed_ns, None, outcome)
            self._database.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", row)

    def has_file(self, path: str, size_bytes: int, changed_ns: int) -> bool:
        """Return whether this very file was taken already and could be asked about."""
        row = (path, size_bytes, changed_ns)
        return bool(self._one("SELECT count(*) FROM files WHERE path = ? AND size = ? AND changed_ns = ? AND number IS NOT NULL", row))

    def failures(self) -> dict[str, str]:
        """Return the files that cannot be asked about, with the reason."""
        return dict(self._rows("SELECT path, reason FROM files WHERE number IS NULL ORDER BY path"))

    @property
    def entry_count(self) -> int:
        """How many entries the source has, duplicates counted."""
        return int(self._one("SELECT count(*) FROM entries"))

    def asked_how(self) -> tuple[Counter[Shortfall], int]:
        """Return how many entries are asked about less than they could be, and how; and how many are digests and nothing else."""
        shortfalls: Counter[Shortfall] = Counter()
        bare = 0
        for exact_only, short, count in self._rows(
            "SELECT i.exact_only, i.shortfalls, count(*) FROM entries e JOIN items i ON i.item = e.item GROUP BY 1, 2"
        ):
            for name in short.split():
                shortfalls[Shortfall(name)] += count
            bare += count if exact_only and not short else 0
        return shortfalls, bare

    def members(self, now: Iterable[str]) -> list[str]:
        """Return whose answers this lookup needs: those asked in any run before, and those to be asked now, who are remembered."""
        with self._writing():
            self._database.executemany("INSERT OR IGNORE INTO members (member) VALUES (?)", ((member,) for member in now))
        return [member for (member,) in self._rows("SELECT member FROM members ORDER BY member")]

    def heard(self, member: str) -> Heard:
        """Return what is known of a member's answers as a whole."""
        rows = self._rows("SELECT first_ms, last_ms, directory, few FROM members WHERE member = ?", (member,))
        first_ms, last_ms, directory, few = rows[0] if rows else (None, None, 0, "")
        return Heard(first_ms, last_ms, directory, tuple(map(Algorithm, few.split())))

    def items(self, first: int, last: int) -> Iterator[tuple[int, Item]]:
        """Yield the items from `first` to `last`, with their numbers, a batch in memory at a time."""
        for start in range(first, last + 1, _BATCH):
            bounds = (start, min(last, start + _BATCH - 1))
            for item, label, codes, extra in self._rows(
                "SELECT item, label, codes, extra FROM items WHERE item BETWEEN ? AND ? ORDER BY item", bounds
            ):
                yield item, _item(label, codes, extra)

    # --- what was answered ---

    def answered(self, members: Iterable[str]) -> dict[str, Ranges]:
        """Return for each of these members which items it has answered. Not to be changed."""
        return {member: self._answered.get(member, Ranges()) for member in members}

    def keep(
        self,
        member: str,
        numbers: Sequence[int],
        hits: Iterable[tuple[int, Mapping[str, Any]]],
        *,
        whole: bool,
        directory: int = 0,
        few: Iterable[Algorithm] = (),
        more: Iterable[int] = (),
    ) -> None:
        """Keep one answer.

        Args:
            member: whose.
            numbers: the items it is about, rising.
            hits: item and hit as JSON object; they replace what this member said about these items before.
            whole: False if it does not cover the whole question, so that it stays open.
            directory: version of the trust directory by which it was given; 0 if that is not said.
            few: algorithms that few of the member's records carry.
            more: items of which the member holds more records than it told.
        """
        now_ms = self._clock()
        stretches = ranges_of(numbers)
        done = self._answered.setdefault(member, Ranges())
        if whole:
            for stretch in stretches:
                done.add(stretch)
        with self._writing():
            for first, last in stretches:
                for table in ("hits", "more"):
                    where = "item BETWEEN ? AND ? AND member = ?"
                    self._database.execute(f"DELETE FROM {table} WHERE {where}", (first, last, member))  # noqa: S608 - constants
            self._database.executemany("INSERT OR IGNORE INTO more VALUES (?, ?)", ((item, member) for item in more))
            self._database.executemany(
                "INSERT INTO hits VALUES (?, ?, ?, ?)",
                ((item, member, hit["evidence"] == Evidence.WEAK.value, json.dumps(hit, ensure_ascii=False)) for item, hit in hits),
            )
            before = self.heard(member)
            if whole:
                before = replace(before, first_ms=before.first_ms or now_ms, last_ms=now_ms, few=tuple(dict.fromkeys([*before.few, *few])))
            named = " ".join(algorithm.value for algorithm in before.few)
            row = (member, before.first_ms, before.last_ms, max(before.directory, directory), named)
            self._database.execute("INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?)", row)
            self._database.execute("DELETE FROM answered WHERE member = ?", (member,))
            self._database.executemany("INSERT INTO answered VALUES (?, ?, ?)", ((member, *each) for each in done))

    def hit_count(self, member: str, *, weak: bool = False) -> int:
        """How many exact and near hits a member gave, or how many weak ones."""
        return int(self._one("SELECT count(*) FROM hits WHERE member = ? AND weak = ?", (member, weak)))

    def more_count(self, member: str) -> int:
        """How many items a member holds more records of than it told."""
        return int(self._one("SELECT count(*) FROM more WHERE member = ?", (member,)))

    def counts(self, members: Iterable[str]) -> Counts:
        """Count the entries by their status."""
        known = int(self._one(f"SELECT count(*) FROM entries WHERE {_KNOWN}"))  # noqa: S608 - a constant of this module
        weak = int(self._one(f"SELECT count(*) FROM entries WHERE {_WITH_HITS}")) - known  # noqa: S608 - the same
        still_open = partial = 0
        for stretch, _ in self._lacking(members):
            partial += self._one("SELECT count(*) FROM entries WHERE item BETWEEN ? AND ?", stretch)
            statement = f"SELECT count(*) FROM entries WHERE item BETWEEN ? AND ? AND NOT {_WITH_HITS}"  # noqa: S608 - the same
            still_open += self._one(statement, stretch)
        return Counts(known, weak, still_open, partial)

    def entries(self, members: Iterable[str]) -> Iterator[EntryResult]:
        """Yield every entry with what was answered, in the order of the source, a batch in memory at a time.

        Args:
            members: who should have answered; of nobody, everything is open.
        """
        stretches = self._lacking(members)
        number = -1
        while rows := self._rows(
            "SELECT e.number, e.label, i.item, i.codes, i.extra, (SELECT json_group_array(json(hit)) FROM hits WHERE item = i.item),"
            " (SELECT group_concat(member, ' ') FROM more WHERE item = i.item)"
            " FROM entries e JOIN items i ON i.item = e.item WHERE e.number > ? ORDER BY e.number LIMIT ?",
            (number, _BATCH),
        ):
            for number, label, item, codes, extra, told, more in rows:
                hits = sorted(map(self.amend, json.loads(told)), key=_strongest_first)
                weak = [hit for hit in hits if hit["evidence"] == Evidence.WEAK.value]
                strong = hits[: len(hits) - len(weak)]
                lacking_names = next((names for (first, last), names in stretches if first <= item <= last), None)
                is_open = lacking_names is not None
                status = "known" if strong else "weak" if weak else "open" if is_open else "unseen"
                asked = _item(label, codes, extra)
                notes = (f"{member} holds more records than it tells" for member in sorted((more or "").split()))
                asked = replace(asked, notes=(*asked.notes, *notes))
                yield EntryResult(number, asked, status, strong, weak, sorted(lacking_names or ()))

    def told(self, wanted: HitFilter, *, after: tuple[int, int] = (0, 0), limit: int) -> list[ToldHit]:
        """Return a page of the hits that a filter lets through, in the order of the source.

        Args:
            wanted: which.
            after: place of the last hit of the page before.
            limit: at most so many.
        """
        where, values = wanted.condition()
        statement = (
            "SELECT e.number, h.rowid, e.label, h.hit FROM entries e JOIN hits h ON h.item = e.item"  # noqa: S608 - of HitFilter
            f" WHERE (e.number, h.rowid) > (?, ?) AND {where} ORDER BY e.number, h.rowid LIMIT ?"
        )
        rows = self._rows(statement, (*after, *values, limit))
        return [ToldHit((number, row), label, self.amend(json.loads(hit))) for number, row, label, hit in rows]

    def told_counts(self, by: str, wanted: HitFilter, *, limit: int, skip: int = 0) -> list[tuple[str, int]]:
        """Count the hits that a filter lets through by one of HitFilter's fields, most first.

        Args:
            by: the field.
            wanted: the filter.
            limit: at most so many groups.
            skip: so many groups that come before.

        Raises:
            ValueError: hits have no such field.
        """
        if by not in HitFilter.__dataclass_fields__:
            raise ValueError(f"hits have no {by}")
        where, values = wanted.condition()
        statement = (
            f"SELECT coalesce(json_extract(h.hit, '$.{by}'), ''), count(*) AS n FROM entries e JOIN hits h ON h.item = e.item"  # noqa: S608
            f" WHERE {where} GROUP BY 1 ORDER BY n DESC, 1 LIMIT ? OFFSET ?"
        )
        return [(str(name), count) for name, count in self._rows(statement, (*values, limit, skip))]

    def _lacking(self, members: Iterable[str]) -> list[tuple[Range, frozenset[str]]]:
        """Return the stretches of items that somebody has not answered; all of them where nobody was to answer."""
        answered = self.answered(members)
        if not answered:
            return [(Range(1, self.count), frozenset())] if self.count else []
        return lacking(answered, self.count)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            if self._database.in_transaction:  # inside another
                yield
                return
            with transaction(self._database):
                yield

    def _rows(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()

    def _one(self, statement: str, values: Sequence[object] = ()) -> Any:  # noqa: ANN401 - a cell of whatever type
        return self._rows(statement, values)[0][0]


_RANKS = {evidence.value: evidence.rank for evidence in Evidence}


def _strongest_first(hit: Mapping[str, Any]) -> int:
    return _RANKS[hit["evidence"]]


def _unlike(stated: str, scope: str) -> str:
    """Name what differs between two scopes."""
    before, now = json.loads(stated), json.loads(scope)
    names = sorted(name.replace("_", " ") for name in {*before, *now} if before.get(name) != now.get(name))
    return f" (another {', '.join(names)})" if names else ""


def _pack(codes: Mapping[Algorithm, tuple[bytes, ...]]) -> bytes:
    """Write codes as one blob; equal ones are equal in it, in whatever order they came."""
    return b"".join(
        f"{algorithm.value} {len(own)} ".encode() + b"".join(own)
        for algorithm, own in sorted(codes.items(), key=lambda pair: pair[0].value)
    )


def _unpack(blob: bytes) -> dict[Algorithm, tuple[bytes, ...]]:
    codes, rest = {}, blob
    while rest:
        name, count, rest = rest.split(b" ", 2)
        algorithm, size = Algorithm(name.decode()), int(count)
        width = algorithm.code_bytes
        codes[algorithm] = tuple(rest[place * width : (place + 1) * width] for place in range(size))
        rest = rest[size * width :]
    return codes


def _item(label: str, codes: bytes, extra: str) -> Item:
    return Item.from_fields(label, _unpack(codes), json.loads(extra) if extra else {})
