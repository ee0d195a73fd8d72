"""The socket itself: plaintext, certificates, oversize messages."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.support.patience import PATIENCE_S
from tests.support.sockets import SocketFederation
from vidfed.federation.lookup.outcome import Outcome
from vidfed.rpc.channels import open_channel
from vidfed.v1 import lookup_pb2_grpc as rpc
from vidfed.v1.envelope_pb2 import Envelope as EnvelopeMessage
from vidfed.v1.lookup_pb2 import LookupCall
from vidfed.wire.values import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from pathlib import Path


from tests.integration.lying import look_up, outcomes


async def node_stub(address: str, channel: grpc.aio.Channel) -> grpc.StatusCode:
    del address
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rpc.NodeServiceStub(channel).Lookup(LookupCall(), timeout=PATIENCE_S)
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
            await rpc.NodeServiceStub(channel).Lookup(huge, timeout=PATIENCE_S)
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
