"""One node in several processes: each serves the same address (SO_REUSEPORT), and the kernel spreads connections over them.

This process answers nothing itself and holds no key. It starts the others as programs of their own (nothing is forked that has threads),
begins a worker that ended anew, and stops all of them. The first worker keeps the search indexes and the rounds with other members'
logs; all share records, indexes, audit log, replay memory and budgets by their files. A worker whose standard input ends has lost this
process and stops too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING

from vidfed.node.config import NodeSection
from vidfed.security.lockfile import hold_lockfile
from vidfed.wire.statuses import ServeError
from vidfed.wire.values import DRAIN_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vidfed.security.member.home import MemberHome

_START_S = 120.0  # an index may have to be read first
_PAUSE_S = 1.0  # before a worker that ended is begun anew: one that cannot start must not keep a processor busy
_log = logging.getLogger(__name__)


class Workers:
    """The processes of one node."""

    def __init__(self, command: Sequence[str], count: int) -> None:
        """Keep what to start.

        Args:
            command: of a worker; `--worker NUMBER --listen HOST:PORT` is added. It prints a line once it answers.
            count: how many; at least 1.
        """
        self._command = command
        self._count = count
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()

    async def serve(self, listen: str, on_ready: Callable[[str], None]) -> None:
        """Serve until SIGTERM or SIGINT, then let running lookups finish.

        Args:
            listen: `host:port`.
            on_ready: called with `host:port` once all workers answer.

        Raises:
            ServeError: the address cannot be used, or a worker cannot start; it has said why.
        """
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self._stopping.set)
        with _reserved(listen) as address:
            keeping: list[asyncio.Task[None]] = []
            try:
                for number in range(self._count):  # one after the other: the first makes what the others read
                    if not await self._start(number, address):
                        raise ServeError(f"worker {number} did not start; what it said stands above")
                    keeping.append(asyncio.create_task(self._keep(number, address)))
                on_ready(address)
                await self._stopping.wait()
            finally:
                self._stopping.set()
                await self._stop()
                await asyncio.gather(*keeping)

    async def _start(self, number: int, address: str) -> bool:
        """Start a worker; return whether it came to answer, or is to stop already."""
        arguments = [*self._command, "--worker", str(number), "--listen", address]
        process = await asyncio.create_subprocess_exec(*arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        self._running[number] = process
        if process.stdout is None:
            return False
        said = asyncio.create_task(process.stdout.readline())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({said, stopping}, timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        return self._stopping.is_set() or (said.done() and bool(said.result()))

    async def _keep(self, number: int, address: str) -> None:
        """Begin a worker anew whenever it ends."""
        while True:
            status = await self._running[number].wait()
            if self._stopping.is_set():
                return
            _log.error("worker %d ended with status %d; it is started again", number, status)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _PAUSE_S)
            if self._stopping.is_set():
                return
            await self._start(number, address)

    async def _stop(self) -> None:
        processes = [process for process in self._running.values() if process.returncode is None]
        for process in processes:
            process.terminate()
        try:
            async with asyncio.timeout(DRAIN_S + _PAUSE_S):
                await asyncio.gather(*(process.wait() for process in processes))
        except TimeoutError:
            _log.error("a worker did not stop in time and is killed")
            for process in processes:
                if process.returncode is None:
                    process.kill()


async def serve_with_workers(home: MemberHome, count: int, on_ready: Callable[[str], None]) -> None:
    """Serve a member's node with several processes until SIGTERM or SIGINT; see `Workers.serve`."""
    with contextlib.ExitStack() as stack:

        def announce(address: str) -> None:
            stack.enter_context(hold_lockfile(home.state_file("serving"), address))
            on_ready(address)

        command = [sys.executable, "-m", "vidfed.cli", "node", "serve", "--home", str(home.folder)]
        await Workers(command, count).serve(home.section("node", NodeSection).listen, announce)


def stop_with_parent() -> None:
    """Stop this worker, in an orderly way, when its standard input ends: the process that started it is gone."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):  # not through sys.stdin, whose lock would be held when the process ends
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


@contextlib.contextmanager
def _reserved(listen: str) -> Iterator[str]:
    """Hold an address for the workers, and give it with its port.

    Raises:
        ServeError: it is in use, or not one of this machine.
    """
    host, _, port = listen.rpartition(":")
    with contextlib.ExitStack() as stack:
        try:
            family, kind, _, _, where = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as alone:  # another service must not share the address unnoticed
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(where)
                where = alone.getsockname()
            held = stack.enter_context(socket.socket(family, kind))
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(where)
        except (OSError, ValueError):
            raise ServeError(f"cannot listen on {listen}: the address is in use, or not one of this machine") from None
        yield f"{host}:{where[1]}"
