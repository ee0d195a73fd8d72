"""From a film to the PDQ of its distinct frames, each with when it is shown.

One frame a second of a record, four a second of what is asked (docs/adr/0071). A frame within `SAME_FRAME_BITS` of one before is the same
picture: it gives no code, and prolongs the time of that one where it follows it. Frames with too little to see give none.

Each code is that of the frame as it is shown, at full size up to 2,048 pixels a side; a frame with borders has a second one without them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from vidfed.index.algorithms import Algorithm
from vidfed.index.codes import MAX_FILM_MS, clock_text, frame_kind
from vidfed.index.hashing.digests import HEAD_BYTES, UnreadableError, open_regular
from vidfed.index.hashing.film.programs import Decoding, FilmError, frames, probe
from vidfed.index.hashing.recognise import recognise
from vidfed.index.hashing.results import RELIABLE_PDQ_QUALITY, Note, PictureCode, Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from vidfed.index.hashing.film.programs import Probed
    from vidfed.index.hashing.results import FileHashes

RECORD_RATE: Final = 2.0
QUESTION_RATE: Final = 4.0
"""Frames a second that are looked at, of a record and of what is asked."""

SAME_FRAME_BITS: Final = 10
"""PDQ's authors call hashes so near those of one picture."""

MAX_FRAMES: Final = 30_000
"""Distinct frames of one film, with borders and without: a day that changes every three seconds; a record has room for 65,535 codes."""

_MIN_SIDE_PIXELS: Final = 5


@dataclass(slots=True)
class _Frame:
    """A distinct frame: its codes in eight orientations, those without borders, and when it is shown first."""

    codes: tuple[bytes, ...]
    quality: int
    trimmed: tuple[bytes, ...]
    trimmed_quality: int
    from_ms: int
    until_ms: int


def may_be_film(head: bytes) -> bool:
    """Whether a file that begins like this is worth looking at with ffmpeg."""
    kind = recognise(head)
    return kind is not None and kind.film


def with_frames(file: FileHashes, *, asked: bool, on_progress: Callable[[int, int], None] | None = None) -> FileHashes:
    """Return a file that may be a film with its frames, or with why it has none; anything else as it is.

    Args:
        file: hashed already, without perceptual codes.
        asked: it is for a question, and more frames are looked at.
        on_progress: called with how many milliseconds of the film are done, and of how many, 0 where that is not known.
    """
    if file.codes:
        return file
    try:
        film = open_regular(file.path)
    except UnreadableError:
        return file  # it has gone since it was digested
    try:
        head = os.read(film, HEAD_BYTES)
        os.lseek(film, 0, os.SEEK_SET)  # `pread` is not to be had everywhere
        if not may_be_film(head):
            return file
        probed = probe(film)
        return _hashed(file, film, probed, QUESTION_RATE if asked else RECORD_RATE, on_progress)
    except FilmError as error:
        return replace(file, notes=(error.note,))
    finally:
        os.close(film)


def _hashed(file: FileHashes, film: int, probed: Probed, rate: float, on_progress: Callable[[int, int], None] | None) -> FileHashes:
    kept, decoding = _Kept(), Decoding()
    seen, last_ms, cut_ms = 0, 0, 0
    for moment_ms, grey in frames(film, probed, rate, decoding):
        if len(kept) == MAX_FRAMES:
            cut_ms = moment_ms
            break
        kept.take(moment_ms, grey)
        seen, last_ms = seen + 1, moment_ms
        if on_progress is not None:
            on_progress(moment_ms, probed.duration_ms)
    whole = not (decoding.status or decoding.complaints or decoding.stalled or cut_ms)
    end_ms = max(probed.duration_ms, last_ms) if whole else last_ms
    if whole and last_ms + 1000 / rate < end_ms and not _may_be_short(last_ms, end_ms, rate):
        whole = False
        end_ms = last_ms + round(1000 / rate)
    kept.end(min(max(end_ms, last_ms), MAX_FILM_MS))
    notes = _notes(kept, decoding, seen, last_ms, cut_ms, probed, whole=whole)
    found = kept.frames[:MAX_FRAMES]
    duration_ms = end_ms if seen else 0
    method = f"film, {rate:g} frames a second" if found else ""
    return replace(
        file,
        width=probed.width,
        height=probed.height,
        frames=len(found),
        codes=tuple(_codes(found)),
        method=method,
        notes=notes,
        duration_ms=duration_ms,
    )


def _may_be_short(last_ms: int, end_ms: int, rate: float) -> bool:
    """Whether a film that shows nothing new for a while before its end may have a last frame, or sound, that goes on for so long."""
    return end_ms - last_ms < max(10_000, 0.1 * end_ms, 2000 / rate)


def _notes(kept: _Kept, decoding: Decoding, seen: int, last_ms: int, cut_ms: int, probed: Probed, *, whole: bool) -> tuple[Note, ...]:
    said = f" ({decoding.complaints[0]})" if decoding.complaints else ""
    if not seen:
        reason = Reason.OUT_OF_TIME if decoding.stalled else Reason.DAMAGED
        return (Note(reason, f"damaged or encrypted: no frame of the film could be decoded{said}"),)
    notes = []
    if cut_ms:
        text = f"more than {MAX_FRAMES:,} distinct frames: what comes after {clock_text(cut_ms)} was not hashed"
        notes.append(Note(Reason.FRAMES_CUT, text))
    elif not whole:
        of = f" of {clock_text(probed.duration_ms)}" if probed.duration_ms > last_ms else ""
        notes.append(Note(Reason.PARTLY_DECODED, f"damaged{said}: decoded up to {clock_text(last_ms)}{of}"))
    if not kept.frames:
        text = f"too plain for perceptual hashes: none of {seen} frames has a PDQ quality of {RELIABLE_PDQ_QUALITY}"
        notes.insert(0, Note(Reason.PLAIN, text))
    return tuple(notes)


def _codes(found: list[_Frame]) -> list[PictureCode]:
    codes = []
    for frame in found:
        kind = frame_kind(frame.from_ms, frame.until_ms)
        codes.append(PictureCode(Algorithm.PDQ, frame.codes[0], kind, frame.quality, frame.codes))
        if frame.trimmed:
            kind = frame_kind(frame.from_ms, frame.until_ms, trimmed=True)
            codes.append(PictureCode(Algorithm.PDQ, frame.trimmed[0], kind, frame.trimmed_quality, frame.trimmed))
    return codes


class _Kept:
    """The distinct frames of a film so far."""

    def __init__(self) -> None:
        self.frames: list[_Frame] = []
        self._words = np.empty((256, 4), np.uint64)
        self._shown: int | None = None
        self._began_ms = 0

    def __len__(self) -> int:
        return len(self.frames)

    def take(self, moment_ms: int, grey: NDArray[np.uint8]) -> None:
        """Look at the next frame."""
        codes, quality = _pdq(grey)
        same = self._same(codes[0]) if quality >= RELIABLE_PDQ_QUALITY else None
        if same is None or same != self._shown:
            self._leave(moment_ms)
        if quality < RELIABLE_PDQ_QUALITY:
            return
        if same is None:
            same = len(self.frames)
            self._keep(codes, quality, grey, moment_ms)
        if self._shown is None:
            self._shown = same

    def end(self, moment_ms: int) -> None:
        """The film is over."""
        self._leave(moment_ms)

    def _leave(self, moment_ms: int) -> None:
        """Another frame is shown: the one before was shown until now, if it is there for the first time."""
        if self._shown is not None:
            frame = self.frames[self._shown]
            frame.until_ms = moment_ms if frame.until_ms < 0 else frame.until_ms
        self._shown = None

    def _keep(self, codes: tuple[bytes, ...], quality: int, grey: NDArray[np.uint8], moment_ms: int) -> None:
        trimmed, trimmed_quality = _without_borders(grey)
        if trimmed_quality < RELIABLE_PDQ_QUALITY:
            trimmed = ()
        number = len(self.frames)
        if number == len(self._words):
            self._words = np.concatenate([self._words, np.empty_like(self._words)])
        self._words[number] = np.frombuffer(codes[0], np.uint64)
        self.frames.append(_Frame(codes, quality, trimmed, trimmed_quality, moment_ms, -1))

    def _same(self, code: bytes) -> int | None:
        """Return which frame this is again: the one shown if it may be that, else the nearest."""
        known = self._words[: len(self.frames)]
        if not len(known):
            return None
        bits = np.bitwise_count(known ^ np.frombuffer(code, np.uint64)).sum(axis=1)
        if self._shown is not None and bits[self._shown] <= SAME_FRAME_BITS:
            return self._shown
        nearest = int(bits.argmin())
        return nearest if bits[nearest] <= SAME_FRAME_BITS else None


def _pdq(grey: NDArray[np.uint8]) -> tuple[tuple[bytes, ...], int]:
    # Nobody who hashes no film pays for loading these.
    from vidfed.index.hashing.pdq.shrink import shrink  # noqa: PLC0415
    from vidfed.index.hashing.pdq.transform import codes_of  # noqa: PLC0415

    if min(grey.shape) < _MIN_SIDE_PIXELS:
        return (bytes(32),) * 8, 0
    codes, quality = codes_of(shrink(grey), orientations=True)
    return tuple(codes), quality


def _without_borders(grey: NDArray[np.uint8]) -> tuple[tuple[bytes, ...], int]:
    from PIL import Image  # noqa: PLC0415

    from vidfed.index.hashing.variants import trims  # noqa: PLC0415

    boxes = trims(Image.fromarray(grey))
    if not boxes:
        return (), 0
    box = boxes[0]
    return _pdq(grey[box.top : box.bottom, box.left : box.right])
