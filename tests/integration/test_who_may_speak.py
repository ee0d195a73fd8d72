"""Who may speak to whom, and a gateway that cannot log."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.patience import PATIENCE_S
from tests.support.sockets import ScriptedNode, SocketFederation
from vidfed.federation.client.client import FederationClient
from vidfed.federation.client.transport import GrpcTransport
from vidfed.federation.lookup.errors import GatewayError, GatewayRefusedError
from vidfed.security.audit import AuditEntry, AuditLog, LogPosition, log_origin
from vidfed.security.clock import system_clock
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.errors import AuditError, UnknownMemberError
from vidfed.security.identity.replay import WINDOW_MS
from vidfed.security.member.enrolment import issue_kit
from vidfed.v1.envelope_pb2 import Envelope as EnvelopeMessage

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.security.crypto.keys import Signer
    from vidfed.v1.lookup_pb2 import LookupCall

from tests.integration.lying import PART, WHY, look_up


async def test_an_investigator_of_another_member_is_refused_by_the_gateway(federation: SocketFederation) -> None:
    kit = await federation.start_gateway("nl")
    stranger = issue_kit(federation.homes["fr"], federation.folder / "stranger", gateway=kit.gateway)
    directory = federation.administrators.directory()
    stranger.member = "nl"
    async with FederationClient(stranger, transport=GrpcTransport(stranger, directory)) as client:
        with pytest.raises(GatewayRefusedError, match="investigators of nl only"):
            await client.lookup(PART, WHY)


async def test_a_node_is_no_investigator(federation: SocketFederation) -> None:
    kit = await federation.start_gateway("nl")
    kit.tls = federation.homes["nl"].node_tls()
    with pytest.raises(GatewayRefusedError):
        await look_up(kit)


async def test_an_investigator_with_a_colleague_s_certificate_is_refused(federation: SocketFederation) -> None:
    kit = await federation.start_gateway("nl")
    kit.tls = issue_kit(federation.homes["nl"], federation.folder / "colleague", gateway=kit.gateway).tls
    with pytest.raises(GatewayRefusedError, match="another person"):
        await look_up(kit)


async def test_an_investigator_who_asks_in_another_s_name_is_refused(federation: SocketFederation) -> None:
    kit = await federation.start_gateway("nl")
    kit.pseudonym = "inv-other"
    with pytest.raises(GatewayRefusedError, match="another federation, member or person"):
        await look_up(kit)


async def test_an_investigator_with_another_key_is_refused(federation: SocketFederation) -> None:
    kit = await federation.start_gateway("nl")
    kit.signer = SigningKey.generate()
    with pytest.raises(GatewayRefusedError, match="no signature"):
        await look_up(kit)


async def test_a_question_from_another_time_is_refused_by_the_gateway_already(federation: SocketFederation) -> None:
    async with FederationClient(await federation.start_gateway("nl"), clock=lambda: system_clock() + 2 * WINDOW_MS) as client:
        await client.refresh_directory()
        with pytest.raises(GatewayRefusedError, match="ahead of the time here: one of the two clocks is wrong"):
            await client.lookup(PART, WHY)


async def test_asking_for_nobody_known_is_an_error(federation: SocketFederation) -> None:
    with pytest.raises(UnknownMemberError, match="xx"):
        await look_up(await federation.start_gateway("nl"), "xx")


async def test_no_gateway_is_an_error_and_no_result(federation: SocketFederation) -> None:
    with pytest.raises(GatewayError, match="cannot be reached"):
        await look_up(issue_kit(federation.homes["nl"], federation.folder / "kit", gateway="127.0.0.1:1"))


def of_nl(federation: SocketFederation) -> tuple[str, Signer]:
    """Name and key of a log of nl."""
    home = federation.homes["nl"]
    return log_origin(home.federation, home.member), home.audit_signer


class UnwritableLog(AuditLog):
    def append(self, _entry: AuditEntry) -> LogPosition:
        raise AuditError("audit log: disk full")


async def test_a_gateway_that_cannot_log_asks_nobody(federation: SocketFederation, tmp_path: Path) -> None:
    asked: list[LookupCall] = []

    async def record(call: LookupCall) -> EnvelopeMessage:
        asked.append(call)
        return EnvelopeMessage()

    await federation.start_node("fr", ScriptedNode(record))
    log = UnwritableLog(tmp_path / "unwritable.db", *of_nl(federation))
    kit = await federation.start_gateway("nl", federation.gateway("nl", audit=log))
    with pytest.raises((GatewayError, GatewayRefusedError)):
        await look_up(kit)
    assert asked == []
    log.close()


class SlowLog(AuditLog):
    """A log on a disk that takes its time: an append waits until it may go on."""

    def __init__(self, path: Path, origin: str, signer: Signer) -> None:
        super().__init__(path, origin, signer)
        self.entered, self.may_go_on = threading.Event(), threading.Event()

    def append(self, entry: AuditEntry) -> LogPosition:
        self.entered.set()
        assert self.may_go_on.wait(PATIENCE_S)
        return super().append(entry)


async def test_a_slow_disk_does_not_stop_the_gateway_for_others(federation: SocketFederation, tmp_path: Path) -> None:
    log = SlowLog(tmp_path / "slow.db", *of_nl(federation))
    kit = await federation.start_gateway("nl", federation.gateway("nl", audit=log))
    async with FederationClient(kit) as client, FederationClient(kit) as other:
        waiting = asyncio.create_task(client.lookup(PART, WHY))
        assert await asyncio.to_thread(log.entered.wait, 20)
        assert (await other.refresh_directory()).members
        log.may_go_on.set()
        assert (await waiting).complete
    log.close()
