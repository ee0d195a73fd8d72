"""A gateway with standing lookups, and true nodes that it asks, over a clock that the test moves."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from nacl.public import PrivateKey

from tests.support.memory import MemoryFederation, MemoryNode, columns_of
from tests.support.records import record
from vidfed.casework.context import Context
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
from vidfed.wire.requests import MANDATE_TYPE, Mandate, columns_digest, sketch_digests, write_columns, write_mandate
from vidfed.wire.values import Purpose

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vidfed.federation.nodes.outgoing import OutgoingLookup
    from vidfed.federation.nodes.pool import NodePool
    from vidfed.security.identity.directory import Member
    from vidfed.wire.values import HashColumn

WATCHED = tuple(Hash(Algorithm.MD5, record(seed).hashes[Algorithm.MD5]) for seed in range(1, 4))


class Nodes:
    """Asks true nodes directly, and tells them what has ended."""

    def __init__(self, world: StandingWorld) -> None:
        self.world = world
        self.down: set[str] = set()
        self.asked = 0
        self.bytes_sent = 0

    async def ask(self, outgoing: OutgoingLookup, member: Member) -> pb.NodeReply:
        self.asked += 1
        if member.id in self.down:
            return pb.NodeReply(member=member.id, failure=pb.Failure(kind=pb.FAILURE_KIND_UNREACHABLE, detail="nobody answers"))
        answer = wire_envelope.to_message(self.world.nodes[member.id].ask(outgoing.call, "nl"))
        self.bytes_sent += outgoing.call.ByteSize() + answer.ByteSize()
        return pb.NodeReply(member=member.id, answer=answer)

    async def end_mandates(self, member: str, end: Envelope) -> None:
        if member in self.down:
            raise OSError(f"{member}: nobody answers")
        self.world.endings[member].take(end, "nl")


class OpenedNodes(dict[str, MemoryNode]):
    """The nodes of fr and de, each opened when it is needed first."""

    def __init__(self, world: StandingWorld, stack: contextlib.ExitStack) -> None:
        super().__init__()
        self._world, self._stack = world, stack

    def __missing__(self, member: str) -> MemoryNode:
        node = self[member] = self._stack.enter_context(MemoryNode(self._world.federation, member, self._world.folder / member))
        authenticator = node.pipeline._authenticator
        standing = replace(authenticator.standing, has_ended=self._world.endings[member].has_ended)
        object.__setattr__(node.pipeline, "_authenticator", replace(authenticator, standing=standing))
        return node


class StandingWorld:
    """nl's gateway, and other members' nodes; what is watched are three pictures by their digests, if nothing else is said."""

    def __init__(
        self, folder: Path, stack: contextlib.ExitStack, members: Sequence[str] = ("fr", "de"), parts: Sequence[Sequence[HashColumn]] = ()
    ) -> None:
        self.parts, self.members_asked = list(parts) or [columns_of(WATCHED)], tuple(members)
        self.folder = folder
        self.federation = federation = MemoryFederation()
        federation.add("nl", *members)
        self.endings = {member: Endings(self._context(member, self._database(member, stack))) for member in members}
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
            found=lambda *called: self.called.append(called),
        )
        self.called: list[tuple[str, ...]] = []
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

    def requests(self, **values: Any) -> list[pb.WatchRequest]:  # noqa: ANN401 - fields of a mandate
        """Return what a client sends to begin a watch."""
        now_ms = self.federation.clock()
        counts = [int(max(column.items.max() for column in columns)) + 1 for columns in self.parts]
        mandate = Mandate(
            federation=self.federation.federation,
            issuer="nl",
            pseudonym=self.person.pseudonym,
            audience=self.members_asked,
            serial=self.serial,
            purpose=Purpose.IDENTIFICATION,
            legal_basis="test law",
            offence_type="child-sexual-abuse",
            case_reference="NL-SECRET-CASE",
            parts=tuple(columns_digest(count, columns) for count, columns in zip(counts, self.parts, strict=True)),
            begins_ms=now_ms,
            ends_ms=now_ms + 20 * DAY_MS,
            sketches=sketch_digests(list(zip(counts, self.parts, strict=True))),
        )
        signed = Envelope(MANDATE_TYPE, write_mandate(replace(mandate, **values))).signed_by(self.person.signer)
        return [
            pb.WatchRequest(
                credential=wire_envelope.to_message(self.person.credential),
                mandate=wire_envelope.to_message(signed),
                part=pb.WatchedPart(item_count=count, columns=write_columns(columns)),
                every_s=360 * 60,
            )
            for count, columns in zip(counts, self.parts, strict=True)
        ]

    def begin(self, **values: Any) -> None:  # noqa: ANN401 - as above
        """Begin the watch."""
        self.standing.begin(self.requests(**values), self.person.pseudonym)

    async def later(self, hours: float = 6) -> None:
        self.federation.clock.advance(int(hours * HOUR_MS))
        await self.standing.round()

    def hits(self) -> list[pb.WatchHit]:
        return self.standing.hits(self.person.pseudonym, 0)

    def members(self) -> dict[str, tuple[int | None, str]]:
        (watch,) = self.standing.listed(self.person.pseudonym)
        return {each.member: (each.watched_until_ms, each.trouble) for each in watch.members}
