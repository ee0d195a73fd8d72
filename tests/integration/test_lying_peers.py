"""Nodes and gateways that lie, hang, break off or talk nonsense, over real sockets: each is named, and none looks like 'no match'."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import threading
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.support.sockets import ScriptedNode, SocketFederation, no_hit
from vidfed.federation.client.client import FederationClient
from vidfed.federation.client.transport import GrpcTransport
from vidfed.federation.gateway.service import GatewayServicer
from vidfed.federation.lookup.errors import GatewayError, GatewayRefusedError
from vidfed.federation.lookup.outcome import Outcome
from vidfed.federation.lookup.question import Item, Justification, split
from vidfed.index import Algorithm
from vidfed.rpc.channels import open_channel
from vidfed.security.audit import AuditEntry, AuditLog, LogPosition, log_origin
from vidfed.security.clock import system_clock
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.errors import AuditError, DirectoryError, UnknownMemberError
from vidfed.security.identity.replay import WINDOW_MS
from vidfed.security.member.enrolment import issue_kit
from vidfed.security.trust.client import TufDirectory
from vidfed.security.trust.mirrors import FolderMirror
from vidfed.v1 import gateway_pb2 as pb
from vidfed.v1 import lookup_pb2_grpc as rpc
from vidfed.v1.envelope_pb2 import Envelope as EnvelopeMessage
from vidfed.v1.lookup_pb2 import LookupCall
from vidfed.wire.values import MAX_MESSAGE_BYTES, FailureKind, Purpose

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from vidfed.federation.lookup.outcome import NodeOutcome
    from vidfed.federation.lookup.result import LookupResult
    from vidfed.security.crypto.keys import Signer
    from vidfed.security.member.kit import Kit

WHY = Justification(Purpose.IDENTIFICATION, "test law", "T-1")
(PART,) = split([Item("photo.jpg", {Algorithm.SHA256: (bytes(32),), Algorithm.PDQ: (bytes(32),)})], {})


async def look_up(kit: Kit, *ask: str, deadline_s: float = 10.0, on_node: Callable[[NodeOutcome], None] = lambda _: None) -> LookupResult:
    async with FederationClient(kit) as client:
        await client.refresh_directory()
        return await client.lookup(PART, WHY, ask=ask, deadline_s=deadline_s, on_node=on_node)


def outcomes(result: LookupResult) -> dict[str, Outcome]:
    return {node.member: node.outcome for node in result.nodes}


async def test_honest_nodes_and_an_honest_gateway_give_a_complete_result(federation: SocketFederation) -> None:
    result = await look_up(await federation.start_gateway("nl"))
    assert outcomes(result) == {"fr": Outcome.NO_MATCH, "nl": Outcome.NO_MATCH}
    assert result.complete


# --- nodes ---


async def silent(_: LookupCall) -> EnvelopeMessage:
    await asyncio.Event().wait()
    raise AssertionError


async def unsigned(call: LookupCall) -> EnvelopeMessage:
    message = no_hit(call, "fr", SigningKey.generate(), SigningKey.generate())
    del message.signatures[:]
    return message


async def wrong_key(call: LookupCall) -> EnvelopeMessage:
    return no_hit(call, "fr", SigningKey.generate(), SigningKey.generate())


async def nothing(_: LookupCall) -> EnvelopeMessage:
    return EnvelopeMessage()


async def echo(call: LookupCall) -> EnvelopeMessage:
    return call.request


async def broken(_: LookupCall) -> EnvelopeMessage:
    raise ZeroDivisionError


async def endless(_: LookupCall) -> EnvelopeMessage:
    return EnvelopeMessage(payload=bytes(2 * MAX_MESSAGE_BYTES))


async def large(_: LookupCall) -> EnvelopeMessage:
    return EnvelopeMessage(payload=bytes(MAX_MESSAGE_BYTES + 1))


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (wrong_key, Outcome.BAD_SIGNATURE),
        (unsigned, Outcome.BAD_SIGNATURE),
        (nothing, Outcome.BAD_SIGNATURE),
        (echo, Outcome.BAD_SIGNATURE),
        (large, Outcome.BAD_SIGNATURE),
        (broken, Outcome.PROTOCOL_ERROR),
        (endless, Outcome.PROTOCOL_ERROR),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_node_that_replies_something_else_than_its_signed_answer_is_named(
    federation: SocketFederation, reply: Callable[[LookupCall], Awaitable[EnvelopeMessage]], outcome: Outcome
) -> None:
    await federation.start_node("fr", ScriptedNode(reply))
    result = await look_up(await federation.start_gateway("nl"))
    assert outcomes(result) == {"fr": outcome, "nl": Outcome.NO_MATCH}
    assert not result.complete
    assert [node.member for node in result.unanswered] == ["fr"]


@pytest.mark.parametrize(
    "header",
    [{"issuer": "nl"}, {"request_digest": bytes(32)}, {"audience": "fr"}, {"last": False}, {"answered_ms": 0}, {"answered_ms": 2**62}],
)
async def test_a_node_that_signs_an_answer_to_something_else_is_named(federation: SocketFederation, header: dict[str, object]) -> None:
    await federation.start_node("fr", ScriptedNode(federation.honest("fr", **header)))
    result = await look_up(await federation.start_gateway("nl"))
    assert outcomes(result) == {"fr": Outcome.BAD_SIGNATURE, "nl": Outcome.NO_MATCH}


async def test_hanging_node_is_a_timeout(federation: SocketFederation) -> None:
    await federation.start_node("fr", ScriptedNode(silent))
    result = await look_up(await federation.start_gateway("nl"), deadline_s=0.5)
    assert outcomes(result) == {"fr": Outcome.TIMEOUT, "nl": Outcome.NO_MATCH}


async def test_a_node_that_is_not_there_is_unreachable(federation: SocketFederation) -> None:
    federation.move("fr", "127.0.0.1:1")
    result = await look_up(await federation.start_gateway("nl"))
    assert outcomes(result) == {"fr": Outcome.UNREACHABLE, "nl": Outcome.NO_MATCH}


async def test_a_node_that_takes_connections_and_says_nothing_is_named(federation: SocketFederation) -> None:
    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(ignore, "127.0.0.1", 0) as server:
        federation.move("fr", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        result = await look_up(await federation.start_gateway("nl"), deadline_s=0.5)
    assert outcomes(result) == {"fr": Outcome.TIMEOUT, "nl": Outcome.NO_MATCH}


async def test_a_server_that_speaks_something_else_is_unreachable(federation: SocketFederation) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        federation.move("fr", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        result = await look_up(await federation.start_gateway("nl"))
    assert outcomes(result) == {"fr": Outcome.UNREACHABLE, "nl": Outcome.NO_MATCH}


async def test_garbage_bytes_from_a_node_are_named(federation: SocketFederation) -> None:
    async def garbage(_: bytes, __: object) -> bytes:
        return b"\xff" * 100

    handler = grpc.method_handlers_generic_handler("vidfed.v1.NodeService", {"Lookup": grpc.unary_unary_rpc_method_handler(garbage)})
    federation.move("fr", await federation.serve("fr", lambda server: server.add_generic_rpc_handlers((handler,))))
    result = await look_up(await federation.start_gateway("nl"))
    assert outcomes(result) == {"fr": Outcome.PROTOCOL_ERROR, "nl": Outcome.NO_MATCH}


async def test_a_node_of_a_later_version_without_this_call_is_named(federation: SocketFederation) -> None:
    federation.move("fr", await federation.serve("fr", lambda _: None))
    result = await look_up(await federation.start_gateway("nl"))
    assert outcomes(result) == {"fr": Outcome.PROTOCOL_ERROR, "nl": Outcome.NO_MATCH}


async def test_node_listed_twice_speaks_for_one_member_only(federation: SocketFederation) -> None:
    """fr's entry leads to nl's node, which shows nl's certificate."""
    federation.move("fr", federation.administrators.directory().member("nl").endpoint)
    result = await look_up(await federation.start_gateway("nl"))
    assert outcomes(result) == {"fr": Outcome.UNREACHABLE, "nl": Outcome.NO_MATCH}


@pytest.mark.parametrize("endpoint", ["no-such-host.invalid:1", "[2001:db8::1]:1", "0.0.0.0:1"])
async def test_an_endpoint_that_leads_nowhere_harms_nobody_else(federation: SocketFederation, endpoint: str) -> None:
    federation.move("fr", endpoint)  # what is no endpoint at all never enters a directory: test_endpoint_that_is_no_text
    result = await look_up(await federation.start_gateway("nl"), deadline_s=2.0)
    assert outcomes(result)["nl"] is Outcome.NO_MATCH
    assert not outcomes(result)["fr"].answered


@pytest.mark.parametrize("endpoint", ["127.0.0.1:99999", "no such host:1", "unix:/tmp/x:1", "[:1"])
def test_an_endpoint_that_is_none_is_not_published(federation: SocketFederation, endpoint: str) -> None:
    with pytest.raises(DirectoryError, match="endpoint"):
        federation.move("fr", endpoint)


async def test_a_gateway_that_cannot_read_its_own_key_gives_no_answers_and_says_so(federation: SocketFederation) -> None:
    kit = await federation.start_gateway("nl")
    async with FederationClient(kit) as client:
        await client.refresh_directory()
        (federation.homes["nl"].folder / "keys/node.key").chmod(0o644)
        result = await client.lookup(PART, WHY)
    assert set(outcomes(result).values()) == {Outcome.PROTOCOL_ERROR}


async def test_twenty_slow_nodes_are_waited_for_at_the_same_time(tmp_path: Path) -> None:
    """Each answers only once all twenty have been asked: one after the other, none ever would."""
    members = [f"m{number:02}" for number in range(20)]
    everybody = asyncio.Barrier(len(members))
    async with SocketFederation(tmp_path, *members) as federation:
        for member in members:
            honest = federation.honest(member)

            async def reply(call: LookupCall, honest: Callable[[LookupCall], Awaitable[EnvelopeMessage]] = honest) -> EnvelopeMessage:
                await everybody.wait()
                return await honest(call)

            await federation.start_node(member, ScriptedNode(reply))
        result = await look_up(await federation.start_gateway("m00"), deadline_s=30.0)
    assert set(outcomes(result)) == set(members)
    assert result.complete


# --- gateways ---


class LyingGateway(GatewayServicer):
    """The true gateway, with something done to what it passes on."""

    def __init__(self, true: GatewayServicer, lie: Callable[[list[pb.NodeReply]], list[pb.NodeReply]]) -> None:
        super().__init__(true.core)
        self._lie = lie

    async def Lookup(  # noqa: N802
        self, request: LookupCall, context: grpc.aio.ServicerContext[LookupCall, pb.NodeReply]
    ) -> AsyncIterator[pb.NodeReply]:
        replies = [reply async for reply in super().Lookup(request, context)]
        for reply in self._lie(sorted(replies, key=lambda reply: reply.member)):
            yield reply


async def ask_through(
    federation: SocketFederation,
    lie: Callable[[list[pb.NodeReply]], list[pb.NodeReply]],
    on_node: Callable[[NodeOutcome], None] = lambda _: None,
) -> LookupResult:
    return await look_up(await federation.start_gateway("nl", LyingGateway(federation.gateway("nl"), lie)), on_node=on_node)


async def test_gateway_drops_an_answer(federation: SocketFederation) -> None:
    result = await ask_through(federation, lambda replies: replies[1:])
    assert outcomes(result) == {"fr": Outcome.MISSING, "nl": Outcome.NO_MATCH}
    assert not result.complete


async def test_gateway_drops_every_answer(federation: SocketFederation) -> None:
    result = await ask_through(federation, lambda _: [])
    assert set(outcomes(result).values()) == {Outcome.MISSING}


async def test_gateway_swaps_two_answers(federation: SocketFederation) -> None:
    def swap(replies: list[pb.NodeReply]) -> list[pb.NodeReply]:
        one, other = replies
        return [pb.NodeReply(member=one.member, answer=other.answer), pb.NodeReply(member=other.member, answer=one.answer)]

    assert set(outcomes(await ask_through(federation, swap)).values()) == {Outcome.BAD_SIGNATURE}


async def test_gateway_gives_one_node_s_answer_for_all(federation: SocketFederation) -> None:
    result = await ask_through(federation, lambda replies: [pb.NodeReply(member=r.member, answer=replies[1].answer) for r in replies])
    assert outcomes(result) == {"fr": Outcome.BAD_SIGNATURE, "nl": Outcome.NO_MATCH}


async def test_gateway_alters_an_answer(federation: SocketFederation) -> None:
    def alter(replies: list[pb.NodeReply]) -> list[pb.NodeReply]:
        payload = bytearray(replies[0].answer.payload)
        payload[-1] ^= 1
        replies[0].answer.payload = bytes(payload)
        return replies

    assert outcomes(await ask_through(federation, alter)) == {"fr": Outcome.BAD_SIGNATURE, "nl": Outcome.NO_MATCH}


async def test_gateway_says_a_node_has_no_hit_on_its_own_word(federation: SocketFederation) -> None:
    def say(_: list[pb.NodeReply]) -> list[pb.NodeReply]:
        return [pb.NodeReply(member="fr"), pb.NodeReply(member="nl", failure=pb.Failure(kind=77, detail="no hit\n"))]  # type: ignore[arg-type]

    assert set(outcomes(await ask_through(federation, say)).values()) == {Outcome.PROTOCOL_ERROR}


async def test_a_failure_the_gateway_reports_is_shown_with_its_kind(federation: SocketFederation) -> None:
    def fail(replies: list[pb.NodeReply]) -> list[pb.NodeReply]:
        kinds = (FailureKind.TIMEOUT, FailureKind.UNREACHABLE)
        return [pb.NodeReply(member=r.member, failure=pb.Failure(kind=k.value)) for r, k in zip(replies, kinds, strict=True)]

    assert outcomes(await ask_through(federation, fail)) == {"fr": Outcome.TIMEOUT, "nl": Outcome.UNREACHABLE}


async def test_gateway_answers_twice_for_a_node_and_for_strangers(federation: SocketFederation) -> None:
    """A later reply cannot replace an earlier one, and who was not asked is not listed."""

    def add(replies: list[pb.NodeReply]) -> list[pb.NodeReply]:
        failed = pb.NodeReply(member="fr", failure=pb.Failure(kind=FailureKind.TIMEOUT.value))
        return [*replies, failed, pb.NodeReply(member="xx", answer=replies[0].answer)]

    heard: list[str] = []
    result = await ask_through(federation, add, on_node=lambda node: heard.append(node.member))
    assert outcomes(result) == {"fr": Outcome.NO_MATCH, "nl": Outcome.NO_MATCH}
    assert sorted(heard) == ["fr", "nl"]


async def test_gateway_breaks_off_in_the_middle(federation: SocketFederation) -> None:
    def break_off(replies: list[pb.NodeReply]) -> list[pb.NodeReply]:
        return [replies[0], None]  # type: ignore[list-item]  # what is no message ends the stream with an error

    result = await ask_through(federation, break_off)
    assert outcomes(result) == {"fr": Outcome.NO_MATCH, "nl": Outcome.MISSING}


async def test_gateway_with_an_older_directory_changes_nothing(federation: SocketFederation, tmp_path: Path) -> None:
    shutil.copytree(federation.administrators.published, tmp_path / "stale")
    stale = TufDirectory(tmp_path / "state", federation.administrators.anchor, [FolderMirror(tmp_path / "stale")])
    federation.move("fr", "127.0.0.1:2")
    kit = await federation.start_gateway("nl", directory_source=stale)
    async with FederationClient(kit) as client:
        assert (await client.refresh_directory()).version > stale.current().version


# --- who may speak to whom ---


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
        with pytest.raises(GatewayRefusedError, match="in the future here: compare the clocks"):
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
        assert self.may_go_on.wait(20)
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


# --- the socket itself ---


async def node_stub(address: str, channel: grpc.aio.Channel) -> grpc.StatusCode:
    del address
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rpc.NodeServiceStub(channel).Lookup(LookupCall(), timeout=5)
    return caught.value.code()


async def test_plaintext(federation: SocketFederation) -> None:
    address = federation.administrators.directory().member("fr").endpoint
    async with grpc.aio.insecure_channel(address) as channel:
        assert await node_stub(address, channel) is grpc.StatusCode.UNAVAILABLE


async def test_a_client_without_a_certificate(federation: SocketFederation) -> None:
    member = federation.administrators.directory().member("fr")
    options = [("grpc.ssl_target_name_override", "node.fr.sockets.vidfed")]
    async with grpc.aio.secure_channel(member.endpoint, grpc.ssl_channel_credentials(member.tls_ca), options) as channel:
        assert await node_stub(member.endpoint, channel) is grpc.StatusCode.UNAVAILABLE


async def test_a_client_of_no_member(federation: SocketFederation, tmp_path: Path) -> None:
    async with SocketFederation(tmp_path / "elsewhere", "nl") as elsewhere:
        directory = federation.administrators.directory()
        member = directory.member("fr")
        async with open_channel(member.endpoint, elsewhere.homes["nl"].node_tls(), directory, member) as channel:
            assert await node_stub(member.endpoint, channel) is grpc.StatusCode.UNAVAILABLE


async def test_oversize_message(federation: SocketFederation) -> None:
    directory = federation.administrators.directory()
    member = directory.member("fr")
    tls = federation.homes["nl"].node_tls()
    credentials = grpc.ssl_channel_credentials(member.tls_ca, tls.key, tls.certificate)
    options = [("grpc.ssl_target_name_override", "node.fr.sockets.vidfed")]
    async with grpc.aio.secure_channel(member.endpoint, credentials, options) as channel:
        huge = LookupCall(request=EnvelopeMessage(payload=bytes(2 * MAX_MESSAGE_BYTES)))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rpc.NodeServiceStub(channel).Lookup(huge, timeout=5)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_tls_1_3_is_what_is_spoken(federation: SocketFederation) -> None:
    member = federation.administrators.directory().member("fr")
    home = federation.homes["nl"]
    context = ssl.create_default_context(cadata=member.tls_ca.decode())
    context.load_cert_chain(home.folder / "keys/node.key")
    context.set_alpn_protocols(["h2"])
    host, _, port = member.endpoint.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="node.fr.sockets.vidfed")
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    writer.close()


async def test_something_else_that_speaks_tls_at_a_node_s_address_is_unreachable_and_told_nothing(federation: SocketFederation) -> None:
    """It shows the node's own certificate but speaks no HTTP/2: gRPC's "missing selected ALPN property"."""
    home, heard = federation.homes["fr"], bytearray()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(home.folder / "keys/node.key")
    dialled = 0

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dialled
        dialled += 1
        with contextlib.suppress(OSError):
            heard.extend(await reader.read())
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0, ssl=context) as server:
        host, port = server.sockets[0].getsockname()
        federation.move("fr", f"{host}:{port}")
        result = await look_up(await federation.start_gateway("nl"))
    assert outcomes(result) == {"fr": Outcome.UNREACHABLE, "nl": Outcome.NO_MATCH}
    assert not result.complete
    assert dialled > 1  # connecting may be tried again: nothing was sent
    assert heard == b""
