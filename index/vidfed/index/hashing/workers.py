"""Many files, hashed by worker processes: in order, in constant memory, and none lost to a decoder that dies.

The process that calls this holds keys and never decodes. It opens the files and hands them to workers, which are started afresh, walled in
(see `sandbox`) and ended with the iterator; none outlives the process that started it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from vidfed.cli.system import POSIX, available_processors
from vidfed.index.errors import HashingError
from vidfed.index.hashing.digests import UnreadableError, open_regular
from vidfed.index.hashing.film.hashing import with_frames
from vidfed.index.hashing.jobs import (
    MAX_SHOWN_S,
    MAX_START_S,
    Job,
    cause,
    check_digests,
    file_hashes,
    without_codes,
    worker_environment,
)
from vidfed.index.hashing.one_file import Options
from vidfed.index.hashing.results import FileFailure, FileHashes, HashingResult, Note, Reason
from vidfed.index.hashing.worker import LENGTH_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from pathlib import Path

FEW_FILES: Final = 4
"""So many files are worth a worker process of their own, which takes half a second to start."""

MAX_PROCESSES: Final = 256
"""Worker processes at most, on a machine of many cores."""

_START = "from vidfed.index.hashing.worker import main; main()"
_AHEAD_PER_WORKER: Final = 3  # files handed to a worker at a time, so that it does not wait for its parent
_WINDOW_PER_WORKER: Final = 16  # files handed out or done ahead of the one awaited, while one large picture holds up the order
_MAX_ANSWER_BYTES: Final = 4 << 20
_TRIES: Final = 2  # a worker may have died for lack of memory that was another's fault


def hash_files(
    paths: Iterable[Path],
    *,
    orientations: bool = False,
    full_size: bool = False,
    processes: int | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_film: Callable[[int, int], None] | None = None,
) -> Generator[HashingResult]:
    """Hash files: digests of all that can be read, perceptual codes of what is a picture or a film.

    Films are decoded one after the other, each by all processors, by ffmpeg in a process of its own (see `film`).

    Args:
        paths: files, as `find_files` lists them; taken from the iterable as they are needed.
        orientations: also compute the PDQ of the seven turned and mirrored forms, and look at more frames of films: for a lookup.
        full_size: never decode a JPEG at reduced size.
        processes: how many workers; by default one per available processor core.
        on_progress: called with the number of files done so far, after each.
        on_film: called while a film is decoded, with the milliseconds of it that are done, and all of them, 0 where that is not known.

    Yields:
        For every path, in order, its hashes or why there are none. A file that a worker dies of has its digests and a note; the others
        are hashed all the same.

    Raises:
        HashingError: no worker process can be started.
    """
    most = min(processes or available_processors(), MAX_PROCESSES)
    remaining = iter(paths)
    head = list(islice(remaining, most * FEW_FILES))
    if not head:
        return
    pool = _new_pool(Options(orientations=orientations, full_size=full_size), -(-len(head) // FEW_FILES))
    try:
        for done, result in enumerate(pool.run(chain(head, remaining)), start=1):
            hashed = with_frames(result, asked=orientations, on_progress=on_film) if isinstance(result, FileHashes) else result
            if on_progress is not None:
                on_progress(done)
            yield hashed
    finally:
        pool.close()


def hash_file(path: Path, *, orientations: bool = False, full_size: bool = False) -> HashingResult:
    """Hash one file, as `hash_files` does."""
    (result,) = hash_files([path], orientations=orientations, full_size=full_size)
    return result


def standing_walls() -> tuple[str, ...]:
    """Start a worker and return what holds it in, of `limits`, `namespace`, `landlock`, `seccomp` (see `sandbox`); on Windows `process`.

    Raises:
        HashingError: it does not start.
    """
    if not POSIX:
        return ("process",)
    worker = _Worker(Options())
    try:
        worker.wait_until_ready()
        return worker.walls
    finally:
        worker.end()


class Pool(Protocol):
    """Workers for the files of one call."""

    def run(self, paths: Iterator[Path]) -> Generator[HashingResult]:
        """Yield what is found about each file, in order."""

    def close(self) -> None:
        """End the workers."""


def _new_pool(options: Options, processes: int) -> Pool:
    if POSIX:
        return _Pool(options, processes=processes)
    from vidfed.index.hashing.plain_workers import PlainPool  # noqa: PLC0415 - for systems without POSIX's ways only

    return PlainPool(options, processes)


class _Worker:
    """One worker process and what it was given to do."""

    def __init__(self, options: Options) -> None:
        ours, theirs = socket.socketpair()
        arguments = json.dumps({"orientations": options.orientations, "full_size": options.full_size})
        self._complaints = os.memfd_create("complaints")
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - this very Python
                [sys.executable, "-c", _START, str(theirs.fileno()), str(os.getpid()), arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
                pass_fds=(theirs.fileno(),),
                env=worker_environment(),
                process_group=0,  # Ctrl-C reaches the parent alone, which ends its workers
            )
        self.connection = ours
        self.connection.setblocking(False)
        self.jobs: deque[Job] = deque()
        self.walls: tuple[str, ...] = ()
        self.deadline_s = time.monotonic() + MAX_START_S
        self.overdue = False
        self._received = bytearray()

    @property
    def ready(self) -> bool:
        return bool(self.walls)

    def give(self, job: Job, descriptor: int) -> None:
        """Hand it an open file."""
        self.connection.setblocking(True)
        try:
            socket.send_fds(self.connection, [b"f"], [descriptor])
        finally:
            self.connection.setblocking(False)
        self.jobs.append(job)

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield what has arrived.

        Raises:
            EOFError: the worker has gone, or says what no worker says.
        """
        gone = False
        try:
            while chunk := self.connection.recv(1 << 16):
                self._received += chunk
            gone = True
        except BlockingIOError:
            pass
        except OSError:
            gone = True
        while len(self._received) >= LENGTH_BYTES:
            length = int.from_bytes(self._received[:LENGTH_BYTES])
            if length > _MAX_ANSWER_BYTES:
                raise EOFError
            if len(self._received) < LENGTH_BYTES + length:
                break
            content = bytes(self._received[LENGTH_BYTES : LENGTH_BYTES + length])
            del self._received[: LENGTH_BYTES + length]
            try:
                message = json.loads(content)
            except (ValueError, RecursionError):
                raise EOFError from None
            if not isinstance(message, dict):
                raise EOFError  # noqa: TRY004 - it is as good as gone
            yield message
        if gone:
            raise EOFError

    def wait_until_ready(self) -> None:
        while not self.ready:
            if not select.select([self.connection], [], [], MAX_START_S)[0]:
                raise HashingError("the process that decodes pictures does not start")
            try:
                for message in self.messages():
                    self.walls = _walls(message)
            except EOFError:
                raise HashingError(self.why_not_started()) from None

    def why_not_started(self) -> str:
        self.end()
        return f"the process that decodes pictures cannot be started: {self._last_complaint}"

    def end(self) -> int:
        """End it at once, whatever it is doing; return its exit status, negative for a signal."""
        self.connection.close()
        if self._process.poll() is None:
            with suppress(subprocess.TimeoutExpired):  # it may be about to die by itself, and say why
                self._process.wait(0 if not self.overdue and self.ready and not self.jobs else 0.2)
        with suppress(ProcessLookupError):
            self._process.kill()
        status = self._process.wait()
        if self._complaints >= 0:
            size = os.fstat(self._complaints).st_size
            text = os.pread(self._complaints, 4096, max(0, size - 4096)).decode(errors="replace").strip()
            self._last_complaint = text.splitlines()[-1] if text else f"exit status {status}"
            os.close(self._complaints)
            self._complaints = -1
        return status


@dataclass
class _Pool:
    options: Options
    processes: int
    _workers: list[_Worker] = field(default_factory=list)
    _again: deque[Job] = field(default_factory=deque)
    _done: dict[int, HashingResult] = field(default_factory=dict)

    def run(self, paths: Iterator[Path]) -> Generator[HashingResult]:
        jobs = (Job(number, path) for number, path in enumerate(paths))
        self._workers = [_Worker(self.options) for _ in range(self.processes)]
        awaited = handed_out = 0
        more = True
        while True:
            while more and handed_out - awaited < self.processes * _WINDOW_PER_WORKER and (worker := self._free_worker()):
                job = next(jobs, None)
                if job is None:
                    more = False
                    break
                handed_out += 1
                self._give(worker, job)
            while self._again and (worker := self._free_worker()):
                self._give(worker, self._again.popleft())
            if awaited in self._done:
                yield self._done.pop(awaited)
                awaited += 1
            elif not more and awaited == handed_out:
                return
            else:
                self._wait()

    def close(self) -> None:
        for worker in self._workers:
            worker.overdue = True
            worker.end()
        self._workers.clear()

    def _free_worker(self) -> _Worker | None:
        """Return the worker with the least to do, if it has room."""
        worker = min(self._workers, key=lambda each: len(each.jobs))
        return worker if len(worker.jobs) < _AHEAD_PER_WORKER else None

    def _give(self, worker: _Worker, job: Job) -> None:
        try:
            descriptor = open_regular(job.path)
        except UnreadableError as error:
            self._done[job.number] = FileFailure(job.path, error.note)
            return
        try:
            worker.give(job, descriptor)
        except OSError:  # it has gone; noticed when it is next listened to
            worker.jobs.append(job)
        finally:
            os.close(descriptor)

    def _wait(self) -> None:
        """Wait until a worker says something, dies, or is overdue."""
        first_s = min(worker.deadline_s for worker in self._workers)
        timeout_s = min(max(0.0, first_s - time.monotonic()), MAX_SHOWN_S)
        poll = select.poll()
        for worker in self._workers:
            poll.register(worker.connection, select.POLLIN)
        heard = {descriptor for descriptor, _ in poll.poll(int(timeout_s * 1000) + 1)}
        for place, worker in enumerate(self._workers):
            if worker.connection.fileno() in heard:
                try:
                    for message in worker.messages():
                        self._take(worker, message)
                except (EOFError, KeyError, TypeError, ValueError, AttributeError):
                    self._workers[place] = self._replace(worker)
            elif time.monotonic() > worker.deadline_s:
                worker.overdue = True
                self._workers[place] = self._replace(worker)

    def _take(self, worker: _Worker, message: dict[str, Any]) -> None:
        """Take one message of a worker, believing nothing that is not of the form agreed."""
        if not worker.ready:
            worker.walls = _walls(message)
            worker.deadline_s = float("inf")
            return
        job = worker.jobs[0]
        if "digests" in message and job.digests is None:
            check_digests(message)  # of the form agreed?
            job.digests = message
            worker.deadline_s = time.monotonic() + MAX_SHOWN_S
            return
        if "unreadable" in message and job.digests is None:
            reason, text = message["unreadable"]
            self._done[job.number] = FileFailure(job.path, Note(Reason(reason), str(text)))
        else:
            self._done[job.number] = file_hashes(job, message["shown"])
        worker.jobs.popleft()
        worker.deadline_s = float("inf")

    def _replace(self, worker: _Worker) -> _Worker:
        """Put another worker in the place of one that has gone or must go, and see to its files."""
        status = worker.end()
        if not worker.ready:
            raise HashingError(worker.why_not_started())
        if worker.jobs:
            job = worker.jobs.popleft()
            job.tries += 1
            timed_out = worker.overdue or status == -signal.SIGXCPU
            if job.tries < _TRIES and not timed_out:
                worker.jobs.appendleft(job)
            else:
                self._done[job.number] = without_codes(job, cause(status, overdue=timed_out))
        for job in reversed(worker.jobs):
            job.digests = None
            self._again.appendleft(job)
        return _Worker(self.options)


def _walls(message: dict[str, Any]) -> tuple[str, ...]:
    walls = tuple(map(str, message["ready"]))
    if not walls:
        raise ValueError
    return walls
