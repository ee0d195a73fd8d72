"""Hashes of picture files: digests of the file's bytes, perceptual hashes of what it shows.

What is hashed is what a person looking at the file sees: turned as its EXIF orientation says, a GIF's first frame, transparent parts over
white. Pixels are never reduced before hashing, so the hashes are those that any other tool computes from the full picture: PDQ as
`pdqhash.compute` gives it, pHash and dHash as `imagehash` gives them.

Files are hostile until proven otherwise: only six formats are decoded, the size is checked before decoding, and whatever a decoder trips
over is one line about one file. Pictures stay in memory for the moment of hashing and go nowhere else.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import threading
import warnings
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing import get_context
from signal import SIG_BLOCK, SIG_IGN, SIG_SETMASK, SIGINT, pthread_sigmask, signal
from typing import TYPE_CHECKING, Final, TypeAlias

import imagehash
import numpy as np
import pdqhash
from PIL import Image, UnidentifiedImageError

from vidfed.index.algorithms import Algorithm, Hash
from vidfed.index.errors import PictureError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from pathlib import Path

MAX_PIXELS: Final = 200_000_000
"""Pictures with more pixels are refused before decoding. The largest phone cameras make 199.8 million; a worker then needs about 2 GB."""

MAX_FILE_BYTES: Final = 1 << 30
"""Files larger than this are refused unread: an uncompressed picture of `MAX_PIXELS` is smaller, and the file is held in memory while
hashed."""

RELIABLE_PDQ_QUALITY: Final = 50
"""Below this PDQ quality a picture has too little in it for its PDQ to mean much (source: the PDQ paper)."""

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
"""What each entry of `PictureHashes.pdq_orientations` is the PDQ of, in the order of `pdqhash.compute_dihedral`. Turns are
counter-clockwise, "transposed" is mirrored at the diagonal from top left, "transversed" at the other one: the words of
`PIL.Image.Transpose`."""

COMPILED_PDQ_PICTURE_PIXELS: Final = 50_000_000
COMPILED_PDQ_BULK_PIXELS: Final = 250_000_000
"""From here on PDQ is left to the compiled blur: for one picture (`pdqhash` needs 30 bytes a pixel, and two seconds for so many), and for
all that a worker process has hashed (nine seconds of `pdqhash`, as much as compiling costs, once per installation)."""

FEW_PICTURES: Final = 24
FEW_BYTES: Final = 8_000_000
"""Up to `FEW_PICTURES` files of together `FEW_BYTES` are hashed without worker processes, which take about a second to start."""

# Files handed out ahead of the one awaited: enough to keep all busy while one large picture holds up the order.
_QUEUE_PER_PROCESS: Final = 8

_READ_BYTES: Final = 1 << 20
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")
_MPO: Final = "MPO"  # what Pillow calls a JPEG with further pictures attached; the first one is hashed
_BACKGROUND: Final = (255, 255, 255)  # under transparent pixels: white, as on a page and as most viewers and converters show them
_PHASH_SIZE: Final = (32, 32)
_DHASH_SIZE: Final = (9, 8)
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


@dataclass(frozen=True, slots=True)
class PictureHashes:
    """All hashes of one picture file, and what else a record says about it."""

    path: Path
    hashes: tuple[Hash, ...]
    """MD5, SHA-1, SHA-256 of the file; PDQ, pHash, dHash of the picture; in this order."""
    pdq_quality: int
    """0..100; below `RELIABLE_PDQ_QUALITY` the picture has too little in it for PDQ."""
    pdq_orientations: tuple[bytes, ...]
    """PDQ of the picture turned and mirrored, 32 bytes each, as `ORIENTATIONS` lists them; empty unless asked for."""
    size_bytes: int
    mime_type: str
    width: int
    """Pixels, as shown: after the EXIF orientation. So is `height`."""
    height: int

    def code(self, algorithm: Algorithm) -> bytes:
        """The code of one algorithm.

        Raises:
            KeyError: pictures are not hashed with this algorithm.
        """
        for each in self.hashes:
            if each.algorithm is algorithm:
                return each.code
        raise KeyError(algorithm)


@dataclass(frozen=True, slots=True)
class PictureFailure:
    """One file that could not be hashed, and why. Its `str` is one line."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{one_line(self.path)}: {self.reason}"


HashingResult: TypeAlias = PictureHashes | PictureFailure


class _UnfitError(Exception):
    """Why a file cannot be hashed; becomes a `PictureFailure`."""


def one_line(path: Path) -> str:
    """A path as it may be shown: a file's name can hold anything, line ends and terminal codes included."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(path))


def hash_picture(path: Path, *, orientations: bool = False) -> PictureHashes:
    """Hash one picture file.

    Args:
        path: JPEG, PNG, WebP, GIF (first frame), TIFF (first page) or BMP; told by content, not by name.
        orientations: also compute the PDQ of the eight orientations, which a lookup asks for and a record does not need.

    Raises:
        PictureError: the file cannot be read, is no picture, is truncated, damaged or too large. One line, with the path.
    """
    result = _hash(path, orientations=orientations)
    if isinstance(result, PictureFailure):
        raise PictureError(str(result))
    return result


def find_pictures(paths: Iterable[Path]) -> Iterator[Path]:
    """List the files to hash: files as named, folders with all that is below them, sorted by name.

    Nothing is left out silently: hidden files are listed, and so is what is no picture, for hashing to say so. So is a path that
    does not exist, and a folder that is empty or cannot be read. Symbolic links are followed; a folder that was walked already (a
    loop, say) is not walked again.
    """
    for path in paths:
        if path.is_dir():
            files = _walk(path, set())
            yield from chain([next(files, path)], files)
        else:
            yield path


def hash_pictures(
    paths: Iterable[Path],
    *,
    orientations: bool = False,
    processes: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Generator[HashingResult]:
    """Hash many files, in several processes when there are more than a few.

    Worker processes are started afresh (never forked: the caller may run threads), so a script that calls this needs the usual
    `if __name__ == "__main__"`. They end with the iterator, also when it is closed early or interrupted.

    Args:
        paths: files; taken from the iterable as they are needed.
        orientations: as for `hash_picture`.
        processes: how many; by default one per available processor core. One means: in this process.
        on_progress: called with the number of files done so far, after each.

    Yields:
        For every path, in order, its hashes or why there are none. A file whose hashing gets a worker killed (out of memory, say) is
        a failure like any other; the others are hashed all the same.
    """
    remaining = iter(paths)
    head = list(islice(remaining, FEW_PICTURES + 1))
    processes = processes or len(os.sched_getaffinity(0))
    rest = chain(head, remaining)
    results: Generator[HashingResult]
    if processes == 1 or len(head) <= 1 or (len(head) <= FEW_PICTURES and sum(map(_size_bytes, head)) <= FEW_BYTES):
        results = (_hash(path, orientations=orientations) for path in rest)
    else:
        results = _hash_in_workers(rest, orientations=orientations, processes=processes)
    with closing(results):
        for done, result in enumerate(results, start=1):
            if on_progress is not None:
                on_progress(done)
            yield result


# --- one file ---


def _hash(path: Path, *, orientations: bool, bulk: bool = False) -> HashingResult:
    try:
        return _hash_or_raise(path, orientations=orientations, bulk=bulk)
    except _UnfitError as error:
        return PictureFailure(path, str(error))
    except FileNotFoundError:
        return PictureFailure(path, "no such file")
    except PermissionError:
        return PictureFailure(path, "cannot be read: permission denied")
    except OSError as error:
        return PictureFailure(path, f"cannot be read: {error.strerror or error}")
    except MemoryError:
        return PictureFailure(path, "hashing it needs more memory than there is")


def _hash_or_raise(path: Path, *, orientations: bool, bulk: bool) -> PictureHashes:
    content, digests = _read(path)
    picture, mime_type = _decode(content)
    pdq_codes, quality = _pdq(picture, orientations=orientations, bulk=bulk)
    # imagehash makes any picture grey and small first, and does nothing to one that is so already: done here, it is done without copies.
    grey = picture if picture.mode == "L" else picture.convert("L")
    perceptual = (
        Hash(Algorithm.PDQ, pdq_codes[0]),
        Hash(Algorithm.PHASH, np.packbits(imagehash.phash(grey.resize(_PHASH_SIZE, Image.Resampling.LANCZOS)).hash).tobytes()),
        Hash(Algorithm.DHASH, np.packbits(imagehash.dhash(grey.resize(_DHASH_SIZE, Image.Resampling.LANCZOS)).hash).tobytes()),
    )
    return PictureHashes(
        path=path,
        hashes=digests + perceptual,
        pdq_quality=quality,
        pdq_orientations=tuple(pdq_codes) if orientations else (),
        size_bytes=len(content),
        mime_type=mime_type,
        width=picture.width,
        height=picture.height,
    )


def _read(path: Path) -> tuple[bytes, tuple[Hash, ...]]:
    """Read a file once: the bytes to decode and the digests of the same bytes, even if somebody is writing to it meanwhile."""
    if path.is_dir():
        raise _UnfitError("a folder, not a picture file" if any(path.iterdir()) else "an empty folder")
    with open(path, "rb", buffering=0, opener=_open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise _UnfitError("not a regular file")
        content = bytearray(file.read(_READ_BYTES))
        if not content:
            raise _UnfitError("an empty file")
        if not _looks_like_picture(content):
            raise _UnfitError("not a picture: neither JPEG, PNG, WebP, GIF, TIFF nor BMP")
        hashers = [(algorithm, hashlib.new(algorithm.value, content, usedforsecurity=False)) for algorithm in _DIGESTS]
        while chunk := file.read(_READ_BYTES):
            content += chunk
            if max(len(content), status.st_size) > MAX_FILE_BYTES:
                size = max(len(content), status.st_size)
                raise _UnfitError(f"too large a file: {size:,} bytes, the limit is {MAX_FILE_BYTES:,}")
            for _, hasher in hashers:
                hasher.update(chunk)
    return bytes(content), tuple(Hash(algorithm, hasher.digest()) for algorithm, hasher in hashers)


def _open_without_waiting(path: str, flags: int) -> int:
    """Open, but do not wait for ever for somebody to write into a named pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


_DIGESTS: Final = (Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA256)


def _looks_like_picture(start: bytes | bytearray) -> bool:
    """Tell by the first bytes, so that a film of many gigabytes is not read to the end to find that it is none."""
    return (start[:4] == b"RIFF" and start[8:12] == b"WEBP") or start.startswith(_FIRST_BYTES)


_FIRST_BYTES: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM")


# --- decoding ---

_pillow_lock = threading.Lock()


@contextmanager
def _pillow() -> Iterator[None]:
    """Keep Pillow's warnings off the terminal and its own size limit out of ours; both are state of the whole process, hence the lock."""
    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _decode(content: bytes) -> tuple[Image.Image, str]:
    """Decode a picture as it is shown: mode "L" or "RGB", turned upright. Also its MIME type."""
    try:
        with _pillow():
            picture = Image.open(io.BytesIO(content), formats=_FORMATS)
            _check_pixels(picture)
            mime_type = "image/jpeg" if picture.format == _MPO else Image.MIME[str(picture.format)]
            picture.load()
            return _flat(_upright(picture)), mime_type
    except (_UnfitError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise _UnfitError("truncated or damaged: it begins like a picture and does not go on like one") from None
    except Exception as error:  # noqa: BLE001 - decoders of hostile files raise anything, from IndexError to zlib.error
        if _ends_early(content, error):
            raise _UnfitError("truncated: the file ends before the picture does") from None
        what = " ".join(str(error).split()) or type(error).__name__
        raise _UnfitError(f"damaged: {what}") from None


def _check_pixels(picture: Image.Image) -> None:
    pixels = picture.width * picture.height
    if pixels > MAX_PIXELS:
        raise _UnfitError(f"too large a picture: {pixels:,} pixels, the limit is {MAX_PIXELS:,}")


def _ends_early(content: bytes, error: Exception) -> bool:
    if content.startswith(b"RIFF"):
        # WebP's decoder only says that it failed; the file says how long it should be.
        return int.from_bytes(content[4:8], "little") + 8 > len(content)
    return isinstance(error, EOFError) or "truncated" in str(error).lower()


def _upright(picture: Image.Image) -> Image.Image:
    try:
        orientation = picture.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # noqa: BLE001 - the parser of a hostile block raises anything
        return picture  # as viewers then show it
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return picture if turn is None else picture.transpose(turn)


def _flat(picture: Image.Image) -> Image.Image:
    """Bring any mode to "L" or "RGB", 8 bits a channel, nothing transparent."""
    if picture.mode.startswith("I;16"):
        # The high byte, as Pillow itself takes it from 16-bit colour. (Its own conversion has cut off at 255 in some versions.)
        return Image.fromarray((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8))
    if picture.mode in {"I", "F"}:
        return _stretched(picture)
    if picture.has_transparency_data:
        layers = picture.convert("RGBA")
        page = Image.new("RGB", picture.size, _BACKGROUND)
        page.paste(layers, mask=layers.getchannel("A"))
        return page
    # Converting into the mode it has would copy it.
    wanted = "L" if picture.mode in {"1", "L"} else "RGB"
    return picture if picture.mode == wanted else picture.convert(wanted)


def _stretched(picture: Image.Image) -> Image.Image:
    """Bring 32-bit numbers, whose range nobody states, to 0..255: darkest black, brightest white."""
    values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
    darkest, brightest = values.min(), values.max()
    scale = 255.0 / (brightest - darkest) if brightest > darkest else 0.0
    return Image.fromarray(np.rint((values - darkest) * scale).astype(np.uint8))


# --- PDQ: the library, or its compiled twin when there is enough to do ---

_bulk_pixels = 0  # hashed by this process with pdqhash on behalf of `hash_pictures`


def _pdq(picture: Image.Image, *, orientations: bool, bulk: bool) -> tuple[list[bytes], int]:
    """PDQ codes (one, or eight) and quality. Both ways give the same bits; only time and memory differ.

    The compiled blur is several times faster but takes seconds to load, so a worker process loads it once it has spent as long on
    `pdqhash`: by then it is likely to have as much still before it.
    """
    global _bulk_pixels  # noqa: PLW0603 - it counts what this process has done
    pixels = picture.width * picture.height
    _bulk_pixels += pixels if bulk else 0
    if pixels > COMPILED_PDQ_PICTURE_PIXELS or _bulk_pixels > COMPILED_PDQ_BULK_PIXELS:
        # RuntimeError: numba finds no folder it may write its cache to.
        with suppress(ImportError, RuntimeError):
            from vidfed.index.hashing.pdq import pdq  # noqa: PLC0415 - slow to load, see above

            array = np.asarray(picture)
            return pdq(array.reshape(picture.height, picture.width, -1), orientations=orientations)
    array = np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
    if orientations:
        vectors, quality = pdqhash.compute_dihedral(array)
    else:
        vector, quality = pdqhash.compute(array)
        vectors = [vector]
    return [np.packbits(vector).tobytes() for vector in vectors], int(quality)


# --- many files ---


def _walk(folder: Path, walked: set[tuple[int, int]]) -> Iterator[Path]:
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in walked:
            return
        walked.add((status.st_dev, status.st_ino))
        entries = sorted(folder.iterdir())
    except OSError:
        yield folder  # hashing it will say what is wrong
        return
    for entry in entries:
        if entry.is_dir():
            yield from _walk(entry, walked)
        else:
            yield entry


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _start_worker() -> None:
    # Ctrl-C reaches the whole process group. The parent ends the workers; they have nothing to say about it.
    signal(SIGINT, SIG_IGN)
    pthread_sigmask(SIG_SETMASK, ())
    _keep_memory()


def _keep_memory() -> None:
    """Let Pillow keep 128 MB between pictures: fresh memory for each costs about as much as decoding it."""
    Image.core.set_blocks_max(8)  # type: ignore[attr-defined]  # described in Pillow's reference, "Block allocator"


def _hash_in_worker(path: Path, orientations: bool) -> HashingResult:
    return _hash(path, orientations=orientations, bulk=True)


class _Workers:
    """Worker processes that are started on first use, and replaced after one of them was killed."""

    def __init__(self, processes: int, *, orientations: bool) -> None:
        self._processes = processes
        self._orientations = orientations
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, path: Path) -> Future[HashingResult]:
        # A new process inherits the blocked signal and so cannot trip over Ctrl-C before it ignores it. It is not lost to us: other
        # threads have it.
        before = pthread_sigmask(SIG_BLOCK, {SIGINT})
        try:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(self._processes, mp_context=get_context("spawn"), initializer=_start_worker)
            try:
                return self._pool.submit(_hash_in_worker, path, self._orientations)
            except BrokenProcessPool as error:
                failed: Future[HashingResult] = Future()
                failed.set_exception(error)
                return failed
        finally:
            pthread_sigmask(SIG_SETMASK, before)

    def close(self) -> None:
        """End the workers at once, whatever they are doing."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        workers = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join()


def _hash_in_workers(paths: Iterator[Path], *, orientations: bool, processes: int) -> Generator[HashingResult]:
    workers = _Workers(processes, orientations=orientations)
    alone = _Workers(1, orientations=orientations)
    handed_out: deque[tuple[Path, Future[HashingResult]]] = deque()
    try:
        while True:
            handed_out.extend((path, workers.submit(path)) for path in islice(paths, processes * _QUEUE_PER_PROCESS - len(handed_out)))
            if not handed_out:
                return
            path, future = handed_out.popleft()
            try:
                result = future.result()
            except BrokenProcessPool:
                # A worker was killed, which breaks the pool and does not say whose fault it was: try again, one at a time.
                result = _hash_alone(path, alone)
                if all(pending.done() for _, pending in handed_out):
                    workers.close()
            yield result
    finally:
        workers.close()
        alone.close()


def _hash_alone(path: Path, alone: _Workers) -> HashingResult:
    try:
        return alone.submit(path).result()
    except BrokenProcessPool:
        alone.close()
        return PictureFailure(path, "hashing it got the process killed, perhaps for lack of memory")
