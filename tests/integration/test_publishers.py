"""The publisher of a federation is lost: another member's node, a process of its own, goes on, and everybody learns of it over sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import TYPE_CHECKING

from click.testing import CliRunner

from tests.support.patience import PATIENCE_S
from tests.support.sockets import SocketFederation
from vidfed.node.serving.stating import Stating
from vidfed.rpc.trust import PeerMirrors, TrustServicer
from vidfed.security.cli.trust import trust
from vidfed.security.clock import HOUR_MS, system_clock
from vidfed.security.crypto.keys import PublicKey
from vidfed.security.identity.tls import NODE_ROLE
from vidfed.security.member.audit_log import open_log
from vidfed.security.trust.federation import FederationFolder
from vidfed.security.trust.publisher import Publisher
from vidfed.synthetic.federation import free_ports
from vidfed.v1 import trust_pb2_grpc as trust_rpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from vidfed.security.member.home import MemberHome

SILENT_MS = 13 * HOUR_MS


@contextlib.asynccontextmanager
async def node_process(home: MemberHome) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `vidfed node serve`, from when it answers on; what is left of it in the end is ended."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VIDFED_")}
    command = [sys.executable, "-m", "vidfed.cli", "node", "serve", "--home", str(home.folder)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment
    )
    try:
        assert process.stdout
        async with asyncio.timeout(PATIENCE_S):
            said = await process.stdout.readline()
        if b"answers on" not in said:
            process.kill()
            raise AssertionError((await process.communicate())[1].decode())
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def said(*arguments: object) -> str:
    """Run a command of `vidfed trust`; return what it printed."""
    ran = CliRunner().invoke(trust, [*map(str, arguments)])
    assert ran.exit_code == 0, ran.output
    return ran.output


async def test_publisher_lost_and_taken_over(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    async with SocketFederation(tmp_path, "nl", "fr", "be", places={"fr": f"127.0.0.1:{port}"}) as federation:
        first = federation.administrators.folder
        first._clock = lambda: system_clock() - SILENT_MS  # all that follows was published 13 hours ago
        said("stand-by", tmp_path / "second", "--anchor", first.anchor_path, "--name", "fr", "--json")
        second = FederationFolder(tmp_path / "second")
        federation.administrators.sign_and_publish(
            first.propose_publisher("fr", PublicKey.parse((tmp_path / "second/online.key.pub").read_text().split()[0]))
        )
        be = federation.homes["be"]
        peers = PeerMirrors("be", be.node_tls)
        known = be.directory_source(ask=peers)
        servicer = TrustServicer(known, lambda peer: peer.role == NODE_ROLE, system_clock)
        address = await federation.serve("be", lambda server: trust_rpc.add_TrustServiceServicer_to_server(servicer, server))
        federation.move("be", address)
        assert known.current().publisher == "online"

        # nl's machine is lost for good. fr's node has the folder of the second publisher.
        config = federation.homes["fr"].config_path
        settings = config.read_text().replace('publish_folder = ""', f'publish_folder = "{second.folder}"')
        config.write_text(settings.replace('listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{port}"', 1))
        assert "LATE: not once in 13 hours" in said("status", first.folder)
        async with node_process(federation.homes["fr"]):
            assert await asyncio.to_thread(known.refresh)
            taken = known.current()
            assert taken.publisher == "fr"
            assert taken.issued_ms > system_clock() - HOUR_MS
            # What be's node says of itself goes to the node that publishes now, and comes back to whoever asks it.
            with contextlib.closing(open_log(be)) as audit:
                stating = Stating(be, known, audit, speaks=frozenset({"of-a-later-version"}))
                assert await asyncio.to_thread(stating.look)
            assert await asyncio.to_thread(known.refresh)
            assert known.current().member("be").speaks == {"of-a-later-version"}
            # The first is found again: it takes over what happened, and stands by.
            first._clock = system_clock
            back = Publisher(first, [known.held])
            assert not await asyncio.to_thread(back.look)
            assert first.directory().publisher == "fr"
            assert first.directory().member("be").speaks == {"of-a-later-version"}
        peers.close()
    versions = [folder.repository.timestamp().signed.version for folder in (first, second)]  # type: ignore[union-attr]  # published
    assert versions[0] == versions[1]
