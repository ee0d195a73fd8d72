"""A person's standing lookups, from the own machine: "tell me when somebody learns it".

    async with StandingClient(kit) as client:
        watch = await client.watch(items, justification, days=20)
        for found in await client.found(): ...

What is watched stays in the own member: hashes at the gateway, closed; labels in this kit, below KIT/watches, mode 0600. Answers are
verified here again, and kept as receipts, so that details of what was found can be asked for.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import grpc

from vidfed.casework.news.book import NewsBook
from vidfed.federation.client.receipt_store import RECEIPTS_FILE, ReceiptStore
from vidfed.federation.lookup.errors import GatewayError, GatewayRefusedError, MailboxError, QuestionError
from vidfed.federation.lookup.question import Item, Part, split
from vidfed.federation.lookup.result import LookupResult
from vidfed.federation.lookup.sealing import unseal
from vidfed.federation.lookup.verification import ReplyVerifier, SignedPart
from vidfed.index import Algorithm
from vidfed.rpc.channels import open_channel
from vidfed.security.clock import DAY_MS, system_clock
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.errors import SecurityError
from vidfed.security.files import read_private, write_private
from vidfed.security.identity.credentials import Credential
from vidfed.v1 import gateway_pb2 as pb
from vidfed.v1 import gateway_pb2_grpc as rpc
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.requests import (
    MANDATE_TYPE,
    SERIAL_BYTES,
    Mandate,
    columns_digest,
    read_mandate,
    read_request,
    sketch_digests,
    write_columns,
    write_mandate,
)
from vidfed.wire.statuses import WireError
from vidfed.wire.values import REQUEST_TYPE, Purpose

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from vidfed.federation.lookup.outcome import FoundHit
    from vidfed.federation.lookup.question import Justification
    from vidfed.security.clock import Clock
    from vidfed.security.member.kit import Kit

DEFAULT_EVERY_MINUTES = 360
_TIMEOUT_S = 60.0
_MINUTE_S = 60
_KIND = "vidfed-watch/1"
_ID = re.compile(r"[0-9a-f]{32}")
_SHORTEST_ID = 6


@dataclass(frozen=True, slots=True)
class WatchedBy:
    """How far one member has answered: until when, None: not yet; and why not since."""

    member: str
    until_ms: int | None
    trouble: str


@dataclass(frozen=True, slots=True)
class OwnWatch:
    """One of the person's standing lookups.

    Attributes:
        id: 32 hex digits; the mandate's serial.
        case_reference: what it is for; empty where this kit did not begin it.
        labels: of what is watched.
        ends_ms: when it ends.
        ended_ms: when it was stopped before; None: it was not.
        members: those asked.
        not_asked: members that the mandate does not name: they joined later, or were not chosen.
    """

    id: str
    case_reference: str
    labels: tuple[str, ...]
    ends_ms: int
    ended_ms: int | None
    members: tuple[WatchedBy, ...]
    not_asked: tuple[str, ...]

    @property
    def text(self) -> str:
        """How far it is watched, for people, without times."""
        answering = [each for each in self.members if each.until_ms is not None and not each.trouble]
        return f"{len(answering)} of {len(self.members)}"


@dataclass(frozen=True, slots=True)
class Found:
    """One hit of a standing lookup: of which watch, what of it, when."""

    watch: str
    label: str
    hit: FoundHit
    found_ms: int


class StandingClient:
    """One person's standing lookups. Use as an async context manager."""

    def __init__(self, kit: Kit, clock: Clock = system_clock) -> None:
        """Use a kit.

        Raises:
            SecurityError: the kit or its trust directory cannot be used.
        """
        self._kit = kit
        self._clock = clock
        self._source = kit.directory_source(clock)
        directory = self._source.current()
        self._channel = open_channel(kit.gateway, kit.tls, directory, directory.member(kit.member))
        self._gateway = rpc.StandingGatewayServiceStub(self._channel)
        self._folder = kit.folder / "watches"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def watch(
        self,
        items: Iterable[Item],
        justification: Justification,
        *,
        days: float,
        every_minutes: float = DEFAULT_EVERY_MINUTES,
        ask: Sequence[str] = (),
        distances: Mapping[Algorithm, int] | None = None,
    ) -> str:
        """Let the own gateway ask about items again and again, and return the watch's id.

        Args:
            items: as for a lookup.
            justification: why; every node logs it with each question.
            days: for how long; at most as long as the kit is valid.
            every_minutes: how often; 15 or more, if the gateway sets nothing else.
            ask: members to ask; all that are members now if empty.
            distances: maximum distance where it is not the algorithm's default.

        Raises:
            QuestionError: an item has no hash, there is none, or it would last longer than the kit.
            GatewayError, GatewayRefusedError: the gateway fails or refuses.
        """
        directory, now_ms = self._source.current(), self._clock()
        parts = list(split(items, distances or {}))
        ends_ms = now_ms + int(days * DAY_MS)
        if not parts:
            raise QuestionError("nothing to watch")
        if ends_ms > (until_ms := Credential.read(self._kit.credential.payload).not_after_ms):
            left = max(0, until_ms - now_ms) // DAY_MS
            raise QuestionError(f"your kit is valid for {left} more days: watch for less, or renew it first (vidfed enrol)")
        mandate = Mandate(
            directory.federation,
            self._kit.member,
            self._kit.pseudonym,
            tuple(directory.member(member).id for member in dict.fromkeys(ask)) or directory.full_members(),
            secrets.token_bytes(SERIAL_BYTES),
            justification.purpose,
            justification.legal_basis,
            justification.offence_type,
            justification.case_reference,
            tuple(columns_digest(len(part.items), part.columns) for part in parts),
            now_ms,
            ends_ms,
            sketch_digests([(len(part.items), part.columns) for part in parts]),
        )
        await self._begin(mandate, parts, every_minutes)
        return mandate.serial.hex()

    async def renew(self, named: str, *, days: float) -> str:
        """Begin a watch of the same items anew and end the old one; return the new one's id.

        Raises:
            MailboxError: this kit has begun no such watch.
            QuestionError, GatewayError, GatewayRefusedError: as `watch`.
        """
        old, parts, every_minutes = await asyncio.to_thread(self._load, await asyncio.to_thread(self._named, named))
        now_ms = self._clock()
        members = self._source.current().full_members()
        mandate = Mandate(
            old.federation,
            old.issuer,
            old.pseudonym,
            members,
            secrets.token_bytes(SERIAL_BYTES),
            old.purpose,
            old.legal_basis,
            old.offence_type,
            old.case_reference,
            old.parts,
            now_ms,
            now_ms + int(days * DAY_MS),
            old.sketches,
        )
        await self._begin(mandate, parts, every_minutes)
        with contextlib.suppress(GatewayRefusedError):  # it has ended by itself
            await self.stop(old.serial.hex())
        return mandate.serial.hex()

    async def identify(self, named: str) -> str:
        """Return the whole id, 32 hex digits, of the watch of this kit whose id begins so.

        Raises:
            MailboxError: there is none, or more than one.
        """
        return named if _ID.fullmatch(named) else await asyncio.to_thread(self._named, named)

    async def stop(self, named: str) -> str:
        """End a watch: here and at the gateway now, at every node as soon as it is reached; return its id.

        Raises:
            MailboxError: there is no such watch.
            GatewayError, GatewayRefusedError: the gateway fails or refuses.
        """
        identity = await self.identify(named)
        with _failures():
            await self._gateway.StopWatch(pb.StopWatchRequest(serial=bytes.fromhex(identity)), timeout=_TIMEOUT_S)
        return identity

    async def stop_case(self, case_reference: str) -> list[str]:
        """End all watches of a case; return their ids.

        Raises:
            GatewayError, GatewayRefusedError: the gateway fails or refuses.
        """
        stopped = []
        for own in await self.watches():
            if own.case_reference == case_reference and own.ended_ms is None:
                await self.stop(own.id)
                stopped.append(own.id)
        return stopped

    async def watches(self) -> list[OwnWatch]:
        """Return this person's watches and how far they are answered, those that go on first.

        Raises:
            GatewayError, GatewayRefusedError: the gateway fails or refuses.
        """
        with _failures():
            response = await self._gateway.ListWatches(pb.ListWatchesRequest(), timeout=_TIMEOUT_S)
        found = []
        for state in response.watches:
            case: str = ""
            labels: tuple[str, ...] = ()
            with contextlib.suppress(MailboxError):
                mandate, parts, _ = await asyncio.to_thread(self._load, state.serial.hex())
                case, labels = mandate.case_reference, tuple(item.label for part in parts for item in part.items)
            members = tuple(
                WatchedBy(each.member, each.watched_until_ms if each.HasField("watched_until_ms") else None, each.trouble)
                for each in state.members
            )
            ended_ms = state.ended_ms if state.HasField("ended_ms") else None
            found.append(OwnWatch(state.serial.hex(), case, labels, state.ends_ms, ended_ms, members, tuple(state.not_asked)))
        return found

    async def found(self, after: int = 0) -> list[Found]:
        """Return what was found since a number, verified here again; what does not hold was not found.

        Raises:
            GatewayError, GatewayRefusedError: the gateway fails or refuses.
        """
        with _failures():
            kept = [each async for each in self._gateway.WatchHits(pb.WatchHitsRequest(after=after), timeout=_TIMEOUT_S)]
        found: list[Found] = []
        for each in kept:
            with contextlib.suppress(MailboxError, SecurityError, WireError, ValueError):
                found += await asyncio.to_thread(self._opened, each)
        return found

    def _opened(self, kept: pb.WatchHit) -> list[Found]:
        answer = pb.WatchAnswer.FromString(unseal(kept.sealed, self._kit.sealing_key))
        directory = self._source.current()
        mandate, parts, _ = self._load(kept.serial.hex())
        own = directory.member(self._kit.member)
        envelope = wire_envelope.from_message(answer.request)
        request = read_request(envelope.verify(REQUEST_TYPE, (*own.signing_keys, *own.retired_keys)))
        digest = columns_digest(request.item_count, request.columns)
        if digest not in mandate.parts:
            raise MailboxError("an answer to another question")
        asked = SignedPart(parts[mandate.parts.index(digest)], request, envelope.digest)
        verdict = ReplyVerifier[Part](directory, self._clock).judge(
            pb.NodeReply(member=answer.member, answer=answer.answer), {envelope.digest: asked}
        )
        if verdict is None or verdict.answered is None:
            raise MailboxError("an answer that does not hold")
        if verdict.receipt is not None:
            with contextlib.closing(ReceiptStore(self._kit.folder / RECEIPTS_FILE)) as receipts:
                receipts.keep([verdict.receipt])
        items = asked.part.items
        (told,) = LookupResult((), (verdict.outcome,)).with_news(NewsBook(self._kit.folder).all()).nodes
        return [Found(kept.serial.hex(), items[hit.item].label, hit, kept.found_ms) for hit in told.hits]

    async def _begin(self, mandate: Mandate, parts: Sequence[Part], every_minutes: float) -> None:
        signed = Envelope(MANDATE_TYPE, write_mandate(mandate)).signed_by(self._kit.signer)
        await asyncio.to_thread(self._keep, mandate, signed, parts, every_minutes)  # before it is asked: what is found must be readable

        async def requests() -> AsyncIterator[pb.WatchRequest]:
            for number, part in enumerate(parts):
                message = pb.WatchRequest(part=pb.WatchedPart(item_count=len(part.items), columns=write_columns(part.columns)))
                if not number:
                    message.credential.CopyFrom(wire_envelope.to_message(self._kit.credential))
                    message.mandate.CopyFrom(wire_envelope.to_message(signed))
                    message.every_s = round(every_minutes * _MINUTE_S)
                yield message

        with _failures():
            await self._gateway.Watch(requests(), timeout=_TIMEOUT_S)

    def _keep(self, mandate: Mandate, signed: Envelope, parts: Sequence[Part], every_minutes: float) -> None:
        fields = {
            "kind": _KIND,
            "mandate": base64.b64encode(signed.to_json()).decode(),
            "every_minutes": every_minutes,
            "parts": [[_item_fields(item) for item in part.items] for part in parts],
            "distances": {column.algorithm.value: column.max_distance for part in parts for column in part.columns},
        }
        write_private(self._folder / f"{mandate.serial.hex()}.json", json.dumps(fields).encode())

    def _named(self, named: str) -> str:
        known = [path.stem for path in self._folder.glob("*.json")] if self._folder.is_dir() else []
        found = [identity for identity in known if len(named) >= _SHORTEST_ID and identity.startswith(named.lower())]
        if len(found) != 1:
            raise MailboxError(f"{'no watch' if not found else 'several watches'} named {named!r:.40}: `vidfed watch list` shows them")
        return found[0]

    def _load(self, identity: str) -> tuple[Mandate, list[Part], float]:
        path: Path = self._folder / f"{identity}.json"
        if not _ID.fullmatch(identity) or not path.exists():
            raise MailboxError(f"this kit has begun no watch {identity[:12]}")
        try:
            fields: dict[str, Any] = json.loads(read_private(path))
            signed = Envelope.from_json(base64.b64decode(fields["mandate"], validate=True))
            mandate = read_mandate(signed.verify(MANDATE_TYPE, [self._kit.signer.public]))
            distances = {Algorithm(name): int(distance) for name, distance in fields["distances"].items()}
            parts = [next(iter(split([_item(entry) for entry in part], distances))) for part in fields["parts"]]
            return mandate, parts, float(fields["every_minutes"])
        except (ValueError, KeyError, TypeError, StopIteration, SecurityError, WireError):
            raise MailboxError(f"{path}: damaged; stop the watch and begin it anew") from None


def _item_fields(item: Item) -> dict[str, Any]:
    codes = {algorithm.value: [code.hex() for code in codes] for algorithm, codes in item.codes.items()}
    return {"label": item.label, "codes": codes, **item.to_fields()}


def _item(fields: Mapping[str, Any]) -> Item:
    codes = {Algorithm(name): tuple(map(bytes.fromhex, values)) for name, values in fields["codes"].items()}
    return Item.from_fields(str(fields["label"]), codes, fields)


def purpose_of(code: str) -> Purpose:
    """Return the purpose of this code."""
    return {each.code: each for each in Purpose}[code]


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            raise GatewayError("the gateway cannot be reached: is it running, is your kit still valid?") from None
        said = error.details() or error.code().name
        if error.code() is grpc.StatusCode.PERMISSION_DENIED:
            raise GatewayRefusedError(f"the gateway refuses: {said}") from None
        raise GatewayError(f"the gateway says: {said}") from None
