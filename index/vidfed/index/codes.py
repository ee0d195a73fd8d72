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
    return f"{sort} {which}".rstrip()


@dataclass(frozen=True, slots=True)
class Code:
    """One code, and what it is the code of.

    Attributes:
        algorithm: perceptual; a file's digests are of all of it.
        code: `algorithm.code_bytes` bytes.
        kind: `WHOLE`; `rendering:black`, the same picture as other tools see it; `variant:trimmed`, a part of it; `frame:3` or `page:3`,
            counted from 1; `second:73`, a moment of a film. Of the form that `is_kind` checks.
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
