"""Perceptual hashes that one import has on many unrelated items: a tool's filler, or one picture in many encodings.

Some tools write one constant hash on everything they cannot hash; it would make lookups hits that are none. The most circulated pictures
look the same at first: a hundred files, one hash. What else is known of the items tells them apart (`judge`). A filler is set aside from
the records of its import, where it can be had back; whatever is found is written down, and an operator has the last word (`repeats`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa

from vidfed.index import Algorithm
from vidfed.index.codes import WHOLE, frame_times
from vidfed.index.hashing.film.hashing import SAME_FRAME_BITS
from vidfed.index.search.flat import distances_to
from vidfed.node.records import schema
from vidfed.node.records.upsert.columns import DIGESTS, PERCEPTUAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from vidfed.formats.entries import FileEntry
    from vidfed.index import Code
    from vidfed.node.records.database import RecordDatabase

_COUNTED = ("pdq", "photodna")
_COUNTER_BITS = 22  # 4 million counters of one byte: what spotting repetitions costs in memory, whatever the size of the import
_COUNTER_MASK = (1 << _COUNTER_BITS) - 1
_SAMPLE = 500  # items of a group that are compared with each other
_FEWEST = 10  # items that must carry something before it says anything about all of them
_DISTINCT_BYTES = 8  # that a hash of a photograph has at least; of 32 random bytes fewer are as good as impossible
_SIZES_APART = 1000  # how many times larger one tenth of a picture's encodings may be than another tenth
KEEP, REFUSE = "keep", "refuse"
_NO_WITNESS = "files encoded differently hardly ever have quite the same one, and nothing else speaks for one picture"


@dataclass(frozen=True, slots=True)
class Repeats:
    """What came of the repeated hashes of one import.

    Attributes:
        kept: hashes on many items that stay; of these `undecided` are neither confirmed nor contradicted by anything.
        set_aside: hashes that what else is known contradicts.
        left_out: times that a hash which an operator has refused was left out of an entry.
    """

    kept: int = 0
    undecided: int = 0
    set_aside: int = 0
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What else is known says of a hash on many items: that they are one picture, that they are not (a filler), or neither; and why."""

    confirms: bool
    contradicts: bool
    said: str


def fingerprint(algorithm: str, code: bytes) -> bytes:
    """Return by what a repeated hash is known again, 16 bytes. The hash itself goes with the records that carry it when they are erased."""
    return hashlib.blake2b(algorithm.encode() + code, digest_size=16).digest()


def is_same_frame(one: bytes, other: bytes) -> bool:
    """Return whether two PDQ codes of films' frames are taken for those of one frame."""
    return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count() <= SAME_FRAME_BITS


class RepeatedCodes:
    """One import's watch for repeated hashes."""

    def __init__(self, database: RecordDatabase, connection: sa.Connection, max_repeats: int) -> None:
        """Begin.

        Args:
            database: the store's.
            connection: that writes.
            max_repeats: unrelated new items, at most 255, that may share one hash without a question.
        """
        self._database = database
        self._connection = connection
        self._max_repeats = min(max_repeats, 255)
        known = schema.repeated_codes
        self._decided: dict[bytes, str] = {}
        self._refused: dict[bytes, int] = {}
        self._aside: set[bytes] = set()
        self._frames: dict[bytes, int] = {}
        for row in connection.execute(sa.select(known).order_by(known.c.number)):
            if row.frame is not None:
                if row.is_aside:
                    self._frames[bytes(row.frame)] = row.number
                continue
            if row.decision:
                self._decided[row.fingerprint] = row.decision
            if row.decision == REFUSE:
                self._refused[row.fingerprint] = row.number
            if row.is_aside:
                self._aside.add(row.fingerprint)
        self._suspects: set[tuple[str, bytes]] = set()
        self._counters = {name: bytearray(1 << _COUNTER_BITS) for name in _COUNTED}
        self._left_out: dict[int, list[tuple[int, str, bytes, str, int | None]]] = {}
        self._times_left_out = 0

    def leave_out(self, entries: Iterable[FileEntry]) -> None:
        """Take from entries what is refused, and frames that many films share; whoever writes an entry's record says so to `written`."""
        self._left_out = {}
        if not self._refused and not self._frames:
            return
        for entry in entries:
            taken: list[tuple[int, str, bytes, str, int | None]] = []
            if any(digest in entry.codes for digest in DIGESTS):
                for name in PERCEPTUAL:
                    code = entry.codes.get(name)
                    if code is not None and (number := self._refused.get(fingerprint(name, code))):
                        taken.append((number, name, code, "", None))
                        del entry.codes[name]
            kept: list[Code] = []
            for each in entry.further:
                if number := self._refused.get(fingerprint(each.algorithm.value, each.code)) or self._frame(each):
                    taken.append((number, each.algorithm.value, each.code, each.kind, each.quality))
                else:
                    kept.append(each)
            if taken:
                entry.further = kept
                self._left_out[id(entry)] = taken
                self._times_left_out += len(taken)

    def _frame(self, code: Code) -> int:
        """Return the number of the frame, of those on the stop list, that a film's frame is; 0 if it is none."""
        if not self._frames or code.algorithm is not Algorithm.PDQ or frame_times(code.kind) is None:
            return 0
        return next((number for frame, number in self._frames.items() if is_same_frame(frame, code.code)), 0)

    def written(self, entry: FileEntry, record: int) -> None:
        """Keep what was left out of an entry with its record, so that it can be had back."""
        for number, name, code, kind, quality in self._left_out.get(id(entry), ()):
            set_aside(self._connection, number, record, name, code, kind=kind, quality=quality)

    def is_aside(self, record: int, name: str, code: bytes) -> bool:
        """Tell whether this hash was set aside from this record: what says it again does not bring it back."""
        if not self._aside or fingerprint(name, code) not in self._aside:
            return False
        aside = schema.codes_aside
        same = sa.and_(aside.c.record == record, aside.c.algorithm == name, aside.c.code == code)
        return self._connection.execute(sa.select(aside.c.record).where(same)).first() is not None

    def count(self, entries: Iterable[FileEntry]) -> None:
        """Count new records' hashes. A counter shared by two codes can only be too high; `judge` counts exactly."""
        most = self._max_repeats
        for name, counters in self._counters.items():
            for entry in entries:
                if (code := entry.codes.get(name)) is not None:
                    slot = hash(code) & _COUNTER_MASK
                    if counters[slot] >= most:
                        self._suspects.add((name, code))
                    else:
                        counters[slot] += 1

    def judge(self, import_id: int, first_id: int, versions: Iterator[int], now_ms: int, on_note: Callable[[int, str], None]) -> Repeats:
        """Find out which of the suspects are on too many records of this import, and what becomes of them.

        Args:
            import_id: of the records concerned.
            first_id: the lowest number that these have.
            versions: numbers of changes to come.
            now_ms: time of the change.
            on_note: gets a text for each hash.
        """
        kept = undecided = aside = 0
        for name, code in sorted(self._suspects):
            rows = self._carriers(name, code, import_id, first_id)
            if len(rows) <= self._max_repeats or fingerprint(name, code) in self._decided:
                continue
            evidence = judged(Algorithm(name), code, rows)
            number = self._write_down(name, code, import_id, len(rows), evidence, now_ms)
            words = f"one {Algorithm(name).label} hash is on {len(rows)} items of this import with different files"
            if evidence.contradicts:
                aside += 1
                take_from(self._database, self._connection, number, name, code, [row.id for row in rows], versions, now_ms)
                on_note(0, f"{words} and is set aside from them: {evidence.said}. To have it back: vidfed node repeats keep {number}")
            else:
                kept += 1
                undecided += not evidence.confirms
                on_note(0, f"{words} and is kept: {evidence.said}. To set it aside: vidfed node repeats refuse {number}")
        if self._times_left_out:
            on_note(
                0, f"hashes that are set aside here for every record were left out {self._times_left_out} times: vidfed node repeats list"
            )
        return Repeats(kept, undecided, aside, self._times_left_out)

    def _carriers(self, name: str, code: bytes, import_id: int, first_id: int) -> Sequence[sa.Row[Any]]:
        table = schema.records
        columns = [table.c.id, table.c.size_bytes, *(table.c[each] for each in PERCEPTUAL)]
        mine = sa.and_(table.c.id >= first_id, table.c[name] == code, table.c.import_id == import_id, table.c.perceptual_key.is_(None))
        return self._connection.execute(sa.select(*columns).where(mine).order_by(table.c.id)).all()

    def _write_down(self, name: str, code: bytes, import_id: int, records: int, evidence: Evidence, now_ms: int) -> int:
        known = schema.repeated_codes
        number = int(self._connection.execute(sa.select(sa.func.max(known.c.number))).scalar() or 0) + 1
        values = {"algorithm": name, "fingerprint": fingerprint(name, code), "import_id": import_id, "records": records}
        values |= {"evidence": evidence.said, "confirmed": evidence.confirms, "is_aside": evidence.contradicts, "found_ms": now_ms}
        self._connection.execute(sa.insert(known).values(number=number, decision="", reason="", **values))
        return number


def judged(algorithm: Algorithm, code: bytes, rows: Sequence[sa.Row[Any]]) -> Evidence:
    """Tell by what else is known of the items that share a hash whether they are one picture or the hash is a filler.

    Args:
        algorithm: of the hash.
        code: the hash.
        rows: of the items: `size_bytes` and all perceptual hashes.
    """
    if len(set(code)) < _DISTINCT_BYTES:
        return Evidence(confirms=False, contradicts=True, said="it is too regular to be a photograph's")
    sample = [rows[at] for at in np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE)).astype(int).tolist()]
    agreeing = []
    for other in PERCEPTUAL:
        codes = [row._mapping[other] for row in sample if row._mapping[other] is not None]  # noqa: SLF001 - SQLAlchemy's public name for it
        if other == algorithm.value or len(codes) < _FEWEST:
            continue
        if _typical_distance(Algorithm(other), codes) > Algorithm(other).maximum_distance:
            return Evidence(confirms=False, contradicts=True, said=f"their {Algorithm(other).label} hashes are those of different pictures")
        agreeing.append(Algorithm(other).label)
    sizes = np.array([row.size_bytes for row in sample if row.size_bytes])
    if len(sizes) >= _FEWEST:
        small, large = np.quantile(sizes, (0.1, 0.9))
        if large > _SIZES_APART * small:
            return Evidence(confirms=False, contradicts=True, said="their sizes are too far apart for encodings of one picture")
    if agreeing:
        return Evidence(confirms=True, contradicts=False, said=f"by {' and '.join(agreeing)} too they are one picture")
    if algorithm is Algorithm.PHOTODNA:  # its 144 values move a little with every encoding; a hundred that are equal need an explanation
        return Evidence(
            confirms=False,
            contradicts=True,
            said="files encoded differently never have quite the same, and nothing else speaks for one picture",
        )
    return Evidence(confirms=False, contradicts=False, said="nothing else is known that would tell one picture from a tool's filler")


def _typical_distance(algorithm: Algorithm, codes: Sequence[bytes]) -> float:
    """Return the median distance of the codes from those halfway down the list."""
    matrix = np.frombuffer(b"".join(codes), np.uint8).reshape(len(codes), -1)
    half = len(codes) // 2
    return float(np.median([distances_to(algorithm, matrix[at : at + 1], codes[at - half])[0] for at in range(half, len(codes))]))


def set_aside(
    connection: sa.Connection, number: int, record: int, name: str, code: bytes, *, kind: str = "", quality: int | None = None
) -> None:
    """Keep what a record does not carry any more; `kind` is empty for what its own row held."""
    aside = schema.codes_aside
    same = sa.and_(aside.c.record == record, aside.c.algorithm == name, aside.c.code == code)
    if connection.execute(sa.select(aside.c.record).where(same)).first() is None:
        values = {"record": record, "algorithm": name, "code": code, "kind": kind, "quality": quality, "repeated": number}
        connection.execute(sa.insert(aside).values(**values))


def take_from(
    database: RecordDatabase,
    connection: sa.Connection,
    number: int,
    name: str,
    code: bytes,
    records: Sequence[int],
    versions: Iterator[int],
    now_ms: int,
) -> None:
    """Set a hash aside from the own rows of some records."""
    mark = database.marks(1)
    rows = [(record, name, code, "", None, number) for record in records]
    insert = f"INSERT INTO codes_aside (record, algorithm, code, kind, quality, repeated) VALUES ({database.marks(6)})"  # noqa: S608 - only marks
    update = f"UPDATE records SET {name} = NULL, version = {mark}, changed_ms = {mark} WHERE id = {mark}"  # noqa: S608 - our own column names
    if rows:
        connection.exec_driver_sql(insert, rows)
        connection.exec_driver_sql(update, [(next(versions), now_ms, record) for record in records])


def give_back(connection: sa.Connection, numbers: Sequence[int], versions: Iterator[int], now_ms: int) -> int:
    """Give records back what was set aside from them, and return how many records that were."""
    table, aside, codes = schema.records, schema.codes_aside, schema.codes
    wanted = connection.execute(sa.select(aside).where(aside.c.repeated.in_(numbers)).order_by(aside.c.record)).all()
    for row in wanted:
        columns = (table.c[row.algorithm].label("own"), table.c.places, table.c.erased_ms)
        record = connection.execute(sa.select(*columns).where(table.c.id == row.record)).one()
        values: dict[str, object] = {"version": next(versions), "changed_ms": now_ms}
        if not row.kind and record.own is None:
            values[row.algorithm] = row.code
        elif record.own != row.code and record.places < schema.MAX_PLACES:
            values["places"] = record.places + 1
            label = row.record << schema.PLACE_BITS | record.places + 1
            further = {"algorithm": row.algorithm, "code": row.code, "kind": row.kind or WHOLE, "quality": row.quality}
            connection.execute(sa.insert(codes).values(label=label, **further))
        connection.execute(sa.update(table).where(table.c.id == row.record).values(**values))
    connection.execute(sa.delete(aside).where(aside.c.repeated.in_(numbers)))
    return len({row.record for row in wanted})
