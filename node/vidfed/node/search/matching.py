"""How much of a film and of a record agree, and in which stretches of time. Pure.

Two frames agree if their codes, in any of the forms asked and kept (mirrored, without borders), are within the distance searched. Frames
are sets: each counts once, whatever its order and however long it is shown. Both shares are told, as neither says enough alone: a clip is
all of itself and little of the film.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from vidfed.index.codes import MAX_FILM_MS, frame_times
from vidfed.security.clock import MINUTE_MS
from vidfed.wire.values import MAX_STRETCHES, FilmMatch, Stretch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

GAP_MS: Final = 5_000
"""So far apart, on either side, agreeing frames are of one stretch; and so far the two may drift apart from one to the next."""

_FEWEST: Final = 3  # frames by which two films agree: docs/adr/0071


class RecordFrames:
    """The frames of a record, from the kinds of its codes: of a film its moments; what is no film is one frame for each frame or page."""

    def __init__(self, kinds: Sequence[str]) -> None:
        """Number the frames.

        Args:
            kinds: of the record's codes.
        """
        numbers: dict[object, int] = {}
        self.times: list[tuple[int, int]] = []
        of_codes = np.empty(len(kinds), np.int64)
        for place, kind in enumerate(kinds):
            times = frame_times(kind)
            key = times[0] if times else kind if kind.startswith(("frame:", "page:")) else ""
            if key not in numbers:
                numbers[key] = len(numbers)
                self.times.append(times or (0, 0))
            of_codes[place] = numbers[key]
        self.of_codes: NDArray[np.int64] = of_codes
        """For each code its frame."""

    def __len__(self) -> int:
        """How many there are."""
        return len(self.times)


@dataclass(frozen=True, slots=True, eq=False)
class AskedFrames:
    """The frames of a film that is asked.

    Attributes:
        of_codes: for each of its codes its frame.
        from_ms, until_ms: for each frame, rising.
    """

    of_codes: NDArray[np.int64]
    from_ms: NDArray[np.int64]
    until_ms: NDArray[np.int64]

    @classmethod
    def of(cls, from_ms: NDArray[np.uint32], until_ms: NDArray[np.uint32]) -> AskedFrames:
        """Tell the frames of codes apart by when they begin."""
        starts, firsts, of_codes = np.unique(from_ms.astype(np.int64), return_index=True, return_inverse=True)
        return cls(of_codes, starts, until_ms.astype(np.int64)[firsts])

    def __len__(self) -> int:
        """How many there are."""
        return len(self.from_ms)


def film_match(asked: AskedFrames, record: RecordFrames, pairs: NDArray[np.int64], distances: NDArray[np.int64]) -> FilmMatch | None:
    """Return how much agrees; None if nothing does.

    Args:
        asked: the film's frames.
        record: the record's.
        pairs: int64[n, 2], the codes that agree: position among the film's, position among the record's.
        distances: int64[n], of each pair.
    """
    if not len(pairs):
        return None
    ours, theirs = asked.of_codes[pairs[:, 0]], record.of_codes[pairs[:, 1]]
    told, left_out = _told(_stretches(asked, record, ours, theirs, distances))
    return FilmMatch(len(asked), len(np.unique(ours)), len(record), len(np.unique(theirs)), told, left_out)


def coarsely(film: FilmMatch, last_ms: int) -> FilmMatch:
    """Return what is told of a film in bands: at least how many frames agree, and within which minutes all of them are.

    Args:
        film: as it agrees.
        last_ms: when its last frame ends.
    """
    every = film.stretches
    within = Stretch(
        _minute(min(each.from_ms for each in every)),
        min(_minute_after(max(each.until_ms for each in every)), last_ms),
        _minute(min(each.record_from_ms for each in every)),
        min(_minute_after(max(each.record_until_ms for each in every)), MAX_FILM_MS),
    )
    ours, theirs = _at_least(film.frames_agreeing, film.frames), _at_least(film.record_frames_agreeing, film.record_frames)
    return FilmMatch(film.frames, ours, film.record_frames, theirs, (within,), coarse=True)


def _at_least(agreeing: int, frames: int) -> int:
    """Return all, or the largest of 1, 3, 6, 12, 24, ... that is not more."""
    if agreeing == frames or agreeing < _FEWEST:
        return agreeing if agreeing == frames else 1
    return _FEWEST << (agreeing // _FEWEST).bit_length() - 1


def _minute(time_ms: int) -> int:
    return time_ms - time_ms % MINUTE_MS


def _minute_after(time_ms: int) -> int:
    return -(-time_ms // MINUTE_MS) * MINUTE_MS


def _stretches(
    asked: AskedFrames, record: RecordFrames, ours: NDArray[np.int64], theirs: NDArray[np.int64], distances: NDArray[np.int64]
) -> list[Stretch]:
    """Put agreeing frames together to stretches: each of the film's frames is in one, with that frame of the record that fits it best."""
    order = np.lexsort((theirs, distances, ours))
    ours, theirs = ours[order], theirs[order]
    bounds = [*np.flatnonzero(np.diff(ours, prepend=-1)).tolist(), len(ours)]
    stretches: list[_Growing] = []
    last: list[_Growing] = []
    for first, end in itertools.pairwise(bounds):
        frame = int(ours[first])
        from_ms, until_ms = int(asked.from_ms[frame]), int(asked.until_ms[frame])
        last = [each for each in last if from_ms - each.until_ms <= GAP_MS]
        candidates = [record.times[number] for number in theirs[first:end].tolist()]
        fits = [(abs(each.drift(from_ms, times)), number, each, times) for each in last for number, times in enumerate(candidates)]
        fit = min((fit for fit in fits if fit[0] <= GAP_MS), key=lambda fit: fit[:2], default=None)
        if fit is None:
            (first_ms, end_ms) = candidates[0]
            own = _Growing(from_ms, until_ms, first_ms, end_ms, from_ms, first_ms)
            stretches.append(own)
            last.append(own)
        else:
            fit[2].take(from_ms, until_ms, fit[3])
    return [Stretch(each.from_ms, each.until_ms, each.record_from_ms, each.record_until_ms) for each in stretches]


@dataclass(slots=True, eq=False)
class _Growing:
    """A stretch as it grows, and where its last two frames are."""

    from_ms: int
    until_ms: int
    record_from_ms: int
    record_until_ms: int
    last_from_ms: int
    last_record_ms: int

    def drift(self, from_ms: int, times: tuple[int, int]) -> int:
        """How much further one side would go on than the other with this frame."""
        return times[0] - self.last_record_ms - (from_ms - self.last_from_ms)

    def take(self, from_ms: int, until_ms: int, times: tuple[int, int]) -> None:
        """Go on with a frame."""
        self.until_ms = max(self.until_ms, until_ms)
        self.record_from_ms, self.record_until_ms = min(self.record_from_ms, times[0]), max(self.record_until_ms, times[1])
        self.last_from_ms, self.last_record_ms = from_ms, times[0]


def _told(stretches: list[Stretch]) -> tuple[tuple[Stretch, ...], int]:
    """Return the longest, in the order of the film, and how many are left out."""
    longest = sorted(stretches, key=lambda each: (each.from_ms - each.until_ms, each.from_ms))[:MAX_STRETCHES]
    return tuple(sorted(longest)), len(stretches) - len(longest)
