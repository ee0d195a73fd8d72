"""A federation in memory that really signs: for tests that fake the peer, never the crypto.

Members, investigators, the trust directory, credentials and calls are made with true keys and certificates, on a clock that the test
sets. Nothing here listens on a network; `MemoryNode` is one member's real pipeline over a real store in a folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import resource
import secrets
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from vidfed.node.lookup.pipeline import Call, LookupPipeline, UnknownPeerError
from vidfed.node.lookup.streams import answer_chunks
from vidfed.node.policy.policy import Policy, Rule
from vidfed.node.policy.quotas import Budgets
from vidfed.node.records.store import RecordStore
from vidfed.node.search.catalogue import Catalogue
from vidfed.security.audit import AuditLog, Checkpoint, log_origin
from vidfed.security.clock import DAY_MS, MINUTE_MS, system_clock
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.errors import AuditError, DirectoryExpiredError
from vidfed.security.identity.credentials import Credential
from vidfed.security.identity.directory import Directory, Member
from vidfed.security.identity.replay import ReplayMemory
from vidfed.security.identity.tls import make_ca, make_investigator_leaf, make_node_leaf
from vidfed.v1.services_pb2 import LookupCall
from vidfed.wire.envelope import to_message
from vidfed.wire.lookup import write_answer, write_request
from vidfed.wire.stream import ChunkChain
from vidfed.wire.values import (
    ANSWER_TYPE,
    LOOKUP_METHOD,
    REQUEST_TYPE,
    STREAM_METHOD,
    AnswerHeader,
    HashColumn,
    IndexState,
    LogReceipt,
    LookupAnswer,
    LookupRequest,
    Purpose,
    RequestHeader,
    Searched,
    Urgency,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
    from pathlib import Path

    from vidfed.index import Hash
    from vidfed.node.records.record import Record
    from vidfed.security.crypto.certificates import TlsIdentity
    from vidfed.security.crypto.keys import Signer
    from vidfed.wire.statuses import Status

FEDERATION = "memory"
ANSWERING = Rule("members", frozenset({"nl", "fr", "br"}), frozenset({Purpose.IDENTIFICATION, Purpose.INVESTIGATION, Purpose.PROSECUTION}))
"""A rule that answers the members most tests have."""


@dataclass(slots=True)
class SettableClock:
    """A clock that stands still until it is told to move. It starts at the real time, because certificates are made by it."""

    now_ms: int = field(default_factory=system_clock)

    def __call__(self) -> int:
        """Return the time."""
        return self.now_ms

    def advance(self, elapsed_ms: int) -> None:
        """Move the clock; backwards if negative."""
        self.now_ms += elapsed_ms


@dataclass(frozen=True, slots=True)
class MemoryMember:
    """One member with its private halves."""

    id: str
    signer: Signer
    audit_signer: Signer
    ca: TlsIdentity
    tls: TlsIdentity
    entry: Member


@dataclass(frozen=True, slots=True)
class MemoryInvestigator:
    """A person of one member who can ask."""

    member: str
    pseudonym: str
    signer: SigningKey
    credential: Envelope
    tls: TlsIdentity


@dataclass(slots=True)
class MemoryFederation:
    """Members of one federation and its directory. It is a `DirectorySource` too: always at the newest version.

    Attributes:
        clock: what all of it goes by.
        federation: its id.
    """

    clock: SettableClock = field(default_factory=SettableClock)
    federation: str = FEDERATION
    members: dict[str, MemoryMember] = field(default_factory=dict)
    version: int = 1
    expires_ms: int = 0

    def __post_init__(self) -> None:
        self.expires_ms = self.clock() + 90 * DAY_MS

    def add(self, *ids: str, endpoint: str = "127.0.0.1:1") -> None:
        """Add members with new keys, CAs and node certificates; a member already there gets all of them anew."""
        for member in ids:
            signer, audit_signer, ca = SigningKey.generate(), SigningKey.generate(), make_ca(self.federation, member)
            keys, audit_keys = (signer.public,), (audit_signer.public,)
            entry = Member(member, f"Unit {member}", endpoint, keys, audit_keys, ca.certificate, f"desk@{member}.example")
            self.members[member] = MemoryMember(member, signer, audit_signer, ca, make_node_leaf(ca, self.federation, member), entry)
        self.version += 1

    def remove(self, member: str) -> None:
        """Take a member out of the directory."""
        del self.members[member]
        self.version += 1

    def directory(self) -> Directory:
        """Return the newest directory, expired or not."""
        entries = {member.id: member.entry for member in self.members.values()}
        return Directory(self.federation, self.version, self.clock(), self.expires_ms, MappingProxyType(entries))

    def current(self) -> Directory:
        """Return the newest directory; see `DirectorySource.current`."""
        if self.clock() >= self.expires_ms:
            raise DirectoryExpiredError("the directory in memory has expired")
        return self.directory()

    def refresh_for(self, member: str) -> bool:
        """Return False: there is never anything newer; see `DirectorySource.refresh_for`."""
        del member
        return False

    def credential(self, member: str, signer: Signer, pseudonym: str, roles: tuple[str, ...] = ()) -> Credential:
        """Return an unsigned credential that is valid for 30 days."""
        now_ms = self.clock()
        serial = secrets.token_hex(16)
        return Credential(self.federation, member, serial, pseudonym, signer.public, now_ms - MINUTE_MS, now_ms + 30 * DAY_MS, roles)

    def investigator(self, member: str, pseudonym: str = "inv-1", roles: tuple[str, ...] = ()) -> MemoryInvestigator:
        """Make an investigator of this member."""
        signer, issuer = SigningKey.generate(), self.members[member]
        credential = self.credential(member, signer, pseudonym, roles).to_envelope(issuer.signer)
        tls = make_investigator_leaf(issuer.ca, self.federation, member, pseudonym)
        return MemoryInvestigator(member, pseudonym, signer, credential, tls)

    def header(self, asker: MemoryInvestigator, *audience: str) -> RequestHeader:
        """Return a new request header from this investigator, issued now, complete and in order."""
        return RequestHeader(
            federation=self.federation,
            issuer=asker.member,
            audience=audience or tuple(sorted(self.members)),
            message_id=secrets.token_bytes(16),
            issued_ms=self.clock(),
            expires_ms=self.clock() + 30_000,
            method=LOOKUP_METHOD,
            directory_version=self.version,
            purpose=Purpose.IDENTIFICATION,
            legal_basis="test law, art. 1",
            offence_type="child-sexual-abuse",
            case_reference="T-2026-1",
            pseudonym=asker.pseudonym,
            urgency=Urgency.ROUTINE,
        )

    def request(self, asker: MemoryInvestigator, hashes: Sequence[Hash], *audience: str, **header: object) -> LookupRequest:
        """Return a question about bare hashes, one item each; `header` replaces fields of the header."""
        complete = replace(self.header(asker, *audience), **header)  # type: ignore[arg-type]  # the test names the fields
        return LookupRequest(complete, len(hashes), columns_of(hashes))

    def chunks(self, asker: MemoryInvestigator, *parts: Sequence[Hash], **header: object) -> list[tuple[LookupRequest, Envelope]]:
        """Return a stream of questions about these parts as it leaves a gateway."""
        chain, signers = ChunkChain(), (asker.signer, self.members[asker.member].signer)
        return [
            chain.sign(self.request(asker, part, **{"method": STREAM_METHOD} | header), *signers, last=number == len(parts))
            for number, part in enumerate(parts, 1)
        ]

    def sign(self, request: LookupRequest, asker: MemoryInvestigator) -> Envelope:
        """Sign a request as it leaves a gateway: by the person and by the person's member."""
        return Envelope(REQUEST_TYPE, write_request(request)).signed_by(asker.signer, self.members[asker.member].signer)


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Let no write of this process to any file succeed, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def columns_of(hashes: Iterable[Hash], distance: int | None = None) -> tuple[HashColumn, ...]:
    """Put bare hashes into columns, hash `i` being item `i`; at each algorithm's default distance if none is given."""
    numbered = list(enumerate(hashes))
    columns = []
    for algorithm in dict.fromkeys(entry.algorithm for _, entry in numbered):
        own = [(item, entry.code) for item, entry in numbered if entry.algorithm is algorithm]
        codes = np.frombuffer(b"".join(code for _, code in own), dtype=np.uint8).reshape(len(own), algorithm.code_bytes)
        items = np.array([item for item, _ in own], dtype=np.uint32)
        columns.append(HashColumn(algorithm, codes, items, algorithm.default_distance if distance is None else distance))
    return tuple(columns)


def call_of(credential: Envelope, request: Envelope) -> LookupCall:
    """Return the message in which a credential and a signed request travel."""
    return LookupCall(credential=to_message(credential), request=to_message(request))


def answer_to(
    request: LookupRequest, digest: bytes, member: str, audit_signer: Signer, status: Status, now_ms: int, **header: object
) -> LookupAnswer:
    """Return an answer without hits as an honest node with an empty log would give it; `header` replaces fields of its header."""
    checkpoint = Checkpoint(log_origin(request.header.federation, member), 0, hashlib.sha256().digest()).signed_by(audit_signer)
    complete = AnswerHeader(
        federation=request.header.federation,
        issuer=member,
        audience=request.header.issuer,
        request_digest=digest,
        method=request.header.method,
        answered_ms=now_ms,
        status=status,
        sequence=request.stream.number if request.stream else 0,
        last=request.stream.last if request.stream else True,
        index=IndexState(1, now_ms, now_ms, tuple(Searched(each.algorithm, each.max_distance) for each in request.columns)),
    )
    named = replace(complete, **header)  # type: ignore[arg-type]  # the test names the fields
    return LookupAnswer(named, log=LogReceipt(0, bytes(32), checkpoint.text))


def sign_answer(answer: LookupAnswer, signer: Signer) -> Envelope:
    """Sign an answer."""
    return Envelope(ANSWER_TYPE, write_answer(answer)).signed_by(signer)


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
        self.replay = ReplayMemory(folder / "replay.db")
        self.audit = AuditLog(
            folder / "audit.db", log_origin(federation.federation, member), self.member.audit_signer, clock=federation.clock
        )
        self.audit.checkpoint()
        self.policy = SettablePolicy(Policy(rules or (ANSWERING,)))
        self.budgets = Budgets(folder / "rates.db")
        self.pipeline = LookupPipeline(
            federation=federation.federation,
            member=member,
            signer=self.member.signer,
            directory_source=federation,
            catalogue=self.catalogue,
            policy=self.policy,
            budgets=self.budgets,
            replay=self.replay,
            audit=self.audit,
            clock=federation.clock,
        )

    def __enter__(self) -> Self:
        self.catalogue.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.catalogue.close()
        self.store.close()
        self.replay.close()
        self.budgets.close()
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
