"""What hashing a file gives: its digests, the codes of what it shows, each with what it is the code of, and what to know about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import TYPE_CHECKING, Final, TypeAlias

from vidfed.index.algorithms import Algorithm, Hash
from vidfed.index.codes import WHOLE, frame_times, kind_title

if TYPE_CHECKING:
    from pathlib import Path

RELIABLE_PDQ_QUALITY: Final = 50
"""Below this PDQ quality a picture has too little in it for its PDQ to mean much (source: the PDQ paper)."""

TINY_SIDE_PIXELS: Final = 50
"""A picture with a shorter side than this shows an icon or a pixel of a page, hardly a scene."""

ORIENTATIONS: Final = (
    "as it is",
    "turned 90 degrees",
    "turned 180 degrees",
    "turned 270 degrees",
    "flipped top to bottom",
    "flipped left to right",
    "transposed",
    "transversed",
)
"""What each entry of `PictureCode.orientations` is the PDQ of, in the order of `pdqhash.compute_dihedral`. Turns are counter-clockwise,
"transposed" is mirrored at the diagonal from top left, "transversed" at the other one: the words of `PIL.Image.Transpose`."""


@unique
class Reason(Enum):
    """Why a file has no perceptual hash, or what limits the ones it has, for scripts; the text beside it is for people."""

    NO_PICTURE = "no-picture"  # nothing that is decoded here: a video, a document, an archive, anything else
    NO_DECODER = "no-decoder"  # a picture of a format whose decoder is not installed
    DAMAGED = "damaged"  # nothing of it could be decoded
    TOO_LARGE = "too-large"  # in pixels or bytes, for decoding
    OUT_OF_MEMORY = "out-of-memory"  # the decoder needed more than it may have
    OUT_OF_TIME = "out-of-time"  # the decoder took longer than it may
    DECODER_DIED = "decoder-died"  # the process that decoded it came to an end
    PARTLY_DECODED = "partly-decoded"  # damaged, and hashed as far as it could be decoded
    PLAIN = "plain"  # too little to see for perceptual hashes to be reliable
    TINY = "tiny"  # shorter than `TINY_SIDE_PIXELS` on one side
    FRAMES_CUT = "frames-cut"  # further frames or pages were not hashed
    EMPTY = "empty"  # no bytes: its digests are those of every empty file
    UNREADABLE = "unreadable"
    NOT_A_FILE = "not-a-file"  # a folder, a link, a device, a pipe, a socket


@dataclass(frozen=True, slots=True)
class Note:
    """One thing to know about a file or about how it was hashed."""

    reason: Reason
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class PictureCode:
    """One perceptual code of one view of a picture.

    Attributes:
        algorithm: PDQ, pHash or dHash.
        code: the view as it is, upright.
        kind: what it is the code of, in plain ASCII without spaces: `WHOLE`; `rendering:black`, `rendering:no-alpha` or `rendering:raw`,
            the same picture as other tools see it; `variant:trimmed` or `variant:crop-4x5` and the
            like, a part of it (see `variants`); `frame:3`, the third frame of an animation or page of a document, counted from 1;
            `second:73.5-77.25`, a frame of a film, and `second-trimmed:73.5-77.25`, the same without borders.
        quality: PDQ quality of that view, 0..100, for its pHash and dHash as well.
        orientations: PDQ of the view turned and mirrored, as `ORIENTATIONS` lists them, the first of which is `code`; empty for other
            algorithms and unless asked for.
    """

    algorithm: Algorithm
    code: bytes
    kind: str = WHOLE
    quality: int = 100
    orientations: tuple[bytes, ...] = ()

    @property
    def title(self) -> str:
        """What it is the code of, for people: empty for the whole picture as shown."""
        return kind_title(self.kind)

    @property
    def is_cut(self) -> bool:
        """True for cuts to usual shapes: kept of records, and not asked unless somebody wants it, as they are eight for each picture."""
        return self.kind.startswith("variant:") and "crop" in self.kind

    @property
    def reliable(self) -> bool:
        """False if the view has too little in it for a perceptual hash to mean much."""
        return self.quality >= RELIABLE_PDQ_QUALITY


@dataclass(frozen=True, slots=True)
class FileHashes:
    """All hashes of one regular file, and what else a record says about it.

    Attributes:
        path: as it was named.
        digests: MD5, SHA-1, SHA-256 of its bytes, in this order.
        size_bytes: of the file.
        media_type: by content, as in `image/jpeg`; empty where the content tells nothing.
        width, height: pixels as shown, after the EXIF orientation; 0 if nothing was decoded.
        frames: how many frames or pages it has; 0 if nothing was decoded.
        codes: the codes of the whole picture first, PDQ, pHash, dHash; then those of its renderings, variants and frames. Empty if it has
            none; the notes then say why.
        method: how its pixels were had: `full`; `luma` where only the brightness of a JPEG was decoded; `luma-1/2`, `luma-1/4`, `luma-1/8`
            where that was done at a share of its size. With `luma` PDQ may differ from `pdqhash`'s by up to 4 bits.
        notes: what to know about it.
        duration_ms: of a film, in milliseconds: as far as it could be decoded; 0 of anything else.
    """

    path: Path
    digests: tuple[Hash, ...]
    size_bytes: int
    media_type: str = ""
    width: int = 0
    height: int = 0
    frames: int = 0
    codes: tuple[PictureCode, ...] = ()
    method: str = ""
    notes: tuple[Note, ...] = ()
    duration_ms: int = 0

    @property
    def is_film(self) -> bool:
        """True if it has frames of a film among its codes."""
        return bool(self.codes) and frame_times(self.codes[0].kind) is not None

    @property
    def exact_only(self) -> Note | None:
        """Why it has no perceptual hash at all; None if it has."""
        return self.notes[0] if not self.codes else None

    @property
    def main(self) -> tuple[PictureCode, ...]:
        """The codes of the whole picture: PDQ, pHash, dHash; empty if it has none."""
        return tuple(each for each in self.codes if each.kind == WHOLE)

    @property
    def hashes(self) -> tuple[Hash, ...]:
        """The digests, and the codes of the whole picture if it has any."""
        return (*self.digests, *(Hash(each.algorithm, each.code) for each in self.main))

    @property
    def pdq_quality(self) -> int | None:
        """Of the whole picture, 0..100; None if it has no PDQ."""
        return next((each.quality for each in self.main if each.algorithm is Algorithm.PDQ), None)

    def code(self, algorithm: Algorithm) -> bytes:
        """The digest, or the code of the whole picture.

        Raises:
            KeyError: it has none of this algorithm.
        """
        for each in self.hashes:
            if each.algorithm is algorithm:
                return each.code
        raise KeyError(algorithm)


@dataclass(frozen=True, slots=True)
class FileFailure:
    """One path of which not even digests are known, and why. Its `str` is one line."""

    path: Path
    note: Note

    @property
    def reason(self) -> str:
        """The reason as text."""
        return self.note.text

    def __str__(self) -> str:
        return f"{one_line(self.path)}: {self.note}"


HashingResult: TypeAlias = FileHashes | FileFailure


def one_line(path: Path) -> str:
    """A path as it may be shown: a file's name can hold anything, line ends, terminal codes and bytes that are no text included."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(path))
