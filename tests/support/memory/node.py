"""One member's real pipeline, without a network."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from vidfed.node.lookup.authenticate import UnknownPeerError
from vidfed.node.lookup.pipeline import LookupPipeline
from vidfed.node.lookup.question import Call
from vidfed.node.lookup.streams import answer_chunks
from vidfed.node.lookup.told import ToldCodes
from vidfed.node.policy.policy import Policy, Rule
from vidfed.node.policy.quotas import Quotas
from vidfed.node.records.store import RecordStore
from vidfed.node.search.canary import open_canary
from vidfed.node.search.catalogue import Catalogue
from vidfed.security.audit import AuditLog, log_origin
from vidfed.security.errors import AuditError
from vidfed.security.identity.replay import ReplayMemory
from vidfed.wire.values import Purpose

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from tests.support.memory.members import MemoryFederation
    from vidfed.node.records.record import Record
    from vidfed.security.crypto.envelope import Envelope
    from vidfed.v1.lookup_pb2 import LookupCall

ANSWERING = Rule("members", frozenset({"nl", "fr", "br"}), frozenset({Purpose.IDENTIFICATION, Purpose.INVESTIGATION, Purpose.PROSECUTION}))
"""A rule that answers the members most tests have."""


@dataclass(slots=True)
class SettablePolicy:
    """A policy that a test can replace."""

    policy: Policy
    taken_ms: int = 0

    def current(self) -> Policy:
        """Return it."""
        return self.policy


class MemoryNode:
    """One member's pipeline over a real store, index, replay memory and audit log below `folder`. Use as a context manager.

    It answers by these rules; by `ANSWERING` if none is given.
    """

    def __init__(self, federation: MemoryFederation, member: str, folder: Path, *rules: Rule) -> None:
        self.federation = federation
        self.member = federation.members[member]
        folder.mkdir(exist_ok=True)
        self.store = RecordStore(folder / "records.db")
        self.catalogue = Catalogue(self.store, folder / "index", federation.clock)
        self._stack = contextlib.ExitStack()
        canary = open_canary(folder / "canary", federation.federation, member, federation.clock, keeper=True)
        self.canary = self._stack.enter_context(canary)
        self.replay = ReplayMemory(folder / "replay.db")
        self.audit = AuditLog(
            folder / "audit.db", log_origin(federation.federation, member), self.member.audit_signer, clock=federation.clock
        )
        self.audit.checkpoint()
        self.policy = SettablePolicy(Policy(rules or (ANSWERING,)))
        self.quotas = Quotas(folder / "quotas.db")
        self.told_codes = ToldCodes(folder / "told.db")
        self.pipeline = LookupPipeline(
            federation=federation.federation,
            member=member,
            signer=self.member.signer,
            directory_source=federation,
            catalogue=self.catalogue,
            canary=self.canary,
            policy=self.policy,
            quotas=self.quotas,
            told_codes=self.told_codes,
            replay=self.replay,
            audit=self.audit,
            clock=federation.clock,
        )

    def __enter__(self) -> Self:
        self.catalogue.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.catalogue.close()
        self._stack.close()
        self.store.close()
        self.replay.close()
        self.quotas.close()
        self.told_codes.close()
        with contextlib.suppress(AuditError):  # a test may have closed it already
            self.audit.close()

    def hold(self, *records: Record) -> None:
        """Take records into the store."""
        self.store.upsert(records, now_ms=self.federation.clock())

    def logged(self) -> int:
        """Return how many entries the audit log has."""
        return len(self.audit)

    def last_entry(self) -> dict[str, Any]:
        """Return what the audit log's newest entry says."""
        return self.audit.storage.entry(len(self.audit) - 1).fields()

    def ask(self, call: LookupCall, peer: str) -> Envelope:
        """Return the signed answer to a call that arrives over a connection of this member's node."""
        return self.ask_as(self.federation.members[peer].tls.certificate, call)

    def ask_as(self, leaf_pem: bytes, call: LookupCall) -> Envelope:
        """Return the signed answer to a call over a connection with this certificate.

        Raises:
            UnknownPeerError: it is no member's node's, and is owed no answer.
        """
        (answer,) = self.pipeline.answer([Call(call, leaf_pem)])
        if answer is None:
            raise UnknownPeerError
        return answer

    def stream(self, chunks: AsyncIterator[LookupCall], peer: str, stopping: asyncio.Event | None = None) -> AsyncGenerator[Envelope, None]:
        """Return the signed answers to a stream that arrives over a connection of this member's node."""
        leaf = self.federation.members[peer].tls.certificate
        return answer_chunks(self.pipeline, chunks, leaf, asyncio.to_thread, stopping or asyncio.Event())
