"""Members that really carry conversations: true keys, signatures, databases and logs; the network between them is the test's."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tests.support.casework import ASK, RELEASE
from tests.support.memory import MemoryFederation
from vidfed.casework.carriage.courier import Courier
from vidfed.casework.carriage.persons import PersonCore
from vidfed.casework.carriage.receiving import Receiver
from vidfed.casework.carriage.sending import Sender
from vidfed.casework.context import Context
from vidfed.casework.core.state import State, state_of
from vidfed.casework.news.carrying import NewsCourier, NewsReceiver, NewsSender
from vidfed.casework.news.noticing import Noticing
from vidfed.casework.news.records import RecordNow
from vidfed.casework.reading import View, read_inbox
from vidfed.casework.sealing import SealingKey, unseal
from vidfed.casework.storage import conversations as store
from vidfed.casework.storage import outbox
from vidfed.casework.storage import told as told_store
from vidfed.casework.storage.database import CaseworkDatabase
from vidfed.casework.writing import Hit, Person, write
from vidfed.security.audit import AuditLog, log_origin
from vidfed.security.audit.storage.tables import Storage
from vidfed.security.clock import DAY_MS
from vidfed.security.identity.officers import OFFICER_ROLE, Officer
from vidfed.wire.casework_values import Body, Content, EntryHeader, Reader, Side, Subject
from vidfed.wire.values import RecordView

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from vidfed.casework.carriage.persons import Sent
    from vidfed.casework.core.conversation import Conversation
    from vidfed.security.crypto.envelope import Envelope
    from vidfed.v1 import casework_pb2 as pb

ASKER, OWNER = "nl", "fr"


@dataclass(slots=True)
class Network:
    """Calls the members' receivers directly, with the bytes that would travel.

    Attributes:
        receivers: by member.
        down: members that cannot be reached.
        lose_answers: how many receipts are still to be lost on their way back.
        delivered: what was delivered, with its receiver, in order.
    """

    receivers: dict[str, Receiver] = field(default_factory=dict)
    news: dict[str, NewsReceiver] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    lose_answers: int = 0
    delivered: list[tuple[str, pb.Delivery]] = field(default_factory=list)

    def between(self, caller: str) -> _Line:
        """Return the transport of one member."""
        return _Line(self, caller)


@dataclass(frozen=True, slots=True)
class _Line:
    network: Network
    caller: str

    def _reached(self, member: str) -> Receiver:
        if member in self.network.down or self.caller in self.network.down:
            raise OSError(f"{member}: nobody answers")
        return self.network.receivers[member]

    async def deliver(self, member: str, delivery: pb.Delivery) -> Envelope:
        receiver = self._reached(member)
        self.network.delivered.append((member, delivery))
        receipt = receiver.deliver(delivery, self.caller)
        if self.network.lose_answers:
            self.network.lose_answers -= 1
            raise OSError(f"{member}: the connection broke")
        return receipt

    async def notify(self, member: str, news: Envelope) -> Envelope:
        self._reached(member)
        receipt = self.network.news[member].notify(news, self.caller)
        if self.network.lose_answers:
            self.network.lose_answers -= 1
            raise OSError(f"{member}: the connection broke")
        return receipt

    async def fetch(self, member: str, request: pb.FetchRequest) -> Sequence[pb.Delivery]:
        return list(self._reached(member).fetch(request, self.caller).entries)


@dataclass(slots=True)
class MadeUpRecords:
    """Records that are only stated: what news and conversations need of a node. A change is a new version, as in a store."""

    withheld: set[tuple[str, str]] = field(default_factory=set)
    kept: dict[str, RecordNow] = field(default_factory=dict)
    history: str = "first"
    version: int = 0

    def put(self, reference: str, state: str = "live", **values: Any) -> None:  # noqa: ANN401 - any field of a record
        """Add a record, or change it."""
        self.version += 1
        before = self.kept.get(reference)
        view = replace(before.view if before else RecordView(reference), **values) if state != "erased" else RecordView(reference)

        def tellable(member: str) -> bool:
            return state == "live" and (member, reference) not in self.withheld

        self.kept[reference] = RecordNow(self.version, state, view, tellable)

    def may_tell(self, member: str, reference: str) -> bool:
        return (member, reference) not in self.withheld

    def source_of(self, reference: str) -> str:
        return f"source of {reference}"

    def changes_after(self, version: int, limit: int) -> list[tuple[int, str]]:
        return sorted((now.version, name) for name, now in self.kept.items() if now.version > version)[:limit]

    def mark(self, version: int) -> str:
        return self.history if version <= self.version else ""

    def look(self, references: Collection[str]) -> dict[str, RecordNow]:
        return {name: self.kept[name] for name in references if name in self.kept}


def made_up_records() -> MadeUpRecords:
    """Return records of which everything may be told."""
    return MadeUpRecords()


class CaseworkMember:
    """One member's casework below a folder, or in a PostgreSQL database."""

    def __init__(self, world: World, member: str, folder: Path, location: str | None = None) -> None:
        self.world, self.member, self.folder = world, member, folder
        folder.mkdir(exist_ok=True)
        self.location = location or folder / "casework.db"
        self.officers_needed = 1
        self.alarms: list[EntryHeader] = []
        self.records = MadeUpRecords(world.withheld)
        self.open()

    def open(self) -> None:
        """Open everything, as a process that starts does."""
        federation, own = self.world.federation, self.world.federation.members[self.member]
        self.database = CaseworkDatabase(self.location)
        self.database.open()
        self.audit = AuditLog(
            self.folder / "audit.db", log_origin(federation.federation, self.member), own.audit_signer, clock=federation.clock
        )
        self.context = Context(
            federation=federation.federation,
            member=self.member,
            signer=own.signer,
            directory_source=federation,
            database=self.database,
            audit=self.audit,
            clock=federation.clock,
            officers=self.world.officer_keys,
            may_tell=self.records.may_tell,
            alarm=self.alarms.append,
            source_of=lambda _reference: "national list",
        )
        self.receiver = Receiver(self.context)
        self.sender = Sender(self.context)
        self.core = PersonCore(self.context, self.officers_needed)
        self.courier = Courier(self.sender, self.world.network.between(self.member))
        self.world.network.receivers[self.member] = self.receiver
        self.world.network.news[self.member] = NewsReceiver(self.context)
        self.noticing = Noticing(self.context, self.records)
        sender = NewsSender(self.context, self.records)
        self.news_courier = NewsCourier(self.noticing, sender, self.world.network.between(self.member))

    def close(self) -> None:
        """Close what is open."""
        self.database.close()
        self.audit.close()

    def restart(self) -> None:
        """Close, and open again what is on disk."""
        self.close()
        self.open()

    def conversation(self, identity: bytes) -> Conversation:
        """Return a conversation as this member holds it."""
        with self.database.reading() as connection:
            return store.load(connection, identity)

    def state(self, identity: bytes) -> State:
        """Return its state."""
        return state_of(self.conversation(identity))

    def log(self) -> list[dict[str, Any]]:
        """Return what the audit log says."""
        origin = log_origin(self.world.federation.federation, self.member)
        with contextlib.closing(Storage(self.folder / "audit.db", origin, read_only=True)) as storage:
            return [sealed.fields() for _, sealed in storage.entries(0, storage.size())]

    def waiting(self) -> list[outbox.Waiting]:
        """Return what is in the outbox."""
        with self.database.reading() as connection:
            return outbox.waiting(connection)

    def view(self, person: Person, identity: bytes, roles: Collection[str] = (OFFICER_ROLE,)) -> View:
        """Return what a person of this member believes of a conversation."""
        kept = self.core.inbox(person.pseudonym, roles, conversation=identity)
        return read_inbox(kept, self.world.federation.directory(), self.member, self.world.federation.clock()).get(identity, View())


class World:
    """Two members, a hit of one at the other, and their people."""

    def __init__(self, folder: Path, locations: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.federation = MemoryFederation()
        self.federation.add(ASKER, OWNER, "de")
        self.network = Network()
        self.withheld: set[tuple[str, str]] = set()
        self.holder, self.deputy = self.person(ASKER, "nl-7"), self.person(ASKER, "nl-8")
        self.officer, self.second = self.person(OWNER, "fr-1", OFFICER_ROLE), self.person(OWNER, "fr-2", OFFICER_ROLE)
        locations = locations or {}
        self.members = {name: CaseworkMember(self, name, folder / name, locations.get(name)) for name in (ASKER, OWNER)}
        self.asker, self.owner = self.members[ASKER], self.members[OWNER]

    def person(self, member: str, pseudonym: str, *roles: str, listed: bool = True) -> Person:
        """Make somebody with a kit; an officer is `listed` as one."""
        made, sealing = self.federation.investigator(member, pseudonym, roles), SealingKey.generate()
        if OFFICER_ROLE in roles and listed:
            self.list_officer(member, Officer(pseudonym, made.signer.public, sealing.public))
        return Person(member, pseudonym, made.signer, made.credential, sealing)

    def list_officer(self, member: str, officer: Officer) -> None:
        """List an officer in the directory, as if the administrators had accepted them."""
        own = self.federation.members[member]
        listed = replace(own.entry.officers, present=(*own.entry.officers.present, officer))
        self.federation.members[member] = replace(own, entry=replace(own.entry, officers=listed))

    def unlist_officer(self, member: str, person: Person) -> None:
        """Take an officer out of the directory's list."""
        own = self.federation.members[member]
        gone = own.entry.officers.find(person.pseudonym, person.signer.public)
        present = tuple(each for each in own.entry.officers.present if each is not gone)
        officers = replace(own.entry.officers, present=present, former=tuple(filter(None, (gone,))))
        self.federation.members[member] = replace(own, entry=replace(own.entry, officers=officers))

    def officer_keys(self, member: str) -> Collection[bytes]:
        """Return the officers' sealing keys."""
        return [self.officer.sealing.public, self.second.sealing.public] if member == OWNER else []

    def hit(self, number: int = 1, *, told: bool = True, holder: Person | None = None, deputy: Person | None = None) -> Hit:
        """Return a hit that the owner told, or did not."""
        digests = [hashlib.sha256(f"{kind} {number}".encode()).digest() for kind in ("lookup", "answer")]
        readers = [Reader(each.pseudonym, each.sealing.public) for each in (holder or self.holder, deputy or self.deputy)]
        subject = Subject(digests[0], digests[1], f"FR-{number:04}", readers[0], readers[1])
        if told:
            answer = told_store.Told(digests[0], digests[1], ASKER, readers[0].pseudonym, self.federation.clock(), (subject.reference,))
            with self.owner.database.writing() as connection:
                told_store.note(connection, [answer])
        return Hit(self.federation.federation, ASKER, OWNER, subject)

    def compose(self, person: Person, hit: Hit, body: Body, text: str = "", cosigner: Person | None = None) -> pb.Delivery:
        """Return what a person signs, on what the own gateway showed it."""
        view = self.members[person.member].view(person, hit.conversation)
        assert not view.problems
        return write(
            person,
            hit,
            view.conversation,
            body,
            Content(text=text),
            officers=self.officer_keys(hit.owner),
            now_ms=self.federation.clock(),
            cosigner=(cosigner.pseudonym, cosigner.credential) if cosigner else None,
        )

    def say(self, person: Person, hit: Hit, body: Body, text: str = "") -> Sent:
        """Let a person write into a conversation."""
        return self.members[person.member].core.send(self.compose(person, hit, body, text), person.pseudonym)

    async def carry(self, rounds: int = 20) -> None:
        """Let both couriers work until nothing is due any more."""
        for _ in range(rounds):
            if not sum([await member.courier.round() for member in self.members.values()]):
                return

    async def settle(self) -> None:
        """Let time pass until all has arrived."""
        for _ in range(40):
            await self.carry()
            if not any(member.waiting() for member in self.members.values()):
                return
            self.federation.clock.advance(16 * 60_000)

    async def asked(self, number: int = 1, **answers: bool) -> Hit:
        """Return a hit about which an ask has arrived."""
        hit = self.hit(number)
        self.say(self.holder, hit, ASK, "who is she?")
        if answers.get("released"):
            await self.carry()
            self.say(self.officer, hit, RELEASE, "Anna Example")
        await self.carry()
        return hit

    def read(self, person: Person, hit: Hit, side: Side) -> list[str]:
        """Return the texts of one side's entries, opened with a person's key."""
        view = self.members[person.member].view(person, hit.conversation)
        assert not view.problems
        return [
            unseal(entry.header, view.sealed[entry.digest], person.sealing, view.later_wraps[entry.digest]).text
            for entry in view.conversation.side(side)
        ]

    def revoke(self, person: Person) -> None:
        """Revoke a person's kit, and publish it."""
        from vidfed.security.identity.credentials import Credential  # noqa: PLC0415

        member = self.federation.members[person.member]
        revoked = member.entry.revoked | {Credential.read(person.credential.payload).serial}
        self.federation.members[person.member] = replace(member, entry=replace(member.entry, revoked=revoked))

    def pass_days(self, days: float) -> None:
        """Let time pass."""
        self.federation.clock.advance(int(days * DAY_MS))

    def close(self) -> None:
        """Close what is open."""
        for member in self.members.values():
            member.close()


@contextlib.contextmanager
def failing_at(database: CaseworkDatabase, statement: int) -> Iterator[Callable[[], int]]:
    """Let the n-th statement of a database end the process, as it were; gives how many there were."""
    import sqlalchemy as sa  # noqa: PLC0415

    count = 0

    def before(*_: object) -> None:
        nonlocal count
        count += 1
        if count == statement:
            raise Killed

    sa.event.listen(database._engine, "before_cursor_execute", before)
    sa.event.listen(database._engine, "commit", before)
    try:
        yield lambda: count
    finally:
        sa.event.remove(database._engine, "before_cursor_execute", before)
        sa.event.remove(database._engine, "commit", before)


class Killed(BaseException):
    """The process was killed."""
