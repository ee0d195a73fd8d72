"""Tasks that run for as long as a service does: one that ends by a defect is said so loudly and begun anew, never missed in silence."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FIRST_PAUSE_S = 1.0  # before a task that failed is begun anew; doubled at each failure
LONGEST_PAUSE_S = 60.0  # a defect that is there every time costs one log line a minute, and what passes is noticed soon
_log = logging.getLogger(__name__)


async def supervise(
    name: str, work: Callable[[], Awaitable[None]], on_failure: Callable[[], object] = lambda: None, *, first_pause_s: float = FIRST_PAUSE_S
) -> None:
    """Run a task without an end, and begin it anew whenever it ends all the same; until cancelled.

    Args:
        name: for the log.
        work: begins it.
        on_failure: called each time it has ended.
        first_pause_s: before it is begun anew; doubled each time up to LONGEST_PAUSE_S, and back at the start once it ran for that long.
    """
    loop = asyncio.get_running_loop()
    pause_s = first_pause_s
    while True:
        began_s = loop.time()
        try:
            await work()
            _log.error("ALARM: %s has ended, and should not; it begins anew", name)
        except Exception:  # noqa: BLE001 - whatever it was, the service goes on and so must this
            _log.exception("ALARM: %s ended by a defect; it begins anew", name)
        on_failure()
        if loop.time() - began_s > LONGEST_PAUSE_S:
            pause_s = first_pause_s
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
