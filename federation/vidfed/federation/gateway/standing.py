"""Standing lookups at a gateway: kept for own persons, asked of each node by itself, answers verified and sealed to the person."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from vidfed.casework.errors import CaseworkStoreError, ConversationError, RefusedError
from vidfed.casework.standing import watches as store
from vidfed.federation.lookup.errors import AnswerError
from vidfed.federation.lookup.question import Part
from vidfed.federation.lookup.sealing import seal
from vidfed.federation.lookup.verification import SignedPart, verify_answer
from vidfed.federation.nodes.outgoing import OutgoingLookup
from vidfed.security.clock import MINUTE_MS, SECOND_MS
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.errors import AuditError, CredentialError, EnvelopeError, SecurityError, SignatureError
from vidfed.security.files import read_private, write_private
from vidfed.security.identity.capabilities import STANDING, all_speak
from vidfed.security.identity.credentials import verify_credential
from vidfed.v1 import envelope_pb2 as envelope_pb
from vidfed.v1 import gateway_pb2 as pb
from vidfed.v1.lookup_pb2 import LookupCall
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.requests import (
    MANDATE_END_TYPE,
    MANDATE_TYPE,
    MAX_ENDED,
    MandateEnd,
    columns_digest,
    read_columns,
    read_mandate,
    sketch_digests,
    write_mandate_end,
    write_request,
)
from vidfed.wire.sketches.columns import sketched
from vidfed.wire.statuses import Status, WireError
from vidfed.wire.values import MESSAGE_ID_BYTES, REQUEST_TYPE, STANDING_METHOD, LookupRequest, RequestHeader, Standing, Urgency

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Protocol

    from vidfed.casework.standing.watches import Closet, Due, Watch
    from vidfed.casework.storage.database import CaseworkDatabase
    from vidfed.federation.gateway.audit_trail import AuditTrail
    from vidfed.federation.nodes.pool import NodePool
    from vidfed.security.clock import Clock
    from vidfed.security.crypto.keys import Signer
    from vidfed.security.identity.directory import Directory, DirectorySource
    from vidfed.wire.requests import Mandate
    from vidfed.wire.values import HashColumn, LookupAnswer

    class EndTransport(Protocol):
        """How nodes are told that mandates have ended."""

        async def end_mandates(self, member: str, end: Envelope) -> None:
            """Tell one.

            Raises:
                OSError, SecurityError: it was not told.
            """


SHORTEST_S = 15 * 60  # between two questions of one watch, if nothing else is set
DEADLINE_S = 60.0  # for one node's answer: nobody waits for it
LOOK_S = 20.0  # at the longest until it is looked again what is due
_MINUTE_S = 60
AGAIN_MS = 15 * MINUTE_MS  # after which a node that has not answered whole is asked again
SHORTEST_PAUSE_S = 0.5
_AT_ONCE = 64
_KEY_BYTES = 32
_log = logging.getLogger(__name__)


def watch_key(path: Path) -> bytes:
    """Return the key with which this gateway closes what is watched; made the first time, and kept outside the database.

    Raises:
        KeyFileError: others could read it.
        OSError: it cannot be kept.
    """
    if not path.exists():
        write_private(path, secrets.token_bytes(_KEY_BYTES))
    return read_private(path)


class _Outcome(NamedTuple):
    """A verified answer, and the same with its question for the person."""

    answer: LookupAnswer
    sealed: bytes


@dataclass(frozen=True, slots=True)
class StandingLookups:
    """One member's standing lookups.

    Attributes:
        federation, member: whose.
        signer: the member's key.
        source: the trust directory.
        database: where they are.
        closet: closes what is watched.
        nodes: asks.
        trail: logs what is asked and what comes.
        ends: tells nodes what has ended.
        clock: gives the time.
        shortest_s: between two questions of one watch.
        found: called with the member and person of something new, and the watch's id in hex.
    """

    federation: str
    member: str
    signer: Signer
    source: DirectorySource
    database: CaseworkDatabase
    closet: Closet
    nodes: NodePool
    trail: AuditTrail
    ends: EndTransport
    clock: Clock
    shortest_s: int = SHORTEST_S
    found: Callable[[str, str, str], None] = lambda _member, _pseudonym, _watch: None
    _changed: asyncio.Event = field(init=False, repr=False, default_factory=asyncio.Event)

    def begin(self, sent: Sequence[pb.WatchRequest], pseudonym: str) -> None:
        """Begin a watch. Blocking.

        Args:
            sent: one for each part, in order.
            pseudonym: of the caller, by the TLS certificate.

        Raises:
            RefusedError: mandate, credential or parts do not hold, or there are too many watches.
            CaseworkStoreError, DirectoryError: it cannot be kept or verified.
        """
        directory, now_ms = self.source.current(), self.clock()
        if not sent:
            raise RefusedError("nothing to watch")
        try:
            credential_sent = wire_envelope.from_message(sent[0].credential)
            envelope = wire_envelope.from_message(sent[0].mandate)
            own = directory.member(self.member)
            credential = verify_credential(
                credential_sent,
                federation=self.federation,
                member=self.member,
                member_keys=own.signing_keys,
                now_ms=now_ms,
                revoked=own.revoked,
            )
            mandate = read_mandate(envelope.verify(MANDATE_TYPE, [credential.key]))
            parts = [(each.part.item_count, read_columns(each.part.columns, each.part.item_count)) for each in sent]
        except (CredentialError, EnvelopeError, SignatureError, WireError) as error:
            raise RefusedError(str(error)) from None
        if (mandate.federation, mandate.issuer, mandate.pseudonym) != (self.federation, self.member, pseudonym):
            raise RefusedError("the mandate is another person's")
        if tuple(columns_digest(count, columns) for count, columns in parts) != mandate.parts:
            raise RefusedError("the mandate is for other hashes")
        if mandate.sketches and mandate.sketches != sketch_digests(parts):
            raise RefusedError("the mandate is for other hashes in outline")
        if not mandate.begins_ms - MINUTE_MS <= now_ms < mandate.ends_ms <= credential.not_after_ms:
            raise RefusedError("the mandate does not begin now, or ends after the kit does: renew the kit first")
        if sent[0].every_s < self.shortest_s:
            raise RefusedError(f"every {self.shortest_s / _MINUTE_S:g} minutes at most")
        for member in mandate.audience:
            directory.member(member)
        with self.database.writing() as connection:
            room = store.add(
                connection,
                serial=mandate.serial,
                pseudonym=pseudonym,
                credential=sent[0].credential.SerializeToString(),
                mandate=sent[0].mandate.SerializeToString(),
                sealing_key=credential.sealing_key,
                every_ms=sent[0].every_s * SECOND_MS,
                ends_ms=mandate.ends_ms,
                closed_parts=[self.closet.close(each.part.SerializeToString()) for each in sent],
                members=mandate.audience,
                now_ms=now_ms,
            )
        if not room:
            raise RefusedError(f"{store.MAX_WATCHES} watches are in force: stop one")

    def listed(self, pseudonym: str) -> list[Watch]:
        """Return a person's watches. Blocking.

        Raises:
            CaseworkStoreError: they cannot be read.
        """
        with self.database.reading() as connection:
            return store.of_person(connection, pseudonym)

    def stop(self, serial: bytes, pseudonym: str) -> None:
        """End a person's watch: here now, at the nodes as soon as they are reached. Blocking.

        Raises:
            ConversationError: there is none.
            CaseworkStoreError: it cannot be written.
        """
        with self.database.writing() as connection:
            raw = store.mandate_of(connection, serial)
            audience = _mandate(raw).audience if raw else ()
            if not store.end(connection, serial, pseudonym, audience, self.clock()):
                raise ConversationError("no such watch of yours is in force")

    def hits(self, pseudonym: str, after: int) -> list[pb.WatchHit]:
        """Return what was found for a person. Blocking.

        Raises:
            CaseworkStoreError: it cannot be read.
        """
        with self.database.reading() as connection:
            found = store.hits_of(connection, pseudonym, after)
        return [pb.WatchHit(number=number, serial=serial, found_ms=time, sealed=sealed) for number, serial, time, sealed in found]

    async def run(self) -> None:
        """Ask until cancelled. What fails is asked again."""
        while True:
            try:
                while await self.round():
                    pass
            except (CaseworkStoreError, AuditError, SecurityError) as error:
                _log.error("ALARM: standing lookups cannot be asked: %s", error)
            except Exception:  # noqa: BLE001 - the others go on whatever one of them did
                _log.exception("ALARM: a defect in standing lookups")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(await asyncio.to_thread(self._pause_s)):
                    await self._changed.wait()
            self._changed.clear()

    def wake(self) -> None:
        """Let `run` look now: a watch has begun or ended. For the event loop's thread."""
        self._changed.set()

    def _pause_s(self) -> float:
        try:
            with self.database.reading() as connection:
                next_ms = store.next_due(connection, self.clock())
        except CaseworkStoreError:
            return LOOK_S
        return LOOK_S if next_ms is None else min(LOOK_S, max(SHORTEST_PAUSE_S, (next_ms - self.clock()) / SECOND_MS))

    async def round(self) -> int:
        """Ask what is due, each member by itself, and tell of what has ended; return how many questions were asked.

        Raises:
            CaseworkStoreError, AuditError, SecurityError: something cannot be read, logged or stored.
        """
        await self._tell_ends()
        found = await asyncio.to_thread(self._due)
        by_member: dict[str, list[Due]] = defaultdict(list)
        for each in found:
            by_member[each.member].append(each)
        directory = self.source.current()
        results = await asyncio.gather(*(self._ask_all(asked, directory) for asked in by_member.values()), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return len(found)

    def _due(self) -> list[Due]:
        now_ms = self.clock()
        with self.database.writing() as connection:
            store.forget(connection, now_ms)
        with self.database.reading() as connection:
            return store.due(connection, self.closet, now_ms, _AT_ONCE)

    async def _tell_ends(self) -> None:
        now_ms = self.clock()
        with self.database.writing() as connection:
            ended = store.ends_due(connection, now_ms)
        for member, serials in ended.items():
            some = serials[:MAX_ENDED]
            end = MandateEnd(self.federation, self.member, member, tuple(serial for serial, _ in some), max(until for _, until in some))
            try:
                await self.ends.end_mandates(member, Envelope(MANDATE_END_TYPE, write_mandate_end(end)).signed_by(self.signer))
            except (OSError, SecurityError) as error:
                _log.warning("%s was not told that mandates have ended: %s", member, error)
                with self.database.writing() as connection:
                    store.end_not_told(connection, member, now_ms + MINUTE_MS)
                continue
            with self.database.writing() as connection:
                store.end_told(connection, member, end.serials)

    async def _ask_all(self, asked: Sequence[Due], directory: Directory) -> None:
        for each in asked:
            await self._ask(each, directory)

    async def _ask(self, asked: Due, directory: Directory) -> None:
        now_ms = self.clock()
        member = directory.members.get(asked.member)
        mandate = _mandate(asked.mandate)
        if member is None or not all_speak(directory, [asked.member], STANDING):
            why = "it is no member any more" if member is None else "its programs do not answer standing lookups yet"
            await asyncio.to_thread(self._failed, asked, why, now_ms + AGAIN_MS)
            return
        if not await asyncio.to_thread(self._still_holds, asked, mandate, directory, now_ms):
            return
        part = pb.WatchedPart.FromString(asked.columns)
        columns = read_columns(part.columns, part.item_count)
        if asked.epoch and mandate.sketches:  # nearly always nothing new is near, and the outline tells
            outcome = await self._ask_once(asked, mandate, part.item_count, sketched(columns), directory, outline=True)
            answer = outcome.answer if outcome is not None else None
            if answer is None or answer.header.status is not Status.ANSWERED or (answer.header.epoch and not answer.hits):
                await self._conclude(asked, mandate, outcome)
                return
        await self._conclude(asked, mandate, await self._ask_once(asked, mandate, part.item_count, columns, directory, outline=False))

    async def _conclude(self, asked: Due, mandate: Mandate, outcome: _Outcome | None) -> None:
        if outcome is not None:
            await asyncio.to_thread(self._take, asked, outcome.answer, mandate.parts[asked.part], outcome.sealed)

    async def _ask_once(
        self, asked: Due, mandate: Mandate, item_count: int, columns: tuple[HashColumn, ...], directory: Directory, *, outline: bool
    ) -> _Outcome | None:
        """Ask a member, and return its verified answer; None, with the reason noted, if there is none."""
        now_ms, member = self.clock(), directory.member(asked.member)
        mandate_sent = envelope_pb.Envelope.FromString(asked.mandate)
        header = RequestHeader(
            federation=self.federation,
            issuer=self.member,
            audience=(asked.member,),
            message_id=secrets.token_bytes(MESSAGE_ID_BYTES),
            issued_ms=now_ms,
            expires_ms=now_ms + int(DEADLINE_S * SECOND_MS),
            method=STANDING_METHOD,
            directory_version=directory.version,
            purpose=mandate.purpose,
            legal_basis=mandate.legal_basis,
            offence_type=mandate.offence_type,
            case_reference=mandate.case_reference,
            pseudonym=mandate.pseudonym,
            urgency=Urgency.ROUTINE,
        )
        standing = Standing(wire_envelope.from_message(mandate_sent).digest, asked.epoch, outline)
        request = LookupRequest(header, item_count, columns, standing=standing)
        signed = Envelope(REQUEST_TYPE, write_request(request)).signed_by(self.signer)
        await self.trail.asked(request, signed.digest)
        call = LookupCall(
            credential=envelope_pb.Envelope.FromString(asked.credential), request=wire_envelope.to_message(signed), mandate=mandate_sent
        )
        reply = await self.nodes.ask(OutgoingLookup(call, directory, DEADLINE_S), member)
        await self.trail.received(request, signed.digest, reply)
        signed_part = SignedPart(Part((), columns), request, signed.digest)
        try:
            if reply.WhichOneof("reply") != "answer":
                raise AnswerError(reply.failure.detail if reply.failure.detail.isprintable() else "it has not answered")
            envelope = wire_envelope.from_message(reply.answer)
            _, answer = verify_answer(envelope, member=member, pending={signed.digest: signed_part}, now_ms=self.clock())
        except (AnswerError, WireError) as error:
            await asyncio.to_thread(self._failed, asked, str(error), self.clock() + AGAIN_MS)
            return None
        sealed = pb.WatchAnswer(member=asked.member, request=wire_envelope.to_message(signed), answer=reply.answer).SerializeToString()
        return _Outcome(answer, sealed)

    def _still_holds(self, asked: Due, mandate: Mandate, directory: Directory, now_ms: int) -> bool:
        """End a watch whose person may not ask any more; the nodes would refuse it, and are told."""
        own = directory.member(self.member)
        try:
            verify_credential(
                wire_envelope.from_message(envelope_pb.Envelope.FromString(asked.credential)),
                federation=self.federation,
                member=self.member,
                member_keys=(*own.signing_keys, *own.retired_keys),
                now_ms=now_ms,
                revoked=own.revoked,
            )
        except CredentialError as error:
            _log.warning("a watch of %s ends: %s", asked.pseudonym, error)
            with self.database.writing() as connection:
                store.end(connection, asked.serial, None, mandate.audience, now_ms)
            return False
        return True

    def _failed(self, asked: Due, trouble: str, next_ms: int) -> None:
        with self.database.writing() as connection:
            store.failed(connection, asked, trouble, next_ms)

    def _take(self, asked: Due, answer: LookupAnswer, part: bytes, answer_bytes: bytes) -> None:
        """Take a verified answer in: the epoch advances on a whole one alone, and what is new goes to the person, sealed."""
        now_ms = self.clock()
        header = answer.header
        hits = [(part, hit.item, answer.records[hit.record].reference) for hit in answer.hits]
        with self.database.writing() as connection:
            new = store.note_new(connection, asked.serial, asked.member, hits)
            if new:
                store.keep_hit(connection, asked, seal(answer_bytes, asked.sealing_key), now_ms)
            if header.status is not Status.ANSWERED:
                store.failed(connection, asked, f"{header.status.name} {header.detail}".strip(), now_ms + AGAIN_MS)
            elif answer.truncated_items or not header.epoch:
                store.failed(connection, asked, "it holds more than it tells of some items", now_ms + asked.every_ms)
            else:
                store.answered(connection, asked, header.epoch, now_ms)
        if new:
            self.found(asked.member, asked.pseudonym, asked.serial.hex())


def _mandate(raw: bytes) -> Mandate:
    """Read a mandate that was verified when the watch began."""
    return read_mandate(envelope_pb.Envelope.FromString(raw).payload)
