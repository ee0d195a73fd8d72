"""What is asked of a search of the records, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from vidfed.wire.values import Hit, IndexState, Match, Searched, Share

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from vidfed.index import Algorithm
    from vidfed.node.records.record import Record
    from vidfed.wire.values import FilmTimes, FramesNotSearched, HashColumn


FILM: Final = "film"
"""Stands for the algorithm where a whole film was asked."""


class Telling(NamedTuple):
    """That somebody is to be told of a record.

    Attributes:
        record: its reference.
        kind: the algorithm's name, or `FILM`.
        code: by which; of a film all of its codes in one.
    """

    record: str
    kind: str
    code: bytes


class Bands(Protocol):
    """That distances are told in bands, and what one asker was told by bands before: `vidfed.node.lookup.told` for one member."""

    @property
    def coarse(self) -> frozenset[str]:
        """References of the records that it is told of coarsely."""

    def count(self, tellings: Sequence[Telling]) -> frozenset[str]:
        """Count what is to be told, and return which of its records are coarse now."""

    def compared(self, algorithm: Algorithm, code: bytes) -> NDArray[np.uint8]:
        """Return which part of a coarse record's hash is compared."""


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """One question to be searched.

    Attributes:
        columns: what is asked, checked.
        max_hits_per_item: of more, the nearest are kept and the item is named in `Found.truncated_items`.
        visible: says of each record whether the asker may know of it; one that it may not is as if it did not exist.
        films: which items are films, whose frames are judged together.
        told: gives what the asker may know of a match, by its algorithm and distance; records are ordered by that. What is farther must not
            look nearer.
        bands: where distances are told in bands; None: as they are.
    """

    columns: Sequence[HashColumn]
    max_hits_per_item: int
    visible: Callable[[Record], bool] = lambda _record: True
    told: Callable[[Match], Match] = lambda match: match
    films: Sequence[FilmTimes] = ()
    bands: Bands | None = None

    def shows(self, record: Record) -> bool:
        """Tell whether the asker may know of a record by the search: not of coarse ones, which `coarse` compares by themselves."""
        return self.visible(record) and (self.bands is None or record.reference not in self.bands.coarse)

    def searched(self, shares: Mapping[Algorithm, Share]) -> tuple[Searched, ...]:
        """Return what the answer says about how it was searched.

        Args:
            shares: how many of the records carry a hash of each algorithm; of one that is not in it, few are said to.
        """
        return tuple(Searched(column.algorithm, column.max_distance, shares.get(column.algorithm, Share.FEW)) for column in self.columns)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search gave: the state searched, hits (`Hit.record` is a position in `records`), items cut to the cap, frames left out."""

    state: IndexState
    records: tuple[Record, ...]
    hits: tuple[Hit, ...]
    truncated_items: tuple[int, ...]
    frames_not_searched: tuple[FramesNotSearched, ...] = ()

    def nearest(self, cap: int) -> Found:
        """Return this with at most `cap` records for each item, the nearest; items cut by it are named too."""
        kept: dict[int, list[Hit]] = {}
        for hit in self.hits:
            kept.setdefault(hit.item, []).append(hit)
        cut = {item for item, hits in kept.items() if len(hits) > cap}
        hits = [hit for found in kept.values() for hit in found[:cap]]
        order = {record: position for position, record in enumerate(dict.fromkeys(hit.record for hit in hits))}
        return Found(
            self.state,
            tuple(self.records[record] for record in order),
            tuple(replace(hit, record=order[hit.record]) for hit in hits),
            tuple(sorted(cut.union(self.truncated_items))),
            self.frames_not_searched,
        )
