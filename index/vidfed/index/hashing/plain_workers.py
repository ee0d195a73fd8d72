"""Hashing by worker processes where descriptors cannot be handed over and there are no walls to put up: Windows.

A worker is told paths on its standard input and answers on its standard output, in the messages of `worker`; what it says is believed as
little as there. It is a process of its own, without this one's environment and keys in memory, and it is ended if it takes too long; but it
runs with the rights of the person who started it, so a file that takes over a decoder there can do what that person can.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vidfed.index.errors import HashingError
from vidfed.index.hashing import jobs
from vidfed.index.hashing.digests import UnreadableError, open_regular
from vidfed.index.hashing.results import FileFailure, Note, Reason
from vidfed.index.hashing.worker import LENGTH_BYTES, answer, read_options

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from concurrent.futures import Future

    from vidfed.index.hashing.one_file import Options
    from vidfed.index.hashing.results import HashingResult

_START: Final = "from vidfed.index.hashing.plain_workers import main; main()"
_AHEAD_PER_WORKER: Final = 4
_MAX_ANSWER_BYTES: Final = 4 << 20
_TRIES: Final = 2


def main() -> None:
    """Serve until standard input ends: a line of JSON for each file, answered as `worker` does."""
    from vidfed.index.hashing.decode import prepare  # noqa: PLC0415 - only the worker decodes
    from vidfed.index.hashing.one_file import hash_picture_bytes  # noqa: PLC0415
    from vidfed.index.hashing.perceptual import Hasher  # noqa: PLC0415

    options = read_options(json.loads(sys.argv[1]))
    prepare()
    hasher = Hasher(orientations=options.orientations, full_size=options.full_size)
    out = sys.stdout.buffer

    def send(message: dict[str, Any]) -> None:
        content = json.dumps(message).encode()
        out.write(len(content).to_bytes(LENGTH_BYTES) + content)
        out.flush()

    send({"ready": ["process"]})
    for line in sys.stdin.buffer:
        try:
            file = open_regular(Path(json.loads(line)))
        except UnreadableError as error:
            send({"unreadable": [error.note.reason.value, error.note.text]})
            continue
        try:
            answer(send, file, lambda content: hash_picture_bytes(content, hasher, options))
        finally:
            os.close(file)


class PlainPool:
    """Worker processes, each with a thread that talks to it."""

    def __init__(self, options: Options, processes: int) -> None:
        self._options = options
        self._processes = processes
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="hashing")
        self._idle: deque[_Worker] = deque()
        self._all: set[_Worker] = set()
        self._lock = threading.Lock()
        self._closed = False

    def run(self, paths: Iterator[Path]) -> Generator[HashingResult]:
        """Yield what is found about each file, in order.

        Raises:
            HashingError: no worker can be started.
        """
        ahead: deque[Future[HashingResult]] = deque()
        for path in paths:
            ahead.append(self._threads.submit(self._hash, path))
            if len(ahead) >= self._processes * _AHEAD_PER_WORKER:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        with self._lock:
            self._closed = True
            for worker in self._all:
                worker.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._all:
            worker.end()

    def _hash(self, path: Path) -> HashingResult:
        job = jobs.Job(0, path)
        note = Note(Reason.DECODER_DIED, "hashing was stopped")
        for _ in range(_TRIES):
            worker = self._take()
            try:
                result = worker.hash(job)
            except (EOFError, OSError, KeyError, TypeError, ValueError, AttributeError):
                status = worker.end()
                with self._lock:
                    self._all.discard(worker)
                note = jobs.cause(status, overdue=worker.overdue)
                if worker.overdue or self._closed:
                    break
            else:
                self._idle.append(worker)
                return result
        return jobs.without_codes(job, note)

    def _take(self) -> _Worker:
        with suppress(IndexError):
            return self._idle.pop()
        with self._lock:
            if self._closed:
                raise HashingError("hashing was stopped")
            worker = _Worker(self._options)
            self._all.add(worker)
        worker.wait_until_ready()
        return worker


class _Worker:
    """One worker process."""

    def __init__(self, options: Options) -> None:
        arguments = json.dumps({"orientations": options.orientations, "full_size": options.full_size})
        self.overdue = False
        self._process = subprocess.Popen(  # noqa: S603 - this very Python
            [sys.executable, "-c", _START, arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # Ctrl-C reaches the parent alone, which ends its workers
        )

    def wait_until_ready(self) -> None:
        try:
            self._receive(jobs.MAX_START_S)
        except (EOFError, OSError, ValueError):
            raise HashingError(f"the process that decodes pictures cannot be started: exit status {self.end()}") from None

    def hash(self, job: jobs.Job) -> HashingResult:
        """Have one file hashed.

        Raises:
            EOFError, OSError, KeyError, TypeError, ValueError, AttributeError: the worker has gone, or says what no worker says.
        """
        job.digests = None
        assert self._process.stdin is not None  # noqa: S101 - a pipe, see above
        self._process.stdin.write(json.dumps(str(job.path)).encode() + b"\n")
        self._process.stdin.flush()
        message = self._receive(None)
        if "unreadable" in message:
            reason, text = message["unreadable"]
            return FileFailure(job.path, Note(Reason(reason), str(text)))
        jobs.check_digests(message)
        job.digests = message
        return jobs.file_hashes(job, self._receive(jobs.MAX_SHOWN_S)["shown"])

    def kill(self) -> None:
        with suppress(OSError):
            self._process.kill()

    def end(self) -> int:
        """End it at once; return its exit status."""
        if self._process.poll() is None and not self.overdue:
            with suppress(subprocess.TimeoutExpired):  # it may be about to die by itself, and say why
                self._process.wait(0.2)
        self.kill()
        status = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        return status

    def _receive(self, limit_s: float | None) -> dict[str, Any]:
        timer = threading.Timer(limit_s, self._give_up) if limit_s else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            length = int.from_bytes(self._read(LENGTH_BYTES))
            if length > _MAX_ANSWER_BYTES:
                raise EOFError
            message = json.loads(self._read(length))
        finally:
            if timer is not None:
                timer.cancel()
        if not isinstance(message, dict):
            raise EOFError  # noqa: TRY004 - it is as good as gone
        return message

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None  # noqa: S101 - a pipe, see above
        content = self._process.stdout.read(count)
        if len(content) < count:
            raise EOFError
        return content

    def _give_up(self) -> None:
        self.overdue = True
        self.kill()


def _environment() -> dict[str, str]:
    """What a worker may know of this process's environment: as elsewhere, and what Windows needs to start a program at all."""
    needed = {name: os.environ[name] for name in ("SYSTEMROOT", "TEMP", "TMP") if name in os.environ}
    return {**jobs.worker_environment(), **needed}
