"""The trust directory over real gRPC and mutual TLS: passed on by whoever holds it, believed by nobody unverified."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.security.trust.world import HOUR_MS, World
from vidfed.rpc.channels import SERVER_OPTIONS, TlsSnapshots, blocking_channel, server_credentials
from vidfed.rpc.trust import ATTEMPT_MS, MAX_ENTRY_BYTES, GrpcMirror, PeerMirrors, TrustServicer, submit_entry
from vidfed.security.crypto.certificates import TlsIdentity
from vidfed.security.errors import DirectoryError, KeyFileError
from vidfed.security.identity.tls import NODE_ROLE, make_ca, make_node_leaf
from vidfed.security.trust.client import TufDirectory
from vidfed.security.trust.federation import SUBMISSIONS
from vidfed.v1 import trust_pb2_grpc as rpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from vidfed.security.identity.directory import Directory


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.add("nl")
    made.add("fr")
    return made


def leaf(world: World, member: str) -> TlsIdentity:
    return make_node_leaf(world.units[member].ca, "test", member)


@contextlib.asynccontextmanager
async def serving(world: World, source: TufDirectory, *, publishes: bool = False) -> AsyncIterator[str]:
    """Serve nl's directory; give `host:port`."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    publisher, own = world.folder if publishes else None, leaf(world, "nl")
    servicer = TrustServicer(source, lambda peer: peer.role == NODE_ROLE, world.clock, publisher)
    rpc.add_TrustServiceServicer_to_server(servicer, server)
    port = server.add_secure_port("127.0.0.1:0", server_credentials(lambda: own, source))
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def at(known: Directory, member: str, address: str) -> Directory:
    """Return the directory with a member's node at another address."""
    return replace(known, members={**known.members, member: replace(known.members[member], endpoint=address)})


def only(peers: PeerMirrors, address: str) -> Callable[[Directory | None], list[GrpcMirror]]:
    """Ask nl's node only, at this address."""
    return lambda known: peers(replace(known, members={"nl": replace(known.member("nl"), endpoint=address)})) if known else []


async def test_a_node_learns_from_another_what_it_has_not_seen(world: World) -> None:
    assert set(world.source(world.mirror()).current().members) == {"nl", "fr"}
    world.add("br")
    newer = TufDirectory(world.base / "newer", world.folder.anchor, [world.mirror()], clock=world.clock)
    newer.current()
    async with serving(world, newer) as address:
        peers = PeerMirrors("fr", lambda: leaf(world, "fr"))
        older = TufDirectory(world.base / "source-1", world.folder.anchor, ask=only(peers, address), clock=world.clock)
        assert set(older.current().members) == {"nl", "fr"}
        assert await asyncio.to_thread(older.refresh)
        peers.close()
    assert set(older.current().members) == {"nl", "fr", "br"}


async def test_an_expired_directory_still_finds_those_who_have_a_newer_one(world: World) -> None:
    held = world.source(world.mirror())
    held.current()
    world.clock.now_ms += 30 * HOUR_MS
    with world.folder.repository.writing():
        world.folder.repository.publish(world.online, world.clock())
    fresh = world.source(world.mirror())
    fresh.current()
    async with serving(world, fresh) as address:
        peers = PeerMirrors("fr", lambda: leaf(world, "fr"))
        restarted = TufDirectory(world.base / "source-1", world.folder.anchor, ask=only(peers, address), clock=world.clock)
        with pytest.raises(DirectoryError, match="expired at"):
            restarted.current()
        assert await asyncio.to_thread(restarted.refresh)
        peers.close()
    assert set(restarted.current().members) == {"nl", "fr"}


async def test_a_node_that_was_removed_gets_nothing(world: World) -> None:
    source = world.source(mirror := world.mirror())
    known = source.current()
    tls = leaf(world, "fr")
    async with serving(world, source) as address:
        with blocking_channel(address, tls, known, known.member("nl")) as channel:
            taken = await asyncio.to_thread(lambda: b"".join(GrpcMirror("nl", channel).open("metadata/timestamp.json")))
            assert taken == world.published_files()["metadata/timestamp.json"]
            world.folder.propose_removal("fr")
            world.sign_and_publish()
            mirror.now_gives(world.published_files())
            source.current()
            with pytest.raises(OSError, match="unauthenticated"):  # on the connection that is open
                await asyncio.to_thread(lambda: b"".join(GrpcMirror("nl", channel).open("metadata/timestamp.json")))


async def test_member_a_s_ca_naming_member_b(world: World) -> None:
    """fr's CA issues a leaf that names nl: gRPC's merged roots let it in, the call is refused."""
    source = world.source(world.mirror())
    known = source.current()
    forged = make_node_leaf(world.units["fr"].ca, "test", "nl")
    async with serving(world, source) as address:
        with blocking_channel(address, forged, known, known.member("nl")) as channel, pytest.raises(OSError, match="unauthenticated"):
            await asyncio.to_thread(lambda: b"".join(GrpcMirror("nl", channel).open("metadata/timestamp.json")))


async def test_a_stranger_s_ca_gets_no_connection(world: World) -> None:
    source = world.source(world.mirror())
    known = source.current()
    stranger = make_node_leaf(make_ca("test", "fr"), "test", "fr")
    async with serving(world, source) as address:
        with blocking_channel(address, stranger, known, known.member("nl")) as channel, pytest.raises(OSError, match="unavailable"):
            await asyncio.to_thread(lambda: b"".join(GrpcMirror("nl", channel).open("metadata/timestamp.json")))


@pytest.mark.parametrize("name", ["metadata/9.root.json", "../verified/timestamp.json", "/etc/passwd", "", "metadata/../lock", "x" * 5000])
async def test_nothing_but_published_names_is_looked_up(world: World, name: str) -> None:
    source = world.source(world.mirror())
    known = source.current()
    async with serving(world, source) as address:
        with blocking_channel(address, leaf(world, "fr"), known, known.member("nl")) as channel, pytest.raises(FileNotFoundError):
            await asyncio.to_thread(lambda: b"".join(GrpcMirror("nl", channel).open(name)))


async def test_a_member_s_newer_entry_is_published_by_the_node_that_publishes(world: World) -> None:
    source = world.source(world.mirror())
    known = source.current()
    entry = world.entry("fr", 2, endpoint="127.0.0.1:2").to_json()
    async with serving(world, source, publishes=True) as address:
        nl = at(known, "nl", address).member("nl")
        await asyncio.to_thread(submit_entry, entry, leaf(world, "fr"), known, nl)
        assert world.folder.directory().member("fr").endpoint == "127.0.0.1:2"
        world.clock.now_ms += ATTEMPT_MS
        with pytest.raises(DirectoryError, match="version 2 is published already"):
            await asyncio.to_thread(submit_entry, entry, leaf(world, "fr"), known, nl)


async def test_newcomer_with_an_old_copy_asks_its_members(world: World) -> None:
    """What a newcomer was handed on a stick is more than a day old: nobody is trusted by it, but those in it are asked."""
    old = world.mirror()
    world.clock.now_ms += 30 * HOUR_MS
    with world.folder.repository.writing():
        world.folder.repository.publish(world.online, world.clock())
    fresh = world.source(world.mirror())
    fresh.current()
    async with serving(world, fresh) as address:
        peers = PeerMirrors("fr", lambda: leaf(world, "fr"))
        newcomer = TufDirectory(world.base / "newcomer", world.folder.anchor, [old], ask=only(peers, address), clock=world.clock)
        with pytest.raises(DirectoryError, match="expired at"):
            newcomer.current()
        assert set((await asyncio.to_thread(newcomer.ready)).members) == {"nl", "fr"}
        peers.close()


async def test_newcomer_without_a_copy_asks_any_address(world: World) -> None:
    """The anchor and one address suffice: whoever answers there is believed nothing that does not hold from the anchor."""
    source = world.source(world.mirror())
    source.current()
    async with serving(world, source) as address:
        peers = PeerMirrors("fr", lambda: leaf(world, "fr"), "test", [address])
        newcomer = TufDirectory(world.base / "newcomer", world.folder.anchor, ask=peers, clock=world.clock)
        assert set((await asyncio.to_thread(newcomer.ready)).members) == {"nl", "fr"}
        peers.close()


async def test_newcomer_is_not_taken_in_by_whoever_answers(world: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other")
    other.units = world.units
    other.admit(other.entry("fr"), other.entry("nl", 1))
    source = TufDirectory(tmp_path / "other/source", other.folder.anchor, [other.mirror()], clock=world.clock)
    source.current()
    async with serving(world, source) as address:
        peers = PeerMirrors("fr", lambda: leaf(world, "fr"), "test", [address])
        newcomer = TufDirectory(world.base / "newcomer", world.folder.anchor, ask=peers, clock=world.clock)
        with pytest.raises(DirectoryError):
            await asyncio.to_thread(newcomer.ready)
        peers.close()
        strangers = PeerMirrors("fr", lambda: leaf(world, "fr"), "elsewhere", [address, "127.0.0.1:1"])
        assert await asyncio.to_thread(strangers, None) == []


async def test_entries_are_taken_so_often_only(world: World) -> None:
    source = world.source(world.mirror())
    known = source.current()
    taken, refusals = 0, set()
    async with serving(world, source, publishes=True) as address:
        nl = at(known, "nl", address).member("nl")
        for _ in range(40):
            entry = world.entry("fr", taken + 2).to_json()
            try:
                await asyncio.to_thread(submit_entry, entry, leaf(world, "fr"), known, nl)
            except DirectoryError as error:
                refusals.add(str(error).partition(":")[2][:40])
                world.clock.now_ms += ATTEMPT_MS
            else:
                taken += 1
        assert taken == SUBMISSIONS[0][0]
        assert len(refusals) == 2  # too soon after the last attempt; too often in this hour
        await asyncio.to_thread(submit_entry, world.entry("nl", 2).to_json(), leaf(world, "nl"), known, nl)  # another's turn is its own
        world.clock.now_ms += HOUR_MS
        await asyncio.to_thread(submit_entry, world.entry("fr", taken + 2).to_json(), leaf(world, "fr"), known, nl)
    world.folder.accept(world.entry("fr", taken + 3))  # by hand always
    for _ in range(SUBMISSIONS[1][0]):
        world.clock.now_ms += HOUR_MS // 4
        version = world.folder.repository.entry_version("fr") + 1
        with contextlib.suppress(DirectoryError):
            world.folder.accept_submitted(world.entry("fr", version))
    assert world.folder.repository.entry_version("fr") <= SUBMISSIONS[1][0] + 2


async def test_an_entry_beyond_all_measure_is_not_read(world: World) -> None:
    source = world.source(world.mirror())
    known = source.current()
    async with serving(world, source, publishes=True) as address:
        nl = at(known, "nl", address).member("nl")
        with pytest.raises(DirectoryError, match="at most"):
            await asyncio.to_thread(submit_entry, b" " * (MAX_ENTRY_BYTES + 1), leaf(world, "fr"), known, nl)


def test_what_nobody_can_ask_for_any_more_is_deleted(world: World) -> None:
    for version in range(2, 5):
        world.folder.accept(world.entry("fr", version, endpoint=f"127.0.0.1:{version}"))
    assert {"metadata/2.member-fr.json", "metadata/3.member-fr.json"} <= world.published_files().keys()
    world.clock.now_ms += 72 * HOUR_MS
    world.folder.renew_timestamp()
    world.clock.now_ms += 12 * HOUR_MS
    world.folder.accept(world.entry("fr", 5))
    left = world.published_files().keys()
    assert {name for name in left if "member-fr" in name} == {"metadata/5.member-fr.json"}
    assert sum(".snapshot." in name for name in left) == 1
    assert sum("targets/members/fr/" in name for name in left) == 1
    assert {"metadata/1.root.json", "metadata/1.member-nl.json"} <= left
    assert world.source(world.mirror()).current().member("fr").endpoint == "127.0.0.1:1"


async def test_a_member_cannot_submit_another_s_entry(world: World) -> None:
    source = world.source(world.mirror())
    known = source.current()
    entry = world.entry("nl", 2).to_json()
    async with serving(world, source, publishes=True) as address:
        with pytest.raises(DirectoryError, match="a node of fr cannot submit the entry of nl"):
            await asyncio.to_thread(submit_entry, entry, leaf(world, "fr"), known, at(known, "nl", address).member("nl"))


async def test_a_node_that_does_not_publish_says_so(world: World) -> None:
    source = world.source(world.mirror())
    known = source.current()
    async with serving(world, source) as address:
        nl = at(known, "nl", address).member("nl")
        with pytest.raises(DirectoryError, match="published elsewhere"):
            await asyncio.to_thread(submit_entry, world.entry("fr", 2).to_json(), leaf(world, "fr"), known, nl)


@pytest.mark.parametrize("broken", ["key", "certificate", "another's key", "missing"])
def test_broken_certificate_roll_in(world: World, broken: str, caplog: pytest.LogCaptureFixture) -> None:
    """A renewed certificate that is damaged or half written: the old one goes on, and an alarm says so."""
    good, other = leaf(world, "nl"), leaf(world, "nl")

    def own_tls() -> TlsIdentity:
        if offered[-1] is None:
            raise KeyFileError("keys/node.key: no such key file")
        return offered[-1]

    offered: list[TlsIdentity | None] = [good]
    snapshots = TlsSnapshots(own_tls, world.source(world.mirror()))
    bad = {
        "key": TlsIdentity(b"garbage", good.certificate),
        "certificate": TlsIdentity(good.key, b"garbage"),
        "another's key": TlsIdentity(other.key, good.certificate),
        "missing": None,
    }
    offered.append(bad[broken])
    assert snapshots.latest()[0] == good
    assert "ALARM: TLS keeps its old certificate" in caplog.text
    offered.append(other)
    assert snapshots.latest()[0] == other


def test_grpc_is_given_a_certificate_only_when_it_is_another_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given replaces what other threads may be using: tests/integration/test_connection_flood.py."""
    made: list[Callable[[], object]] = []
    monkeypatch.setattr(grpc, "dynamic_ssl_server_credentials", lambda _first, fetch, **_: made.append(fetch))
    own, mirror = [leaf(world, "nl")], world.mirror()
    server_credentials(lambda: own[-1], world.source(mirror))
    (fetch,) = made
    assert [fetch(), fetch()] == [None, None]
    own.append(leaf(world, "nl"))
    assert isinstance(fetch(), grpc.ServerCertificateConfiguration)
    assert fetch() is None
    world.add("br")
    mirror.now_gives(world.published_files())
    assert isinstance(fetch(), grpc.ServerCertificateConfiguration)
    assert fetch() is None


def test_a_server_does_not_start_with_a_broken_certificate(world: World) -> None:
    good = leaf(world, "nl")
    with pytest.raises(KeyFileError, match="damaged"):
        server_credentials(lambda: TlsIdentity(good.key, b"garbage"), world.source(world.mirror()))
