"""Frames that very many films share: titles, test pictures, a maker's opening. They would make films agree that have nothing in common.

What is found is written down with the other repeated hashes, and an operator has the last word on it (`repeats`). A film that is saved a
hundred times shares all its frames with itself and must stay found, so the other frames of the films are the witnesses: where they do not
agree, the frame is set aside from the films, where it can be had back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import sqlalchemy as sa

from vidfed.index import Algorithm
from vidfed.index.codes import FRAME, FRAME_TRIMMED
from vidfed.index.hashing.film.hashing import SAME_FRAME_BITS
from vidfed.index.search.flat import distances_to
from vidfed.node.records import schema
from vidfed.node.records.upsert.repeated import Evidence, fingerprint, is_same_frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from vidfed.node.records.store import RecordStore

VERY_MANY_FILMS: Final = 100
"""So many films may share a frame without a question; as with hashes of pictures, a series stays far below."""

MOST_FOUND: Final = 1_000
"""Frames written down by one run, those of the most films first: a list that a person can still look through."""

SHARE_OF_COPIES: Final = 0.5
"""Films of which typically so much of the rest agrees are copies of one film."""
SHARE_OF_OTHERS: Final = 0.2
"""Films of which typically no more of the rest agrees are different ones; an opening of a quarter of each is left to the operator."""

_BANDS: Final = SAME_FRAME_BITS + 1  # two codes as near agree in one band at least
_SAMPLE: Final = 100  # films compared with each other
_FEWEST_PAIRS: Final = 10  # of films whose other frames can say something
_FEWEST_FRAMES: Final = 3  # besides the one in question that a film must have to say something
_MOST_FRAMES: Final = 64  # of a film that are compared
_NAME: Final = Algorithm.PDQ.value


@dataclass(frozen=True, slots=True)
class SharedFrame:
    """A frame found: its number, how many films share it, whether it was set aside, and what speaks for that or against it."""

    number: int
    films: int
    is_aside: bool
    said: str


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Codes of films' frames, by rising label.

    Attributes:
        labels: int64[n].
        codes: uint8[n, 32].
    """

    labels: NDArray[np.int64]
    codes: NDArray[np.uint8]

    @classmethod
    def of(cls, connection: sa.Connection) -> Frames:
        """Read them all."""
        codes = schema.codes
        wanted = sa.select(codes.c.label, codes.c.code).where(codes.c.algorithm == _NAME, is_frame(codes.c.kind)).order_by(codes.c.label)
        rows = connection.execute(wanted).all()
        whole = np.frombuffer(b"".join(row.code for row in rows), np.uint8).reshape(len(rows), -1)
        return cls(np.fromiter((row.label for row in rows), np.int64, len(rows)), whole)

    @property
    def films(self) -> NDArray[np.int64]:
        """int64[n]: for each its record."""
        return self.labels >> schema.PLACE_BITS

    def near(self, frame: bytes) -> NDArray[np.int64]:
        """Return the positions of those that are the same frame as this one."""
        return np.flatnonzero(distances_to(Algorithm.PDQ, self.codes, frame) <= SAME_FRAME_BITS)


def is_frame(kind: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Return the condition for the kind of a film's frame."""
    return sa.or_(kind.startswith(f"{FRAME}:"), kind.startswith(f"{FRAME_TRIMMED}:"))


def has_films(store: RecordStore, more_than: int = VERY_MANY_FILMS) -> bool:
    """Return whether there are more films than so many: otherwise no frame can be shared by more."""
    codes = schema.codes
    film = codes.c.label // (1 << schema.PLACE_BITS)
    with store.database.reading() as connection:
        films = connection.execute(sa.select(sa.func.count(sa.distinct(film))).where(is_frame(codes.c.kind))).scalar()
    return int(films or 0) > more_than


def find_shared_frames(store: RecordStore, *, now_ms: int, most: int = VERY_MANY_FILMS) -> list[SharedFrame]:
    """Find the frames that more than `most` films share and that nobody has decided about, and set aside what different films share.

    One pass over all frames: some 6 s and 360 MB for a million.

    Args:
        store: the records.
        now_ms: time of the change.
        most: films that may share one.

    Returns:
        What is new, or judged otherwise than before.

    Raises:
        StoreError: the store cannot be read or written.
    """
    known = schema.repeated_codes
    found: list[SharedFrame] = []
    if not has_films(store, most):
        return found
    with store.database.writing() as connection:
        frames = Frames.of(connection)
        before = {bytes(row.frame): row for row in connection.execute(sa.select(known).where(known.c.frame.is_not(None)))}
        free = int(connection.execute(sa.select(sa.func.max(known.c.number))).scalar() or 0) + 1
        for middle, positions in _crowds(frames, most):
            earlier = next((row for frame, row in before.items() if is_same_frame(frame, middle)), None)
            if earlier is not None and (earlier.decision or earlier.is_aside):
                continue
            films = len(np.unique(frames.films[positions]))
            evidence = _judged(frames, middle, positions)
            if earlier is not None and earlier.evidence == evidence.said:
                continue
            number = earlier.number if earlier is not None else free
            said = {"evidence": evidence.said, "confirmed": evidence.confirms, "is_aside": evidence.contradicts, "records": films}
            if earlier is not None:
                connection.execute(sa.update(known).where(known.c.number == number).values(**said))
            else:
                free += 1
                own = {"algorithm": _NAME, "fingerprint": fingerprint(_NAME, middle), "import_id": 0, "decision": "", "reason": ""}
                connection.execute(sa.insert(known).values(number=number, frame=middle, found_ms=now_ms, **own, **said))
            if evidence.contradicts:
                take_frames(store, connection, number, frames.labels[positions].tolist(), now_ms)
            found.append(SharedFrame(number, films, evidence.contradicts, evidence.said))
            if len(found) == MOST_FOUND:
                break
    return found


def take_frames(store: RecordStore, connection: sa.Connection, number: int, labels: Sequence[int], now_ms: int) -> int:
    """Set frames aside from their films; return from how many films.

    Args:
        store: the records.
        connection: that writes.
        number: of the frame on the list.
        labels: of the codes.
        now_ms: time of the change.
    """
    codes, table, database = schema.codes, schema.records, store.database
    mark = database.marks(1)
    rows = []
    for start in range(0, len(labels), 500):
        some = connection.execute(sa.select(codes).where(codes.c.label.in_(labels[start : start + 500])))
        rows += [(row.label >> schema.PLACE_BITS, row.algorithm, row.code, row.kind, row.quality, number) for row in some]
    if not rows:
        return 0
    columns = "record, algorithm, code, kind, quality, repeated"
    # A record may have the same code aside already, by a repeated hash of before.
    insert = f"INSERT INTO codes_aside ({columns}) VALUES ({database.marks(6)}) ON CONFLICT DO NOTHING"  # noqa: S608 - only names and marks
    connection.exec_driver_sql(insert, rows)
    connection.exec_driver_sql(f"DELETE FROM codes WHERE label = {mark}", [(label,) for label in labels])  # noqa: S608 - only a mark
    films = sorted({row[0] for row in rows})
    last = int(connection.execute(sa.select(sa.func.max(table.c.version))).scalar() or 0)
    update = f"UPDATE records SET version = {mark}, changed_ms = {mark} WHERE id = {mark}"  # noqa: S608 - only marks
    connection.exec_driver_sql(update, [(version, now_ms, film) for version, film in enumerate(films, last + 1)])
    return len(films)


def _crowds(frames: Frames, most: int) -> Iterator[tuple[bytes, NDArray[np.int64]]]:
    """Yield frames that more than so many films share, each with the positions of all that are near it; no frame is near two of them.

    Two codes within `SAME_FRAME_BITS` agree in all bits of one of `_BANDS` bands at least, so what agrees in a band counts as near until it
    is compared: a code that is near more than `most` others is among them in its bands, too.
    """
    bands = [_sorted(_band(frames.codes, number)) for number in range(_BANDS)]
    crowd = np.zeros(len(frames.codes), np.int64)
    for order, keys in bands:
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        crowd[order] += counts[inverse]
    films = frames.films
    free = np.ones(len(crowd), np.bool_)
    candidates = np.flatnonzero(crowd > most)
    for place in candidates[np.argsort(-crowd[candidates], kind="stable")].tolist():
        if not free[place]:
            continue
        members = []
        for number, (order, keys) in enumerate(bands):
            own = _band(frames.codes[place : place + 1], number)[0]
            members.append(order[slice(*np.searchsorted(keys, [own, own + 1]))])
        positions = np.unique(np.concatenate(members))
        middle = frames.codes[place].tobytes()
        positions = positions[distances_to(Algorithm.PDQ, frames.codes[positions], middle) <= SAME_FRAME_BITS]
        positions = positions[free[positions]]
        if len(np.unique(films[positions])) > most:
            free[positions] = False
            yield middle, positions


def _band(codes: NDArray[np.uint8], number: int) -> NDArray[np.int64]:
    """Return the bits of one of the bands, as int64[n]."""
    bits = 8 * codes.shape[1]
    first, end = number * bits // _BANDS, (number + 1) * bits // _BANDS
    key = np.zeros(len(codes), np.int64)
    for byte in range(first // 8, (end + 7) // 8):
        key = key << 8 | codes[:, byte]
    low = (end + 7) // 8 * 8 - end
    band: NDArray[np.int64] = key >> low & (1 << (end - first)) - 1
    return band


def _sorted(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.argsort(keys, kind="stable")
    return order, keys[order]


def _judged(frames: Frames, middle: bytes, positions: NDArray[np.int64]) -> Evidence:
    """Tell by the other frames of the films that share a frame whether they are copies of one film or different ones."""
    films = np.unique(frames.films[positions])
    sample = films[np.linspace(0, len(films) - 1, min(len(films), _SAMPLE)).astype(int)]
    others = [each for film in sample.tolist() if len(each := _others(frames, film, middle)) >= _FEWEST_FRAMES]
    half = len(others) // 2
    shares = [_agreeing(one, other) for one, other in zip(others, others[half:], strict=False)] if half >= _FEWEST_PAIRS else []
    if not shares:
        return Evidence(confirms=False, contradicts=False, said="too few of these films have other frames that would tell copies apart")
    share = float(np.median(shares))
    percent = f"typically {share:.0%} of their other frames agree"
    if share >= SHARE_OF_COPIES:
        return Evidence(confirms=True, contradicts=False, said=f"they are copies of one film: {percent}")
    if share <= SHARE_OF_OTHERS:
        return Evidence(confirms=False, contradicts=True, said=f"they are different films: {percent}")
    return Evidence(confirms=False, contradicts=False, said=f"they may be one film or many: {percent}")


def _others(frames: Frames, film: int, middle: bytes) -> NDArray[np.uint8]:
    """Return codes of a film that have nothing to do with a frame."""
    first, end = np.searchsorted(frames.labels, [film << schema.PLACE_BITS, (film + 1) << schema.PLACE_BITS])
    own = frames.codes[first:end]
    own = own[distances_to(Algorithm.PDQ, own, middle) > Algorithm.PDQ.default_distance]
    return own[:: max(1, -(-len(own) // _MOST_FRAMES))]


def _agreeing(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return how much of the shorter of two films agrees with the other."""
    few, many = sorted((one, other), key=len)
    near = [distances_to(Algorithm.PDQ, many, code.tobytes()).min() <= Algorithm.PDQ.default_distance for code in few]
    return sum(map(bool, near)) / len(few)
