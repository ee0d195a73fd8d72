"""Steps 1 to 4 of a gateway's lookup (see `core`): who asks, and whether the request is theirs. Without any effect."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from vidfed.security.errors import CredentialError, PeerError, SignatureError
from vidfed.security.identity.credentials import verify_credential
from vidfed.security.identity.replay import check_time_window
from vidfed.security.identity.tls import INVESTIGATOR_ROLE, verify_peer
from vidfed.wire.requests import read_request
from vidfed.wire.values import REQUEST_TYPE

if TYPE_CHECKING:
    from vidfed.security.clock import Clock
    from vidfed.security.crypto.envelope import Envelope
    from vidfed.security.identity.credentials import Credential
    from vidfed.security.identity.directory import Directory, DirectorySource
    from vidfed.security.identity.tls import Peer
    from vidfed.security.member.issued import Standing
    from vidfed.wire.values import LookupRequest

NEWER_S = 5.0  # that a caller waits for a newer directory at most; a mirror that answers does so in a fraction of it
_LOOK_S = 0.05  # between two looks at what the thread that asks has found


class Admission:
    """What must hold before a member's gateway asks anybody. Every step raises SecurityError or WireError where it refuses."""

    def __init__(self, member: str, source: DirectorySource, standing: Standing, clock: Clock) -> None:
        """Prepare.

        Args:
            member: whose gateway.
            standing: knows which of the member's serials are revoked, published or not.
            source: gives the trust directory, and a newer one where a key is not known.
            clock: gives the time.
        """
        self._member = member
        self._standing = standing
        self.source = source
        self._clock = clock

    def authenticate(self, leaf_pem: bytes, directory: Directory) -> Peer:
        """Step 1: the TLS peer is an investigator of this member, whose credential is not revoked."""
        peer = verify_peer(leaf_pem, directory, self._clock())
        if (peer.member, peer.role) != (self._member, INVESTIGATOR_ROLE):
            raise PeerError(f"this gateway serves the investigators of {self._member} only")
        if peer.serial in self._revoked(directory):
            raise PeerError(f"the kit of {peer.pseudonym} (serial {peer.serial}) was revoked; ask your unit")
        return peer

    def owner(self, peer: Peer) -> str:
        """Return what kept lookups of this peer belong to: the first of the serials that renewed one another up to the peer's."""
        return self._standing.owner(peer.serial)

    def _revoked(self, directory: Directory) -> frozenset[str]:
        return directory.member(self._member).revoked | self._standing.revoked()

    async def admit(self, credential: Envelope, signed: Envelope, peer: Peer, directory: Directory, method: str) -> LookupRequest:
        """Steps 2 to 4; with a newer directory, if one comes, where this one does not know a key or is older than the caller's.

        Waits for it without a thread, for this caller alone. Arguments as of `check`.
        """
        check = self.check  # signatures take their time: not on the event loop, where every other lookup would wait for them
        try:
            request = await asyncio.to_thread(check, credential, signed, peer, directory, method)
        except (CredentialError, SignatureError):
            await self._wait_for_newer(peer, directory)
            return await asyncio.to_thread(check, credential, signed, peer, self.source.current(), method)
        if request.header.directory_version > directory.version:
            await self._wait_for_newer(peer, directory)
        return request

    async def _wait_for_newer(self, peer: Peer, known: Directory) -> None:
        """Return once a newer directory is there, or none is asked for any more, or it takes too long."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + NEWER_S
        while self.source.refresh_for(peer.member) and self.source.current().version <= known.version and loop.time() < until_s:  # noqa: ASYNC110 - a thread's work
            await asyncio.sleep(_LOOK_S)

    def check(self, credential: Envelope, signed: Envelope, peer: Peer, directory: Directory, method: str) -> LookupRequest:
        """Steps 2 to 4. Blocking: signatures are verified.

        Args:
            credential: the caller's.
            signed: the request, as received.
            peer: from step 1.
            directory: to go by.
            method: the call it came by.
        """
        now_ms = self._clock()
        holder = self.verify_credential(credential, peer, directory, now_ms)  # 2
        request = self.read_request(signed, holder)  # 3
        self.check_request(request, holder, directory, method, now_ms)  # 4
        return request

    def verify_credential(self, credential: Envelope, peer: Peer, directory: Directory, now_ms: int) -> Credential:
        """Step 2: the credential holds and is the same person's as the TLS certificate."""
        own = directory.member(self._member)
        holder = verify_credential(
            credential,
            federation=directory.federation,
            member=own.id,
            member_keys=own.signing_keys,
            now_ms=now_ms,
            revoked=self._revoked(directory),
        )
        if (holder.pseudonym, holder.serial) != (peer.pseudonym, peer.serial):
            raise PeerError("the credential is another person's than the TLS certificate")
        return holder

    def read_request(self, signed: Envelope, holder: Credential) -> LookupRequest:
        """Step 3: the holder's signature holds over the bytes as received; only then they are read."""
        return read_request(signed.verify(REQUEST_TYPE, [holder.key]))

    def check_request(self, request: LookupRequest, holder: Credential, directory: Directory, method: str, now_ms: int) -> None:
        """Step 4: the request comes from this member and person, now, for this call."""
        header = request.header
        if (header.federation, header.issuer, header.pseudonym) != (directory.federation, self._member, holder.pseudonym):
            raise PeerError("the request names another federation, member or person")
        if header.method != method:
            raise PeerError("the request was signed for another call")
        check_time_window(header.issued_ms, header.expires_ms, now_ms)
