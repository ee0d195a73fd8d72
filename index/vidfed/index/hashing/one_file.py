"""From one open file to all its hashes: what a worker process does. Decodes; see `workers` for where."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from vidfed.index.hashing.decode import LUMA, UndecodableError, decode
from vidfed.index.hashing.pdq.shrink import Parts
from vidfed.index.hashing.perceptual import EXACT_COLOURS_PIXELS
from vidfed.index.hashing.recognise import recognise
from vidfed.index.hashing.render import renderings, shown
from vidfed.index.hashing.results import RELIABLE_PDQ_QUALITY, TINY_SIDE_PIXELS, Note, PictureCode, Reason
from vidfed.index.hashing.variants import variants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from PIL import Image

    from vidfed.index.hashing.decode import Decoded
    from vidfed.index.hashing.digests import FileBytes
    from vidfed.index.hashing.perceptual import Hasher
    from vidfed.index.hashing.recognise import FileType

MAX_FRAME_CODES = 64
"""So many further frames of one file get codes of their own."""

VARIANTS_SIDE_PIXELS = 512
"""Variants are taken from a picture reduced to at least so many pixels a side: nobody else's hash depends on them bit for bit."""

_SAME_FRAME_BITS = 10  # PDQ's authors call hashes so near those of one picture; a frame so near to another one finds nothing more


@dataclass(frozen=True, slots=True)
class Options:
    """How files are hashed.

    Attributes:
        orientations: also the PDQ of every view turned and mirrored, which a lookup asks for and a record does not need.
        full_size: decode every JPEG at its full size, for PDQ that is bit for bit what `pdqhash` gives.
    """

    orientations: bool = False
    full_size: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """What a file shows. The fields of `FileHashes` of the same names."""

    media_type: str = ""
    width: int = 0
    height: int = 0
    frames: int = 0
    codes: tuple[PictureCode, ...] = ()
    method: str = ""
    notes: tuple[Note, ...] = ()


def may_be_picture(head: bytes) -> bool:
    """Whether a file that begins like this is worth keeping in memory to decode it."""
    kind = recognise(head)
    return kind is not None and kind.is_picture


def hash_picture_bytes(file: FileBytes, hasher: Hasher, options: Options) -> Shown:
    """Decode and hash what a file shows."""
    kind = recognise(file.head)
    media_type = kind.media_type if kind else ""
    if kind is None or not kind.is_picture:
        text = f"no picture but {kind.name} ({media_type})" if kind else "no picture of a known format"
        return Shown(media_type, notes=(Note(Reason.NO_PICTURE, text),))
    if file.content is None:
        return Shown(media_type, notes=(Note(Reason.TOO_LARGE, f"too large a file to decode: {file.size_bytes:,} bytes"),))
    try:
        decoded = decode(file.content, kind, full_size=options.full_size)
        colours = partial(_in_colours, file.content, kind) if decoded.method.startswith(LUMA) else None
        return _hash_decoded(decoded, media_type, hasher, colours)
    except UndecodableError as error:
        return Shown(media_type, notes=(error.note,))
    except MemoryError:
        return Shown(media_type, notes=(Note(Reason.OUT_OF_MEMORY, "decoding it needs more memory than a decoder may have"),))


def _in_colours(content: bytearray, kind: FileType) -> Image.Image:
    return shown(decode(content, kind, full_size=True).picture)


def _hash_decoded(decoded: Decoded, media_type: str, hasher: Hasher, colours: Callable[[], Image.Image] | None) -> Shown:
    luma = not hasher.full_size and decoded.picture.width * decoded.picture.height > EXACT_COLOURS_PIXELS
    picture = shown(decoded.picture, luma=luma)
    colours = colours or (partial(shown, decoded.picture) if luma else None)
    whole = hasher.codes(picture, full_size=decoded.full_size, colours=colours)
    codes = [*whole, *_of_views(renderings(decoded.picture, luma=luma), whole, hasher)]
    codes += codes_of_variants(picture, whole, hasher)
    notes = list(decoded.notes)
    frame_codes, cut_at = _of_frames(decoded, whole[0], hasher)
    codes += frame_codes
    if cut_at:
        notes.append(Note(Reason.FRAMES_CUT, f"frames {cut_at} to {decoded.frames} were not hashed"))
    width, height = decoded.full_size
    if whole[0].quality < RELIABLE_PDQ_QUALITY:
        text = f"too plain for perceptual hashes (PDQ quality {whole[0].quality}, at least {RELIABLE_PDQ_QUALITY} is needed)"
        notes.append(Note(Reason.PLAIN, text))
    if min(width, height) < TINY_SIDE_PIXELS:
        notes.append(Note(Reason.TINY, f"tiny: {width} x {height} pixels"))
    return Shown(media_type, width, height, decoded.frames, tuple(codes), decoded.method, tuple(notes))


def _of_views(views: Iterable[tuple[str, Image.Image]], whole: tuple[PictureCode, ...], hasher: Hasher) -> list[PictureCode]:
    """Codes of further views of the picture, where they are others than those it has already."""
    known = {(code.algorithm, code.code) for code in whole}
    codes = []
    for kind, view in views:
        for code in hasher.codes(view, kind):
            if (code.algorithm, code.code) not in known:
                known.add((code.algorithm, code.code))
                codes.append(code)
    return codes


def codes_of_variants(picture: Image.Image, whole: tuple[PictureCode, ...], hasher: Hasher) -> list[PictureCode]:
    """PDQ of the parts of the picture that may be somebody else's picture; none if the whole is too plain to tell."""
    if not whole[0].reliable:
        return []
    factor = min(picture.size) // VARIANTS_SIDE_PIXELS
    grey = picture if picture.mode == "L" else picture.convert("L")
    grey = grey.reduce(factor) if factor > 1 else grey
    parts = Parts(np.asarray(grey))
    codes = (hasher.code_of_shrunk(parts.shrink(box.left, box.top, box.right, box.bottom), kind) for kind, box in variants(grey))
    return [code for code in codes if code.reliable]


def _of_frames(decoded: Decoded, first: PictureCode, hasher: Hasher) -> tuple[list[PictureCode], int]:
    """PDQ of the further frames that look different, and the number of the first frame that was left out, 0 if none was."""
    codes: list[PictureCode] = []
    for number, frame in decoded.further_frames():
        if frame is None or len(codes) == MAX_FRAME_CODES:
            return codes, number
        (code,) = hasher.codes(shown(frame), f"frame:{number}", only_pdq=True)
        if all(_bits_apart(code.code, each.code) > _SAME_FRAME_BITS for each in (first, *codes)):
            codes.append(code)
    return codes, 0


def _bits_apart(left: bytes, right: bytes) -> int:
    return (int.from_bytes(left) ^ int.from_bytes(right)).bit_count()
