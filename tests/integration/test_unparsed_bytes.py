"""Bytes that are no message, sent to a real node: a fixed refusal for the caller, a line a minute in the log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from vidfed.rpc.parsing import LINE_EVERY_S, LineLimiter

if TYPE_CHECKING:
    from tests.support.sockets import ServedNode

GARBAGE = b"\xff" * 50


async def refused(channel: grpc.aio.Channel, method: str, *, stream: bool) -> tuple[grpc.StatusCode, str]:
    call: Any = channel.stream_unary(method)(iter([GARBAGE])) if stream else channel.unary_unary(method)(GARBAGE)  # type: ignore[arg-type]
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), raised.value.details() or ""


async def test_bytes_that_do_not_parse_cost_a_line_a_minute(served: ServedNode, caplog: pytest.LogCaptureFixture) -> None:
    async with served.channel("nl") as channel:
        for _ in range(30):
            assert await refused(channel, "/vidfed.v1.NodeService/Lookup", stream=False) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                "not a message of this call",
            )
            assert await refused(channel, "/vidfed.v1.NodeService/LookupStream", stream=True) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                "not a message of this call",
            )
    (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "refused 1 calls of nl" in line.getMessage()
    assert not line.exc_info


def test_the_next_line_says_how_often_it_happened_since() -> None:
    now_s = 0.0
    lines = LineLimiter(lambda: now_s)
    assert [lines.due("nl") for _ in range(5)] == [1, None, None, None, None]
    assert lines.due("fr") == 1
    now_s = LINE_EVERY_S
    assert lines.due("nl") == 5


def test_what_is_remembered_of_callers_is_bounded() -> None:
    now_s = 0.0
    lines = LineLimiter(lambda: now_s)
    for number in range(3_000):
        now_s += 1.0
        lines.due(str(number))
    assert len(lines._silent) <= 1_001
