"""A file that a worker hashes, and what is believed of what the worker says of it."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vidfed.cli.system import POSIX
from vidfed.index.algorithms import Algorithm, Hash
from vidfed.index.hashing.digests import DIGESTS, UnreadableError, open_regular, read_once
from vidfed.index.hashing.one_file import MAX_FRAME_CODES
from vidfed.index.hashing.recognise import recognise
from vidfed.index.hashing.results import FileFailure, FileHashes, HashingResult, Note, PictureCode, Reason

if TYPE_CHECKING:
    from pathlib import Path

MAX_SHOWN_S: Final = 600.0
"""So long a worker may take for what one file shows, once it has read it; the limit on its processor time is hit long before."""

MAX_START_S: Final = 120.0
"""So long a worker may take to start; compiling, once per installation, takes ten seconds on an idle machine."""

_MOST_CODES: Final = 3 * (MAX_FRAME_CODES + 64)


@dataclass(slots=True)
class Job:
    """A file to hash: its place in the order, how often it was tried, and the digests that a worker told."""

    number: int
    path: Path
    tries: int = 0
    digests: dict[str, Any] | None = None


def worker_environment() -> dict[str, str]:
    """What a worker may know of this process's environment, which may hold a passphrase: where Python's modules are."""
    passed = {name: os.environ[name] for name in ("NUMBA_CACHE_DIR", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "OPJ_NUM_THREADS", "MALLOC_ARENA_MAX"), "1")
    return {**passed, **single, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUTF8": "1", "LC_ALL": "C.UTF-8"}


def check_digests(message: dict[str, Any]) -> tuple[Hash, ...]:
    """Return the digests that a worker says, if it says them in the form agreed.

    Raises:
        KeyError, TypeError, ValueError: it does not.
    """
    if type(message["size"]) is not int:
        raise TypeError
    return tuple(Hash(algorithm, bytes.fromhex(message["digests"][algorithm.value])) for algorithm in DIGESTS)


def file_hashes(job: Job, shown: dict[str, Any]) -> FileHashes:
    """Read what a worker says a file shows.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it says it in another form than was agreed.
    """
    if job.digests is None or len(shown["codes"]) > _MOST_CODES:
        raise ValueError
    codes = tuple(
        PictureCode(
            algorithm := Algorithm(name),
            Hash(algorithm, bytes.fromhex(code)).code,
            str(kind),
            int(quality),
            tuple(Hash(algorithm, bytes.fromhex(each)).code for each in orientations),
        )
        for name, code, kind, quality, orientations in shown["codes"]
    )
    notes = tuple(Note(Reason(reason), str(text)) for reason, text in shown["notes"])
    if not codes and not notes:
        raise ValueError
    return FileHashes(
        job.path,
        check_digests(job.digests),
        job.digests["size"],
        str(shown["media_type"]),
        int(shown["width"]),
        int(shown["height"]),
        int(shown["frames"]),
        codes,
        str(shown["method"]),
        notes,
    )


def without_codes(job: Job, note: Note) -> HashingResult:
    """Return the digests of a file that a worker did not survive; they are computed here if it had not come to them."""
    try:
        descriptor = open_regular(job.path)
        try:
            if job.digests is None:
                read = read_once(descriptor, lambda _head: False)
                head, digests, size = read.head, read.digests, read.size_bytes
            else:
                head, digests, size = os.read(descriptor, 4096), check_digests(job.digests), job.digests["size"]
        finally:
            os.close(descriptor)
    except UnreadableError as error:
        return FileFailure(job.path, error.note)
    except OSError as error:
        return FileFailure(job.path, Note(Reason.UNREADABLE, f"cannot be read: {error.strerror or error}"))
    kind = recognise(head)
    return FileHashes(job.path, digests, size, kind.media_type if kind else "", notes=(note,))


def cause(status: int, *, overdue: bool) -> Note:
    """Say what a worker died of.

    Args:
        status: its exit status, negative for a signal.
        overdue: it was ended because it took too long.
    """
    if overdue:
        return Note(Reason.OUT_OF_TIME, "decoding it takes too long: it was given up")
    if POSIX and status == -signal.SIGKILL:
        return Note(Reason.DECODER_DIED, "decoding it got the process killed, perhaps for lack of memory")
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return Note(Reason.DECODER_DIED, f"its decoder crashed ({how})")
