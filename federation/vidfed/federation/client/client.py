"""The investigator's side: asks through the own member's gateway, believes nobody, and says what each node said.

Every answer is verified here against this kit's own copy of the directory, and the set of answers against the set that should have
answered: a gateway can neither alter, invent, misattribute nor hide one.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from google.protobuf.message import DecodeError

from vidfed.federation.client.history import DamagedLookupError, History, PartPlace
from vidfed.federation.client.receipt_store import RECEIPTS_FILE, ReceiptStore, ReceiptWriter
from vidfed.federation.client.replies import LookupReplies
from vidfed.federation.client.stream import PartStream
from vidfed.federation.client.transport import GrpcTransport, NotInLogError
from vidfed.federation.lookup.closing import OLD_ANSWER_MS, Answered
from vidfed.federation.lookup.errors import GatewayError, MailboxError
from vidfed.federation.lookup.outcome import asked_without_frames, not_asked
from vidfed.federation.lookup.question import split
from vidfed.federation.lookup.receipts import Checked, Receipt, check_proof
from vidfed.federation.lookup.result import LookupResult, merge, together
from vidfed.federation.lookup.sealing import unseal
from vidfed.federation.lookup.verification import P, SignedPart
from vidfed.security.clock import SECOND_MS, system_clock
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.errors import ReceiptError
from vidfed.security.identity.capabilities import FILMS, all_speak
from vidfed.v1 import audit_pb2 as audit_pb
from vidfed.v1 import gateway_pb2 as pb
from vidfed.v1.lookup_pb2 import LookupCall
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.requests import write_request
from vidfed.wire.values import GATEWAY_GRACE_S, LOOKUP_METHOD, MESSAGE_ID_BYTES, REQUEST_TYPE, STREAM_METHOD, LookupRequest, RequestHeader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

    from vidfed.federation.client.history import PastLookup
    from vidfed.federation.client.transport import Transport
    from vidfed.federation.lookup.outcome import NodeOutcome
    from vidfed.federation.lookup.question import Item, Justification, Part
    from vidfed.index import Algorithm
    from vidfed.security.clock import Clock
    from vidfed.security.identity.directory import Directory
    from vidfed.security.member.kit import Kit
    from vidfed.security.trust.mirrors import Mirror

DEFAULT_DEADLINE_S = 20.0
CHUNK_LIFE_S = 60.0  # no node takes an older one anyway
_NEWER_S = 10.0  # that a client waits for a newer directory before it says that an answer cannot be believed
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class LookupStatus:
    """How one of the investigator's lookups stands.

    Attributes:
        lookup: as the kit remembers it.
        replies: kept by the gateway, of all parts together; None if it keeps nothing of it (any more).
        asked: members times parts.
        collecting_until_ms: when the last part stops taking late answers.
        kept_until_ms: when the gateway deletes the first part.
    """

    lookup: PastLookup
    replies: int | None
    asked: int
    collecting_until_ms: int = 0
    kept_until_ms: int = 0


class FederationClient:
    """Asks for one investigator. Use as an async context manager."""

    def __init__(self, kit: Kit, *, clock: Clock = system_clock, transport: Transport | None = None) -> None:
        """Begin with a kit.

        Args:
            kit: the investigator's.
            clock: gives the time.
            transport: to the gateway; the kit's own gateway over the network if None. Closed with this client.

        Raises:
            SecurityError: the kit or its trust directory cannot be used.
        """
        self._kit = kit
        self._clock = clock
        self._source = kit.directory_source(clock, self._mirrors)
        self._history = History(kit.folder / "lookups")
        self._receipts = ReceiptStore(kit.folder / RECEIPTS_FILE)
        self.transport: Transport = transport or GrpcTransport(kit, self._source.last_known_or_fail())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.transport.close()
        self._receipts.close()

    @property
    def directory(self) -> Directory:
        """The trust directory in use.

        Raises:
            DirectoryError: there is no usable one.
        """
        return self._source.current()

    async def refresh_directory(self) -> Directory:
        """Take what the gateway holds if it is newer and holds; return the directory to use.

        What the gateway has and does not hold changes nothing: the kit's own copy is used until it expires.

        Raises:
            DirectoryError: there is no usable directory.
        """
        await asyncio.to_thread(self._source.refresh)
        return self._source.current()

    async def directory_for(self, versions: Mapping[str, int]) -> Directory:
        """Return the directory to judge a result by, after asking for a newer one if a node answered by a newer one.

        Args:
            versions: by which version of the directory each member answered.

        Raises:
            DirectoryError: there is no usable directory.
        """
        directory = self._source.current()
        ahead = next((member for member, version in versions.items() if version > directory.version), None)
        if ahead is not None and await asyncio.to_thread(self._source.refresh_for, ahead):
            directory = self._source.current()
        return directory

    async def ask(
        self,
        items: Iterable[Item],
        justification: Justification,
        *,
        distances: Mapping[Algorithm, int] | None = None,
        ask: Sequence[str] = (),
        deadline_s: float = DEFAULT_DEADLINE_S,
        keep: bool = True,
        on_node: Callable[[NodeOutcome], None] = lambda _: None,
        on_part: Callable[[int], None] = lambda _: None,
    ) -> LookupResult:
        """Ask every member about items, in as many lookups as it takes, and say what each of them said.

        Args:
            items: in any number; `items_of_pictures` and `items_of_hashes` make them.
            justification: why; every node logs it, and refuses without.
            distances: maximum distance (inclusive) where it is not the algorithm's default.
            ask: members to ask; all if empty.
            deadline_s: how long each lookup waits for the slowest node, in seconds.
            keep: let the gateway collect and keep late answers, readable with this kit alone; see `resume`.
            on_node: called with what each node said, verified, as it comes.
            on_part: called with the number of items done after each lookup.

        Returns:
            All items with all hits; `result.lookup` is the id for `resume`.

        Raises:
            QuestionError: an item has no hash.
            UnknownMemberError: `ask` names somebody who is no member.
            GatewayError, GatewayRefusedError: the gateway fails or refuses; nothing is known then.
        """
        own = self._history.begin() if keep else ""
        if own:
            await asyncio.to_thread(self._history.prune, self._clock())
        results: list[LookupResult] = []
        parts = list(split(items, distances or {}))
        for number, part in enumerate(parts):
            place = PartPlace(own, number, last=number == len(parts) - 1) if own else None
            results.append(await self.lookup(part, justification, ask=ask, deadline_s=deadline_s, on_node=on_node, remember=place))
            on_part(len(part.items))
        until_ms = max((result.collecting_until_ms for result in results), default=0)
        if own and not until_ms:
            await asyncio.to_thread(self._history.forget, own)  # the gateway keeps nothing: there is nothing to fetch
        return replace(merge(results), lookup=own if until_ms else "", collecting_until_ms=until_ms)

    async def resume(self, lookup: str) -> LookupResult:
        """Fetch what the gateway has collected of an earlier lookup, verify all of it again, and say what each node said.

        Args:
            lookup: its id.

        Raises:
            QuestionError: not an id.
            MailboxError: kit or gateway do not have it (any more), or what they have is damaged.
            GatewayError, GatewayRefusedError: the gateway fails or refuses.
        """
        own = await asyncio.to_thread(self._history.load, lookup)
        directory = self._source.current()
        results: list[LookupResult] = []
        for part in own.parts:
            async with ReceiptWriter(self._receipts) as writer:
                replies = LookupReplies(part.asked, directory, self._clock, writer.add)
                async for member, sealed in self.transport.fetch(part.asked.digest):
                    try:
                        reply = pb.NodeReply.FromString(unseal(sealed, part.private_key))
                    except (MailboxError, DecodeError):
                        replies.take_unreadable(member)
                    else:
                        replies.take(reply)
                await replies.judge_again(self._newer_directory)
            result = replies.result()
            directory = await self.directory_for({node.member: node.directory for node in result.nodes})
            result = replace(result, not_asked=part.not_asked_by(directory), directory=directory.version)
            if part.without_frames:
                result = replace(result, nodes=tuple(map(asked_without_frames, result.nodes)))
            results.append(together(results.pop(), result) if part.beside else result)
        state = (await self._states([own]))[0]
        now_ms = self._clock()
        answered_at = Answered(own.asked_ms, own.asked_ms, limits=now_ms - own.asked_ms > OLD_ANSWER_MS)
        merged = replace(merge(results), lookup=lookup, collecting_until_ms=state.collecting_until_ms, whole=own.whole)
        return replace(merged, answered_at=answered_at)

    async def history(self) -> list[LookupStatus]:
        """Return the lookups this kit remembers and how they stand at the gateway, the newest first.

        Raises:
            MailboxError: what the kit remembers is damaged.
            GatewayError, GatewayRefusedError: the gateway fails or refuses.
        """
        own = await asyncio.to_thread(lambda: [self._history.load(lookup) for lookup in self._history.ids()])
        return sorted(await self._states(own), key=lambda state: -state.lookup.asked_ms)

    def remembered(self, lookup: str) -> PastLookup:
        """Return one of the lookups this kit remembers, as it was asked.

        Raises:
            QuestionError: not an id.
            MailboxError: this kit remembers no such lookup, or what it has of it is damaged.
        """
        return self._history.load(lookup)

    async def forget(self, lookup: str) -> None:
        """Delete a lookup here and at the gateway. Of one that is damaged here the gateway keeps for its time what nobody can open.

        Raises:
            QuestionError: not an id.
            MailboxError: this kit remembers no such lookup.
            GatewayError, GatewayRefusedError: the gateway fails or refuses; then it is deleted nowhere.
        """
        try:
            parts = (await asyncio.to_thread(self._history.load, lookup)).parts
        except DamagedLookupError:
            parts = ()
        for part in parts:
            try:
                await self.transport.forget(part.asked.digest)
            except MailboxError:
                continue  # already gone there
        await asyncio.to_thread(self._history.forget, lookup)

    async def _newer_directory(self, member: str) -> Directory | None:
        """Return a newer directory than the one at hand, None if none comes in time."""
        loop = asyncio.get_running_loop()
        known, until_s = self._source.current(), loop.time() + _NEWER_S
        while True:
            under_way = self._source.refresh_for(member)
            if (newest := self._source.current()).version > known.version:
                return newest
            if not under_way or loop.time() >= until_s:
                return None
            await asyncio.sleep(_LOOK_S)

    def _mirrors(self, known: Directory | None) -> list[Mirror]:
        return self.transport.mirrors(known)

    async def _states(self, lookups: Sequence[PastLookup]) -> list[LookupStatus]:
        kept = {one.id: one for one in await self.transport.mailbox_entries()}
        states = []
        for own in lookups:
            asked = sum(len(part.asked.request.header.audience) for part in own.parts)
            there = [kept[part.asked.digest] for part in own.parts if part.asked.digest in kept]
            if not there:
                states.append(LookupStatus(own, None, asked))
                continue
            collecting = max(one.collecting_until_ms for one in there)
            states.append(LookupStatus(own, sum(one.replies for one in there), asked, collecting, min(one.kept_until_ms for one in there)))
        return states

    async def lookup(
        self,
        part: Part,
        justification: Justification,
        *,
        ask: Sequence[str] = (),
        deadline_s: float = DEFAULT_DEADLINE_S,
        on_node: Callable[[NodeOutcome], None] = lambda _: None,
        remember: PartPlace | None = None,
    ) -> LookupResult:
        """Ask about the items of one part.

        Args:
            part: from `split`.
            justification: why.
            ask: members to ask; all if empty.
            deadline_s: how long to wait for the slowest node.
            on_node: called with what each node said, verified, as it comes; not for nodes of which the gateway says nothing.
            remember: the part's place in the own lookup, to have replies kept; None: nothing is kept.

        Raises:
            UnknownMemberError: `ask` names somebody who is no member.
            GatewayError, GatewayRefusedError: the gateway fails or refuses; nothing is known then.
        """
        directory = self._source.current()
        audience = tuple(directory.member(member).id for member in dict.fromkeys(ask)) or directory.full_members()
        older = tuple(member for member in audience if part.films and not all_speak(directory, [member], FILMS))

        def asked(part: Part, members: tuple[str, ...], place: PartPlace | None) -> Awaitable[LookupResult]:
            left_out = not_asked(directory, audience, chosen=bool(ask))
            told = on_node if not older or members != older else lambda node: on_node(asked_without_frames(node))
            return self._lookup(part, self._request(part, justification, members, directory, deadline_s), deadline_s, told, place, left_out)

        newer = tuple(member for member in audience if member not in older)
        requests = [asked(part, newer, remember)] if newer else []
        if older:
            beside = None if remember is None else remember._replace(without_frames=True, beside=bool(requests))
            requests.append(asked(part.without_frames(), older, beside))
        told = await asyncio.gather(*requests, return_exceptions=True)
        results = []
        for each in told:
            if isinstance(each, BaseException):
                raise each
            results.append(each)
        if older:
            results[-1] = replace(results[-1], nodes=tuple(map(asked_without_frames, results[-1].nodes)))
        result = results[0] if len(results) == 1 else together(*results)
        directory = await self.directory_for({node.member: node.directory for node in result.nodes})
        left_out = not_asked(directory, audience, chosen=bool(ask))
        return replace(result, items=part.items, not_asked=left_out, directory=directory.version)

    async def _lookup(
        self,
        part: Part,
        request: LookupRequest,
        deadline_s: float,
        on_node: Callable[[NodeOutcome], None],
        remember: PartPlace | None,
        left_out: Sequence[NodeOutcome],
    ) -> LookupResult:
        """Send one request and gather what its audience says."""
        directory = self._source.current()
        envelope = Envelope(REQUEST_TYPE, write_request(request)).signed_by(self._kit.signer)
        call = LookupCall(credential=wire_envelope.to_message(self._kit.credential), request=wire_envelope.to_message(envelope))
        if remember is not None:
            call.keep_for = await asyncio.to_thread(self._history.remember, remember, envelope, part.items, left_out)
        collecting: list[int] = []
        async with ReceiptWriter(self._receipts) as writer:
            replies = LookupReplies(SignedPart(part, request, envelope.digest), directory, self._clock, writer.add, on_node)
            try:
                async for reply in self.transport.lookup(call, deadline_s + GATEWAY_GRACE_S, collecting.append):
                    replies.take(reply)
            except GatewayError:
                if not replies.outcomes:
                    raise
            await replies.judge_again(self._newer_directory)
        return replace(replies.result(), collecting_until_ms=max(collecting, default=0))

    async def lookup_stream(
        self, parts: AsyncIterator[P], justification: Justification, *, ask: Sequence[str], on_node: Callable[[P, NodeOutcome], None]
    ) -> dict[str, NodeOutcome]:
        """Ask about any number of parts, one after the other, with few of them under way at a time.

        Args:
            parts: taken as they are needed.
            justification: why.
            ask: members to ask.
            on_node: called with what each node said about each part, verified, as it comes.

        Returns:
            The members that left the stream before its end, and why; parts of which `on_node` was not told them were not answered.

        Raises:
            UnknownMemberError: `ask` names somebody who is no member.
            GatewayError, GatewayRefusedError: the gateway fails or refuses; what `on_node` was told holds all the same.
        """
        directory = self._source.current()
        audience = tuple(directory.member(member).id for member in dict.fromkeys(ask))

        def compose(part: P) -> LookupRequest:
            return self._request(part, justification, audience, directory, CHUNK_LIFE_S, STREAM_METHOD)

        stream = PartStream(self._kit, directory, audience, self._receipts, self._clock, compose, on_node)
        await stream.run(self.transport, parts)
        return stream.left

    async def fetch_proof(self, receipt: Receipt) -> Checked:
        """Ask the node for the proof that its log has the answer of a receipt, and check it.

        Raises:
            ReceiptError: the node does not stand by its answer, or cannot show that it does.
            GatewayError: gateway or node cannot be reached; that proves nothing.
        """
        directory = self._source.current()
        log, then, _, _ = receipt.read(directory)
        wanted = audit_pb.GetProofRequest(position=log.position, known_size=then.size, commitment=log.commitment)
        try:
            response = await self.transport.proof(pb.GetMemberProofRequest(member=receipt.member, proof=wanted))
        except NotInLogError:
            raise ReceiptError(
                f"{receipt.member} says that its log has no entry {log.position} or no state of {then.size} entries, and signed both"
            ) from None
        return check_proof(receipt, response, directory)

    def _request(
        self,
        part: Part,
        justification: Justification,
        audience: tuple[str, ...],
        directory: Directory,
        deadline_s: float,
        method: str = LOOKUP_METHOD,
    ) -> LookupRequest:
        now_ms = self._clock()
        header = RequestHeader(
            federation=directory.federation,
            issuer=self._kit.member,
            audience=audience,
            message_id=secrets.token_bytes(MESSAGE_ID_BYTES),
            issued_ms=now_ms,
            expires_ms=now_ms + int((deadline_s + GATEWAY_GRACE_S) * SECOND_MS),
            method=method,
            directory_version=directory.version,
            purpose=justification.purpose,
            legal_basis=justification.legal_basis,
            offence_type=justification.offence_type,
            case_reference=justification.case_reference,
            pseudonym=self._kit.pseudonym,
            urgency=justification.urgency,
        )
        return LookupRequest(header, len(part.items), part.columns, films=part.films)
