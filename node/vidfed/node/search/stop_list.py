"""Frames asked that very many of the node's films share: they are not searched, and the answer says so to whom it may tell of those films.

To anybody else such films do not exist, so the frame is searched as any other: an answer must not tell that many withheld films share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from vidfed.index import Algorithm
from vidfed.index.hashing.film.hashing import SAME_FRAME_BITS
from vidfed.index.search.flat import distances_to
from vidfed.wire.values import FramesNotSearched

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidfed.node.records.store import StoreReader
    from vidfed.node.search.query import SearchQuery

_READ: Final = 64  # records looked at together for one that the asker may know of


@dataclass(frozen=True, slots=True, eq=False)
class LeftOut:
    """What of a question is not searched.

    Attributes:
        codes: bool[n], for each code of the question's PDQ column whether it is of such a frame.
        told: the same for the answer, by item.
    """

    codes: NDArray[np.bool_]
    told: tuple[FramesNotSearched, ...] = ()


_NOTHING: Final = LeftOut(np.empty(0, np.bool_))


def frames_left_out(query: SearchQuery, store: StoreReader) -> LeftOut:
    """Return which frames of a question are on the node's stop list, of those shared by films that the asker may know of.

    A frame of a film is left out with all its forms if one of them is. An item that is no film is searched all the same, but not found in
    those films.

    Args:
        query: the question.
        store: the records, in the state searched.
    """
    column = next((each for each in query.columns if each.algorithm is Algorithm.PDQ), None)
    if column is None:
        return _NOTHING
    stopped = np.zeros(len(column.codes), np.bool_)
    for number, frame in store.stop_list():
        near = distances_to(Algorithm.PDQ, column.codes, frame) <= SAME_FRAME_BITS
        if (near & ~stopped).any() and _may_be_told(number, query, store):
            stopped |= near
    if not stopped.any():
        return _NOTHING
    told = []
    films = {film.item: film for film in query.films}
    for item in np.unique(column.items[stopped]).tolist():
        frames = 1
        if film := films.get(item):
            places = np.flatnonzero(column.items == item)
            shown = np.unique(film.from_ms[stopped[places]])
            stopped[places] = np.isin(film.from_ms, shown)
            frames = len(shown)
        told.append(FramesNotSearched(item, frames))
    return LeftOut(stopped, tuple(told))


def _may_be_told(number: int, query: SearchQuery, store: StoreReader) -> bool:
    """Return whether the asker may know of one of the films that share a frame."""
    after = 0
    while some := store.stopped(number, after, _READ):
        if any(query.visible(record) for record in store.records(some).values()):
            return True
        after = some[-1]
    return False
