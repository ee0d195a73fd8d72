"""The schedule in the service: one source at a time, each in a process of its own, so that lookups never wait for one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import TYPE_CHECKING

from vidfed.node.sources.follow import history_path
from vidfed.node.sources.overview import chance_of
from vidfed.node.sources.schedule.history import read_history
from vidfed.node.sources.schedule.times import next_ms
from vidfed.security.clock import SECOND_MS, Clock, system_clock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vidfed.node.sources.settings import SourceSettings
    from vidfed.security.member.home import MemberHome

LOOK_S = 5.0
"""Seconds between two looks at what is due."""
_STOP_S = 10.0
_log = logging.getLogger(__name__)


class SourceRounds:
    """Follows a member's sources for as long as it runs."""

    def __init__(
        self, home: MemberHome, sources: Mapping[str, SourceSettings], *, clock: Clock = system_clock, look_s: float = LOOK_S
    ) -> None:
        self._home = home
        self._sources = sources
        self._clock = clock
        self._look_s = look_s

    def due(self, now_ms: int) -> list[str]:
        """Return the sources that are due, the one due longest first."""
        times = []
        for name, settings in self._sources.items():
            run = read_history(history_path(self._home, name)).run
            times.append((next_ms(run, settings.section.every_s, chance_of(self._home, name, run.attempted_ms)), name))
        return [name for due_ms, name in sorted(times) if due_ms <= now_ms]

    def command(self, name: str) -> Sequence[str]:
        """Return what follows one source."""
        return [
            sys.executable,
            "-m",
            "vidfed.cli",
            "node",
            "source",
            "sync",
            name,
            "--home",
            str(self._home.folder.absolute()),
            "--scheduled",
        ]

    async def run(self) -> None:
        """Follow them until cancelled; a run that goes on then is ended, and changes nothing."""
        while True:
            for name in self.due(self._clock()):
                try:
                    await self._follow(name)
                except OSError as error:
                    _log.error("source %s: cannot be started: %s", name, error.strerror)
            await asyncio.sleep(self._look_s)

    async def _follow(self, name: str) -> None:
        began_ms = self._clock()
        process = await asyncio.create_subprocess_exec(
            *self.command(name), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        try:
            _, said = await process.communicate()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _STOP_S)
            if process.returncode is None:
                process.kill()
                await process.wait()
            raise
        seconds = (self._clock() - began_ms) / SECOND_MS
        if process.returncode:
            words = said.decode("utf-8", "replace").strip().splitlines()
            _log.warning("source %s: failed after %.1f s: %s", name, seconds, words[-1][:500] if words else f"status {process.returncode}")
        else:
            _log.info("source %s: followed in %.1f s", name, seconds)
