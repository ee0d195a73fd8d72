"""One code of a media item with what it is the code of: a record, like a question, has many of one algorithm."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from vidfed.index.errors import HashTextError

if TYPE_CHECKING:
    from vidfed.index.algorithms import Algorithm

WHOLE: Final = "whole"
"""The kind of the codes of a picture as it is shown: the first frame or page, upright, transparent parts over white."""

MAX_KIND: Final = 40
"""Characters of a kind."""

MAX_QUALITY: Final = 100
"""Of PDQ's measure of how much there is to see."""

_KIND: Final = re.compile(rf"[a-z][a-z0-9-]{{0,19}}(?::[a-z0-9][a-z0-9.-]{{0,{MAX_KIND - 22}}})?", re.ASCII)
_TITLES: Final = {
    WHOLE: "",
    "rendering:black": "over black",
    "rendering:no-alpha": "transparency ignored",
    "rendering:raw": "raw channels",
    "rendering:stretched": "contrast stretched",
    "rendering:clipped": "16 bit cut to 8",
}


FRAME: Final = "second"
"""The sort of the codes of a film's frames, and that of the same frames without borders."""
FRAME_TRIMMED: Final = "second-trimmed"

MAX_FILM_MS: Final = 360_000_000
"""100 hours: a frame shown later has no kind."""


def frame_kind(from_ms: int, until_ms: int, *, trimmed: bool = False) -> str:
    """Return the kind of a frame that a film shows from one moment to another, in milliseconds, told to a hundredth of a second.

    `second:73.5-77.25` is on screen from 73.5 to 77.25 seconds after the beginning; `trimmed`, it is the code of the frame without borders.
    """
    return f"{FRAME_TRIMMED if trimmed else FRAME}:{_seconds(from_ms)}-{_seconds(until_ms)}"


def frame_times(kind: str) -> tuple[int, int] | None:
    """Return from when until when, in milliseconds, a film shows the frame of this kind; None for what is no frame of a film.

    A kind that tells one moment only, as in `second:73.5`, is that of a frame of no duration.
    """
    sort, _, which = kind.partition(":")
    if sort not in {FRAME, FRAME_TRIMMED}:
        return None
    first, dash, last = which.partition("-")
    try:
        from_ms = round(float(first) * 1000)
        until_ms = round(float(last) * 1000) if dash else from_ms
    except ValueError:
        return None
    return (from_ms, until_ms) if 0 <= from_ms <= until_ms <= MAX_FILM_MS else None


def clock_text(moment_ms: int) -> str:
    """Write a moment of a film as people do: `00:12:30`."""
    seconds = moment_ms // 1000
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _seconds(moment_ms: int) -> str:
    return f"{min(moment_ms, MAX_FILM_MS) / 1000:.2f}".rstrip("0").rstrip(".")


def is_kind(kind: str) -> bool:
    """Return whether a text is of the form of a kind: lower-case ASCII words, as in `rendering:black`, `frame:3` or `second:73.5`."""
    return _KIND.fullmatch(kind) is not None


def kind_title(kind: str) -> str:
    """Return for people what a code is the code of; empty for the whole picture as shown."""
    if (title := _TITLES.get(kind)) is not None:
        return title
    sort, _, which = kind.partition(":")
    if sort == "variant":
        done = ["borders trimmed"] if which.startswith("trimmed") else []
        done += [f"cut to {which.rpartition('-')[2]}"] if "crop" in which else []
        return " and ".join(done) or which
    if (times := frame_times(kind)) is not None:
        return f"film at {clock_text(times[0])}" + (" with borders trimmed" if sort == FRAME_TRIMMED else "")
    return f"{sort} {which}".rstrip()


@dataclass(frozen=True, slots=True)
class Code:
    """One code, and what it is the code of.

    Attributes:
        algorithm: perceptual; a file's digests are of all of it.
        code: `algorithm.code_bytes` bytes.
        kind: `WHOLE`; `rendering:black`, the same picture as other tools see it; `variant:trimmed`, a part of it; `frame:3` or `page:3`,
            counted from 1; `second:73.5-77`, a frame of a film (see `frame_kind`). Of the form that `is_kind` checks.
        quality: PDQ quality of that view, 0..100; None where it is not known.

    Raises:
        HashTextError: the code is not as long as its algorithm's, or the kind not of that form.
    """

    algorithm: Algorithm
    code: bytes = field(repr=False)  # what is logged by mistake must not hold it
    kind: str = WHOLE
    quality: int | None = None

    def __post_init__(self) -> None:
        if len(self.code) != self.algorithm.code_bytes:
            raise HashTextError(f"{self.algorithm.label}: {len(self.code)} bytes, expected {self.algorithm.code_bytes}")
        if not is_kind(self.kind):
            raise HashTextError(f"{self.kind[:MAX_KIND]!r} is no kind of code; write it as in rendering:black or frame:3")
        if self.quality is not None and not 0 <= self.quality <= MAX_QUALITY:
            raise HashTextError(f"PDQ quality {self.quality}; it is 0 to 100")

    @property
    def title(self) -> str:
        """What it is the code of, for people; empty for the whole picture as shown."""
        return kind_title(self.kind)
