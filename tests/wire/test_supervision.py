"""A task that must not end begins anew when it does, and says so."""

from __future__ import annotations

import asyncio
import logging

import pytest

from vidfed.rpc.supervision import supervise


@pytest.mark.parametrize("end", [ZeroDivisionError, None], ids=["a defect", "an end"])
async def test_a_task_that_ends_begins_anew_and_raises_an_alarm(end: type[Exception] | None, caplog: pytest.LogCaptureFixture) -> None:
    began, failures, thrice = 0, 0, asyncio.Event()

    async def work() -> None:
        nonlocal began
        began += 1
        if began == 3:
            thrice.set()
            await asyncio.Event().wait()
        if end is not None:
            raise end

    def count() -> None:
        nonlocal failures
        failures += 1

    task = asyncio.create_task(supervise("rounds", work, count, first_pause_s=0))
    await thrice.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert failures == 2
    assert [(record.levelno, "ALARM: rounds" in record.getMessage()) for record in caplog.records] == [(logging.ERROR, True)] * 2


async def test_the_pause_between_failures_grows_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    enough = 9
    sleep = asyncio.sleep

    async def paused(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == enough:
            raise asyncio.CancelledError
        await sleep(0)

    async def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("asyncio.sleep", paused)
    with pytest.raises(asyncio.CancelledError):
        await supervise("rounds", broken)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
