"""Standing lookups at a gateway: asked of true nodes over a clock that the test moves, kept closed, sealed to the person."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from nacl.public import PrivateKey, SealedBox

from tests.support.memory import MemoryFederation, MemoryNode, columns_of
from tests.support.records import record
from vidfed.casework.context import Context
from vidfed.casework.errors import ConversationError, RefusedError
from vidfed.casework.standing.ending import Endings
from vidfed.casework.standing.watches import Closet
from vidfed.casework.storage.database import CaseworkDatabase
from vidfed.federation.gateway.audit_trail import AuditTrail
from vidfed.federation.gateway.standing import StandingLookups
from vidfed.index import Algorithm, Hash
from vidfed.security.audit import AuditLog, log_origin
from vidfed.security.clock import DAY_MS, HOUR_MS
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.identity.credentials import Credential
from vidfed.v1 import gateway_pb2 as pb
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.answers import read_answer
from vidfed.wire.requests import MANDATE_TYPE, Mandate, columns_digest, write_columns, write_mandate
from vidfed.wire.values import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidfed.federation.nodes.outgoing import OutgoingLookup
    from vidfed.federation.nodes.pool import NodePool
    from vidfed.security.identity.directory import Member

WATCHED = tuple(Hash(Algorithm.MD5, record(seed).hashes[Algorithm.MD5]) for seed in range(1, 4))


class Nodes:
    """Asks true nodes directly, and tells them what has ended."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.down: set[str] = set()
        self.asked = 0

    async def ask(self, outgoing: OutgoingLookup, member: Member) -> pb.NodeReply:
        self.asked += 1
        if member.id in self.down:
            return pb.NodeReply(member=member.id, failure=pb.Failure(kind=pb.FAILURE_KIND_UNREACHABLE, detail="nobody answers"))
        return pb.NodeReply(member=member.id, answer=wire_envelope.to_message(self.world.nodes[member.id].ask(outgoing.call, "nl")))

    async def end_mandates(self, member: str, end: Envelope) -> None:
        if member in self.down:
            raise OSError(f"{member}: nobody answers")
        self.world.endings[member].take(end, "nl")


class OpenedNodes(dict[str, MemoryNode]):
    """The nodes of fr and de, each opened when it is needed first."""

    def __init__(self, world: World, stack: contextlib.ExitStack) -> None:
        super().__init__()
        self._world, self._stack = world, stack

    def __missing__(self, member: str) -> MemoryNode:
        node = self[member] = self._stack.enter_context(MemoryNode(self._world.federation, member, self._world.folder / member))
        authenticator = node.pipeline._authenticator
        standing = replace(authenticator.standing, has_ended=self._world.endings[member].has_ended)
        object.__setattr__(node.pipeline, "_authenticator", replace(authenticator, standing=standing))
        return node


class World:
    """nl's gateway, and the nodes of fr and de."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.federation = federation = MemoryFederation()
        federation.add("nl", "fr", "de")
        self.endings = {member: Endings(self._context(member, self._database(member, stack))) for member in ("fr", "de")}
        self.nodes = OpenedNodes(self, stack)
        self.pool = Nodes(self)
        database = self._database("nl", stack)
        log = AuditLog(folder / "nl.audit", log_origin("memory", "nl"), federation.members["nl"].audit_signer, clock=federation.clock)
        stack.enter_context(contextlib.closing(log))
        self.standing = StandingLookups(
            federation=federation.federation,
            member="nl",
            signer=federation.members["nl"].signer,
            source=federation,
            database=database,
            closet=Closet(bytes(32)),
            nodes=cast("NodePool", self.pool),
            trail=AuditTrail(log, "nl", clock=federation.clock),
            ends=self.pool,
            clock=federation.clock,
        )
        self.private = PrivateKey.generate()
        person = federation.investigator("nl")
        credential = replace(Credential.read(person.credential.payload), sealing_key=bytes(self.private.public_key))
        self.person = replace(person, credential=credential.to_envelope(federation.members["nl"].signer))
        self.serial = secrets.token_bytes(16)

    def _database(self, member: str, stack: contextlib.ExitStack) -> CaseworkDatabase:
        database = stack.enter_context(contextlib.closing(CaseworkDatabase(self.folder / f"{member}.casework")))
        database.open()
        return database

    def _context(self, member: str, database: CaseworkDatabase) -> Context:
        """Return as much of a context as ends of mandates need."""
        own = self.federation.members[member]
        return Context(
            federation=self.federation.federation,
            member=member,
            signer=own.signer,
            directory_source=self.federation,
            database=database,
            audit=cast("AuditLog", None),
            clock=self.federation.clock,
            officers=lambda _member: (),
            may_tell=lambda _member, _reference: False,
            alarm=lambda _header: None,
        )

    def request(self, **values: Any) -> pb.WatchRequest:  # noqa: ANN401 - fields of a mandate
        now_ms = self.federation.clock()
        columns = columns_of(WATCHED)
        mandate = Mandate(
            federation=self.federation.federation,
            issuer="nl",
            pseudonym=self.person.pseudonym,
            audience=("fr", "de"),
            serial=self.serial,
            purpose=Purpose.IDENTIFICATION,
            legal_basis="test law",
            offence_type="child-sexual-abuse",
            case_reference="NL-SECRET-CASE",
            parts=(columns_digest(len(WATCHED), columns),),
            begins_ms=now_ms,
            ends_ms=now_ms + 20 * DAY_MS,
        )
        mandate = replace(mandate, **values)
        return pb.WatchRequest(
            credential=wire_envelope.to_message(self.person.credential),
            mandate=wire_envelope.to_message(Envelope(MANDATE_TYPE, write_mandate(mandate)).signed_by(self.person.signer)),
            part=pb.WatchedPart(item_count=len(WATCHED), columns=write_columns(columns)),
            every_minutes=360,
        )

    def begin(self, **values: Any) -> None:  # noqa: ANN401 - as above
        self.standing.begin([self.request(**values)], self.person.pseudonym)

    async def later(self, hours: float = 6) -> None:
        self.federation.clock.advance(int(hours * HOUR_MS))
        await self.standing.round()

    def hits(self) -> list[pb.WatchHit]:
        return self.standing.hits(self.person.pseudonym, 0)

    def members(self) -> dict[str, tuple[int | None, str]]:
        (watch,) = self.standing.listed(self.person.pseudonym)
        return {each.member: (each.watched_until_ms, each.trouble) for each in watch.members}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        yield World(tmp_path, stack)


async def test_record_that_is_added_later_is_reported_once(world: World) -> None:
    world.begin()
    await world.standing.round()
    assert world.hits() == []
    world.nodes["de"].hold(record(2))
    await world.later()
    await world.later()
    (hit,) = world.hits()
    opened = pb.WatchAnswer.FromString(bytes(SealedBox(world.private).decrypt(hit.sealed)))
    answer = read_answer(wire_envelope.from_message(opened.answer).payload)
    assert (opened.member, [found.item for found in answer.hits]) == ("de", [1])


async def test_it_is_asked_as_often_as_said_and_no_more(world: World) -> None:
    world.begin()
    for _ in range(3):
        await world.standing.round()
    assert world.pool.asked == 2
    await world.later(5.9)
    assert world.pool.asked == 2
    await world.later(0.2)
    assert world.pool.asked == 4


async def test_member_that_has_not_answered_is_named_until_it_has(world: World) -> None:
    world.begin()
    world.pool.down.add("de")
    await world.standing.round()
    assert world.members() == {"fr": (world.federation.clock(), ""), "de": (None, "nobody answers")}
    world.pool.down.clear()
    await world.later(0.25)
    assert world.members()["de"] == (world.federation.clock(), "")


async def test_what_came_while_a_member_was_away_is_found_when_it_is_back(world: World) -> None:
    world.begin()
    await world.standing.round()
    world.pool.down.add("de")
    world.nodes["de"].hold(record(1))
    await world.later()
    world.pool.down.clear()
    await world.later(0.25)
    assert len(world.hits()) == 1


async def test_stopped_watch_asks_nobody_and_every_node_refuses_its_mandate(world: World) -> None:
    world.begin()
    await world.standing.round()
    world.pool.down.add("de")
    world.standing.stop(world.serial, world.person.pseudonym)
    await world.later()
    assert world.pool.asked == 2
    assert world.endings["fr"].has_ended("nl", world.serial)
    assert not world.endings["de"].has_ended("nl", world.serial)
    world.pool.down.clear()
    await world.later(0.1)
    assert world.endings["de"].has_ended("nl", world.serial)
    assert not world.endings["fr"].has_ended("de", world.serial)  # one member cannot end another's


async def test_watch_of_a_revoked_person_ends_by_itself(world: World) -> None:
    world.begin()
    await world.standing.round()
    member = world.federation.members["nl"]
    revoked = frozenset({Credential.read(world.person.credential.payload).serial})
    world.federation.members["nl"] = replace(member, entry=replace(member.entry, revoked=revoked))
    await world.later()
    assert world.pool.asked == 2
    (watch,) = world.standing.listed(world.person.pseudonym)
    assert watch.ended_ms is not None


def test_another_person_s_watch_cannot_be_stopped(world: World) -> None:
    world.begin()
    with pytest.raises(ConversationError, match="no such watch"):
        world.standing.stop(world.serial, "nl-99")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"pseudonym": "nl-99"}, "another person"),
        ({"parts": (b"x" * 32,)}, "other hashes"),
        ({"ends_ms": 2**50}, "renew the kit"),
        ({"issuer": "fr"}, "another person"),
    ],
)
def test_watch_that_its_mandate_does_not_cover_is_not_begun(world: World, values: dict[str, object], why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        world.begin(**values)


async def test_no_folder_holds_what_is_watched_in_clear(world: World) -> None:
    """The gateway's database has it closed, foreign nodes have nothing of it: neither hash, nor serial, nor case."""
    world.begin()
    await world.standing.round()
    hashes = [each.code for each in WATCHED] + [each.code.hex().encode() for each in WATCHED]
    for path in world.folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        foreign = [world.serial, b"NL-SECRET-CASE"] if not path.name.startswith("nl.") else []
        assert not [value for value in (*hashes, *foreign) if value in content], path


async def test_of_an_ended_mandate_a_foreign_node_keeps_serial_and_end_and_nothing_else(world: World) -> None:
    world.begin()
    world.standing.stop(world.serial, world.person.pseudonym)
    await world.standing.round()
    with world.endings["fr"].context.database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM casework_ended_mandates").mappings().all()
    assert [dict(row) for row in rows] == [{"member": "nl", "serial": world.serial, "until_ms": world.federation.clock() + 20 * DAY_MS}]
