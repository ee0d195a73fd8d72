"""Members, their investigators and their directory, with all private halves."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from tests.support.memory.clock import SettableClock
from tests.support.memory.questions import columns_of
from vidfed.security.clock import DAY_MS, MINUTE_MS
from vidfed.security.crypto.certificates import TlsIdentity
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.errors import DirectoryExpiredError
from vidfed.security.identity.credentials import Credential
from vidfed.security.identity.directory import Directory, Member
from vidfed.security.identity.tls import (
    INVESTIGATOR_ROLE,
    Peer,
    certify_investigator,
    make_ca,
    make_node_leaf,
    make_tls_key,
    tls_public_key,
)
from vidfed.wire.capabilities import SPOKEN
from vidfed.wire.requests import write_request
from vidfed.wire.stream import ChunkChain
from vidfed.wire.values import LOOKUP_METHOD, REQUEST_TYPE, STREAM_METHOD, LookupRequest, Purpose, RequestHeader, Urgency

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidfed.index import Hash
    from vidfed.security.crypto.keys import Signer

FEDERATION = "memory"


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


SEALING_KEY = bytes(range(32))


def investigator_tls(ca: TlsIdentity, federation: str, holder: Peer) -> TlsIdentity:
    """Make a person's TLS key, and have it certified."""
    key = make_tls_key()
    return TlsIdentity(key, certify_investigator(ca, federation, holder, tls_public_key(key)))


@dataclass(slots=True)
class MemoryFederation:
    """Members of one federation and its directory. It is a `DirectorySource` too: always at the newest version.

    Attributes:
        clock: what all of it goes by.
        federation: its id.
        issued_ms: when the directory was last confirmed; 0: just now, always.
    """

    clock: SettableClock = field(default_factory=SettableClock)
    federation: str = FEDERATION
    members: dict[str, MemoryMember] = field(default_factory=dict)
    version: int = 1
    expires_ms: int = 0
    issued_ms: int = 0

    def __post_init__(self) -> None:
        self.expires_ms = self.clock() + 90 * DAY_MS

    def add(self, *ids: str, endpoint: str = "127.0.0.1:1") -> None:
        """Add members with new keys, CAs and node certificates; a member already there gets all of them anew."""
        for member in ids:
            signer, audit_signer, ca = SigningKey.generate(), SigningKey.generate(), make_ca(self.federation, member)
            keys, audit_keys = (signer.public,), (audit_signer.public,)
            entry = Member(member, f"Unit {member}", endpoint, keys, audit_keys, ca.certificate, f"desk@{member}.example", speaks=SPOKEN)
            self.members[member] = MemoryMember(member, signer, audit_signer, ca, make_node_leaf(ca, self.federation, member), entry)
        self.version += 1

    def remove(self, member: str) -> None:
        """Take a member out of the directory."""
        del self.members[member]
        self.version += 1

    def directory(self) -> Directory:
        """Return the newest directory, expired or not."""
        entries = {member.id: member.entry for member in self.members.values()}
        return Directory(self.federation, self.version, self.issued_ms or self.clock(), self.expires_ms, MappingProxyType(entries))

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
        keys, validity = (signer.public, SEALING_KEY), (now_ms - MINUTE_MS, now_ms + 30 * DAY_MS)
        return Credential(self.federation, member, serial, pseudonym, *keys, *validity, roles)

    def investigator(self, member: str, pseudonym: str = "inv-1", roles: tuple[str, ...] = ()) -> MemoryInvestigator:
        """Make an investigator of this member."""
        signer, issuer = SigningKey.generate(), self.members[member]
        issued = self.credential(member, signer, pseudonym, roles)
        tls = investigator_tls(issuer.ca, self.federation, Peer(member, INVESTIGATOR_ROLE, pseudonym, issued.serial))
        return MemoryInvestigator(member, pseudonym, signer, issued.to_envelope(issuer.signer), tls)

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
