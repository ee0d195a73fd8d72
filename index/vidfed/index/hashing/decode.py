"""From a file's bytes to pixels, as far as they can be decoded.

Only in worker processes: a decoder is the likeliest thing here to be broken into. What is decoded is told by content, by one decoder of
Pillow for each format, and only what shows pixels is given to it: comments, profiles and other ancillary data of a file never decide
whether it is hashed.

Damaged pictures are decoded as far as they go, as browsers show them.
"""

from __future__ import annotations

import io
import time
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageFile

from vidfed.index.hashing.perceptual import EXACT_COLOURS_PIXELS
from vidfed.index.hashing.results import Note, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidfed.index.hashing.recognise import FileType

MAX_PIXELS: Final = 200_000_000
"""Pictures with more pixels are refused before decoding. The largest phone cameras make 199.8 million; a worker then needs about 2 GB."""

REDUCED_SIDE_PIXELS: Final = 1024
"""A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as both sides keep this many pixels: its PDQ then moves by 0 to 4 bits."""

LUMA: Final = "luma"
"""How the method of a picture begins of which only the brightness was decoded."""

MAX_FRAMES: Final = 1000
"""So many frames of an animation or pages of a document are looked at."""

MAX_FRAMES_PIXELS: Final = 1_000_000_000
MAX_FRAMES_S: Final = 30.0
"""Further frames are looked at until they have together so many pixels, or have taken so long."""

_EXIF_ORIENTATION: Final = 0x0112
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_END_OF_JPEG: Final = b"\xff\xd9"
_PNG_HEAD: Final = b"\x89PNG\r\n\x1a\n"
_PNG_SHOWN: Final = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"))
_PNG_EXIF: Final = b"eXIf"
_MAX_EXIF_BYTES: Final = 1 << 16  # what a JPEG can hold of it
# JPEG segments without which a picture looks the same: comments and application data, but for Adobe's, which tells the colours.
_JPEG_IDLE: Final = frozenset((*range(0xE0, 0xEE), 0xEF, 0xFE))
_JPEG_SCAN: Final = 0xDA


class UndecodableError(Exception):
    """A file shows no pixels; its note says why."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.note = Note(reason, text)


@dataclass(frozen=True, slots=True)
class Decoded:
    """The first frame or page of a picture, upright, in the mode the file has it, and what else is in the file.

    Attributes:
        picture: of any Pillow mode.
        frames: how many there are, at least 1.
        method: `full`; `luma` where only the brightness of a JPEG was decoded; `luma-1/2`, `luma-1/4`, `luma-1/8` at reduced size.
        full_size: (width, height) in pixels, as shown.
        notes: what could not be decoded.
    """

    picture: Image.Image
    frames: int
    method: str
    full_size: tuple[int, int]
    notes: tuple[Note, ...]
    _opened: Image.Image

    def further_frames(self) -> Iterator[tuple[int, Image.Image | None]]:
        """Yield frames 2, 3, ... with their numbers; at last (number, None) where it stops before the last."""
        pixels, until_s = 0, time.monotonic() + MAX_FRAMES_S
        for number in range(2, self.frames + 1):
            if number > MAX_FRAMES or pixels > MAX_FRAMES_PIXELS or time.monotonic() > until_s:
                yield number, None
                return
            try:
                with _pillow(tolerant=True):
                    self._opened.seek(number - 1)
                    _check_pixels(self._opened)
                    pixels += self._opened.width * self._opened.height
                    self._opened.load()
                    frame = _upright(self._opened.copy())
            except Exception:  # noqa: BLE001 - decoders of hostile files raise anything
                yield number, None
                return
            yield number, frame


def decode(content: bytes | bytearray, kind: FileType, *, full_size: bool) -> Decoded:
    """Decode a picture.

    Args:
        content: the whole file.
        kind: a picture's, as `recognise` gives it.
        full_size: never decode a JPEG at reduced size.

    Raises:
        UndecodableError: nothing of it can be decoded, its decoder is not installed, or it is too large.
        MemoryError: it needs more than there is.
    """
    _need_decoder(kind)
    shown = _only_pixels(content, kind)
    try:
        with _pillow(tolerant=False):
            return _open_and_load(shown, kind, full_size=full_size)
    except (UndecodableError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - decoders of hostile files raise anything, from IndexError to zlib.error
        problem = _one_line(error)
    return _decode_damaged(content, shown, kind, problem, full_size=full_size)


def _one_line(error: Exception) -> str:
    """Say what a decoder says; it may quote the file."""
    text = " ".join("".join(char if char.isprintable() else " " for char in str(error)[:200]).split())
    return text or type(error).__name__


def prepare(picture_memory_blocks: int = 8) -> None:
    """Make this process ready: load decoders, and let Pillow keep memory between pictures, as fresh memory costs as much as decoding."""
    Image.init()
    Image.core.set_blocks_max(picture_memory_blocks)  # type: ignore[attr-defined]  # described in Pillow's reference, "Block allocator"
    with suppress(ImportError):
        import pi_heif  # noqa: PLC0415 - a format of its own

        pi_heif.options.DECODE_THREADS = 1
        pi_heif.register_heif_opener(thumbnails=False)


def _need_decoder(kind: FileType) -> None:
    if kind.decoder not in Image.OPEN:
        prepare()
    if kind.decoder not in Image.OPEN:
        raise UndecodableError(Reason.NO_DECODER, f"{kind.name}: its decoder is not installed here")


@contextmanager
def _pillow(*, tolerant: bool) -> Iterator[None]:
    """Keep Pillow's warnings off the terminal and its own size limit out of ours; let it go on where a file is damaged, or not."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = tolerant, None
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = before


def _open_and_load(content: bytes | bytearray, kind: FileType, *, full_size: bool) -> Decoded:
    picture = Image.open(io.BytesIO(content), formats=(kind.decoder,))
    _check_pixels(picture)
    width, height = picture.size
    method = "full"
    if not full_size and kind.decoder == "JPEG" and picture.mode in {"L", "RGB"} and width * height > EXACT_COLOURS_PIXELS:
        reduced = min(width, height) >= 2 * REDUCED_SIDE_PIXELS
        picture.draft("L", (REDUCED_SIDE_PIXELS, REDUCED_SIDE_PIXELS) if reduced else picture.size)
        method = f"{LUMA}-1/{round(width / picture.width)}" if reduced else LUMA
    frames = _frame_count(picture)
    picture.load()
    upright = _upright(picture)
    size = (width, height) if (upright.width > upright.height) == (picture.width > picture.height) else (height, width)
    return Decoded(upright, frames, method, size, (), picture)


def _frame_count(picture: Image.Image) -> int:
    try:
        return max(1, int(getattr(picture, "n_frames", 1)))
    except Exception:  # noqa: BLE001 - counting walks through the hostile file
        return 1


def _check_pixels(picture: Image.Image) -> None:
    pixels = picture.width * picture.height
    if pixels > MAX_PIXELS:
        raise UndecodableError(Reason.TOO_LARGE, f"too large a picture: {pixels:,} pixels, the limit is {MAX_PIXELS:,}")


def _upright(picture: Image.Image) -> Image.Image:
    try:
        orientation = picture.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # noqa: BLE001 - the parser of a hostile block raises anything
        return picture  # as viewers then show it
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return picture if turn is None else picture.transpose(turn)


# --- what is given to a decoder ---


def _only_pixels(content: bytes | bytearray, kind: FileType) -> bytes | bytearray:
    """Return the file without the parts that show nothing, where those have kept decoders from decoding: PNG's ancillary chunks."""
    if kind.decoder != "PNG":
        return content
    view = memoryview(content)
    parts = [view[: len(_PNG_HEAD)]]
    at = len(_PNG_HEAD)
    while at + 8 <= len(view):
        end = at + 12 + int.from_bytes(view[at : at + 4])
        name = bytes(view[at + 4 : at + 8])
        if name in _PNG_SHOWN or (name == _PNG_EXIF and end - at <= _MAX_EXIF_BYTES):
            parts.append(view[at:end])
        if name == b"IEND":
            break
        at = end
    return b"".join(parts)


def _without_idle_segments(content: bytes | bytearray) -> bytes:
    """Return a JPEG without comments and application data, up to its first scan."""
    parts, at = [bytes(content[:2])], 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != _JPEG_SCAN:  # noqa: PLR2004 - begins every marker
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4])
        if content[at + 1] not in _JPEG_IDLE:
            parts.append(bytes(content[at:end]))
        at = end
    return b"".join((*parts, bytes(content[at:])))


# --- damaged pictures ---


def _decode_damaged(content: bytes | bytearray, shown: bytes | bytearray, kind: FileType, problem: str, *, full_size: bool) -> Decoded:
    """Decode what there is of a damaged picture."""
    attempts = [shown]
    if kind.decoder == "JPEG":
        # With an end, the decoder fills what is missing instead of waiting for more; also the scans of a progressive file.
        attempts = [bytes(content) + _END_OF_JPEG, _without_idle_segments(content) + _END_OF_JPEG]
    elif kind.decoder == "WEBP":
        missing = int.from_bytes(content[4:8], "little") + 8 - len(content)
        attempts = [bytes(content) + bytes(missing)] if 0 < missing <= len(content) else [shown]
    for attempt in attempts:
        try:
            with _pillow(tolerant=True):
                decoded = _open_and_load(attempt, kind, full_size=full_size)
        except (UndecodableError, MemoryError):
            raise
        except Exception:  # noqa: BLE001, S112 - as above; what is wrong is known from the first attempt
            continue
        share = _share_decoded(decoded.picture) if kind.decoder != "WEBP" else len(content) / len(attempt)
        if share <= 0:
            continue
        if share >= 1:
            text = f"damaged ({problem}), but all of it could be decoded"
        else:
            text = f"damaged ({problem}): {_percent(share)} of it could be decoded"
        return replace(decoded, notes=(Note(Reason.PARTLY_DECODED, text),))
    raise UndecodableError(Reason.DAMAGED, f"damaged: nothing of it could be decoded ({problem})")


def _percent(share: float) -> str:
    return f"{min(99, max(1, round(share * 100)))} %"


def _share_decoded(picture: Image.Image) -> float:
    """The share of rows before the decoder ran out of data: after that, it repeats one value in every row (JPEG) or leaves zeros."""
    pixels = np.asarray(picture)
    rows = pixels.reshape(len(pixels), -1)
    channels = rows.shape[1] // picture.width
    flat = (rows[:, channels:] == rows[:, :-channels]).all(axis=1) if picture.width > 1 else (rows == rows[:1]).all(axis=1)
    if flat.all():
        return 0.0
    first, last = int(np.argmin(flat)), len(flat) - int(np.argmin(flat[::-1]))
    # A picture that is stored from the bottom up (BMP) lacks its top.
    return 1 - max(first if flat[0] and not flat[-1] else 0, len(flat) - last) / len(flat)
