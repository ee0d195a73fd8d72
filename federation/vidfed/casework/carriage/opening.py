"""A member's casework, put together from its folder: what its node and its gateway each run of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.casework.carriage.courier import Courier, GrpcTransport
from vidfed.casework.carriage.persons import PersonCore
from vidfed.casework.carriage.pressing import Stage, level_of, pressing_asks, undelivered
from vidfed.casework.carriage.readers import ReaderBook
from vidfed.casework.carriage.receiving import Receiver
from vidfed.casework.carriage.register import ToldRegister
from vidfed.casework.carriage.sending import Sender
from vidfed.casework.carriage.service import CaseworkServicer, PersonServicer
from vidfed.casework.context import Context
from vidfed.casework.duty.alarm import Alarm
from vidfed.casework.duty.rota import DUTY_FILE, read_rota
from vidfed.casework.errors import CaseworkStoreError
from vidfed.casework.news import storage as news_store
from vidfed.casework.news.carrying import NewsCourier, NewsReceiver, NewsSender
from vidfed.casework.news.noticing import Noticing
from vidfed.casework.settings import casework_location, read_casework_section
from vidfed.casework.storage import conversations as store
from vidfed.casework.storage import told as told_store
from vidfed.casework.storage.database import CaseworkDatabase
from vidfed.rpc.supervision import supervise
from vidfed.security.clock import DAY_MS, HOUR_MS, SECOND_MS, as_text, system_clock
from vidfed.v1 import casework_pb2_grpc as rpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator

    import grpc

    from vidfed.casework.duty.rota import Called
    from vidfed.casework.news.records import Records
    from vidfed.casework.settings import CaseworkSection
    from vidfed.casework.storage.outbox import Waiting
    from vidfed.security.audit import AuditLog
    from vidfed.security.identity.directory import DirectorySource
    from vidfed.security.member.home import MemberHome

_THREADS = 4  # a lane of its own: signatures and a small transaction for each call
_TIDY_MS = HOUR_MS
_WATCH_S = 30.0  # a life at risk counts as overdue after an hour
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Casework:
    """What a node or gateway has of its member's casework.

    Attributes:
        section: the settings.
        context: the member.
        readers: who can be sealed to.
        threads: this lane's.
        transport: how other members are reached.
        alarm: how somebody is called.
        records: what there is to be told of; None at a gateway.
    """

    section: CaseworkSection
    context: Context
    readers: ReaderBook
    threads: ThreadPoolExecutor
    transport: GrpcTransport
    alarm: Alarm
    records: Records | None

    @contextlib.asynccontextmanager
    async def serve_node(self, server: grpc.aio.Server, *, first: bool) -> AsyncIterator[None]:
        """Answer other members on `server`, and deliver to them if this is the first of the node's processes."""
        courier = Courier(Sender(self.context), self.transport)
        servicer = CaseworkServicer(Receiver(self.context), NewsReceiver(self.context), courier, self.readers, self.threads)
        rpc.add_CaseworkServiceServicer_to_server(servicer, server)
        work = {"casework's courier": courier.run, "deleting contents": self._tidy, "casework's alarms": self._watch} if first else {}
        if first and self.records is not None:
            noticing = Noticing(self.context, self.records)
            work["news"] = NewsCourier(noticing, NewsSender(self.context, self.records), self.transport).run
        beside = [asyncio.create_task(supervise(name, each)) for name, each in work.items()]
        try:
            yield
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await servicer.close()

    def serve_persons(self, server: grpc.aio.Server) -> None:
        """Answer the own persons on `server`."""
        core = PersonCore(self.context, self.section.officers)
        rpc.add_CaseworkGatewayServiceServicer_to_server(PersonServicer(core, self.readers, self.transport, self.threads), server)

    def delete_what_is_over(self) -> int:
        """Delete contents whose time is over; return of how many entries.

        Raises:
            CaseworkStoreError: it cannot be done now.
        """
        now_ms = self.context.clock()
        with self.context.database.writing() as connection:
            before_ms = now_ms - self.section.told_days * DAY_MS
            told_store.forget_before(connection, before_ms)
            news_store.forget_unneeded(connection, before_ms)
            return store.delete_contents(
                connection,
                closed_before_ms=now_ms - self.section.retention_days * DAY_MS,
                begun_before_ms=now_ms - self.section.maximum_days * DAY_MS,
            )

    def look(self, told: set[tuple[bytes, int, Stage, int]]) -> None:
        """Call somebody about what presses, once for each ask, stage and level of the escalation.

        Args:
            told: what was said already; takes in what is said now.

        Raises:
            CaseworkStoreError: it cannot be known now.
        """
        context, now_ms = self.context, self.context.clock()
        with context.database.reading() as connection:
            found = list(pressing_asks(connection, context.member, now_ms))
            late = undelivered(connection, now_ms, self.section.give_up_days)
        rota = self.alarm.current() if found else None
        for each in found:
            for level in range(level_of(each, rota, now_ms) + 1):
                said = (each.conversation, each.ask, each.stage, level)
                if said not in told and (level or each.stage is not Stage.ASKED):  # that it was asked was said when it came
                    self.alarm.call(each.asker, each.urgency.code, each.conversation.hex(), each.stage.value, level)
                told.add(said)
        for waiting in late:
            said = (waiting.digest, 0, Stage.OVERDUE, 0)
            if said not in told:
                _log.error(
                    "ALARM: an entry for %s is not delivered since %s: %s", waiting.member, as_text(waiting.since_ms), waiting.trouble
                )
            told.add(said)

    async def _watch(self) -> None:
        told: set[tuple[bytes, int, Stage, int]] = set()
        while True:
            try:
                await asyncio.to_thread(self.look, told)
            except CaseworkStoreError as error:
                _log.error("ALARM: it cannot be known what presses: %s", error)
            await asyncio.sleep(_WATCH_S)

    async def _tidy(self) -> None:
        while True:
            try:
                if deleted := await asyncio.to_thread(self.delete_what_is_over):
                    _log.info("deleted the contents of %d entries whose time was over", deleted)
            except CaseworkStoreError as error:
                _log.error("ALARM: contents whose time is over cannot be deleted: %s", error)
            await asyncio.sleep(_TIDY_MS / SECOND_MS)


@dataclass(frozen=True, slots=True)
class CaseworkState:
    """How a member's casework stands.

    Attributes:
        officers: how many can read what others ask.
        open: asks of other members without an answer.
        half_spent: of these, with half of the time gone or more.
        overdue: of these.
        undelivered: own entries that a person should know of.
        on_duty: who is, by the rota; None: there is no rota.
        gap_ms: when next, within a week, nobody is; None: somebody always is, or there is no rota.
        not_known: people of the rota who hold no valid kit with a sealing key of this unit.
    """

    officers: int
    open: int
    half_spent: int
    overdue: int
    undelivered: tuple[Waiting, ...]
    on_duty: Called | None
    gap_ms: int | None
    not_known: tuple[str, ...]


def look_at_casework(home: MemberHome, source: DirectorySource) -> CaseworkState:
    """Return how a member's casework stands, whether a service runs or not.

    Raises:
        HomeError, CaseworkStoreError: it cannot be known.
    """
    section, rota = read_casework_section(home), read_rota(home.folder / DUTY_FILE)
    with contextlib.closing(CaseworkDatabase(casework_location(home, section))) as database:
        database.open()
        now_ms = system_clock()
        book = ReaderBook(home.member, database, source, system_clock)
        known = {each.reader.pseudonym for each, _ in book.known(home.member)}
        officers = len(book.officers(home.member))
        with database.reading() as connection:
            asks = [each.stage for each in pressing_asks(connection, home.member, now_ms, everything=True)]
            late = tuple(undelivered(connection, now_ms, section.give_up_days))
    people = rota.people if rota else ()
    return CaseworkState(
        officers=officers,
        open=len(asks),
        half_spent=sum(stage is not Stage.ASKED for stage in asks),
        overdue=asks.count(Stage.OVERDUE),
        undelivered=late,
        on_duty=rota.on_duty(now_ms) if rota else None,
        gap_ms=rota.gap(now_ms) if rota else None,
        not_known=tuple(person for person in people if person not in known),
    )


@contextlib.contextmanager
def open_casework(
    home: MemberHome,
    source: DirectorySource,
    audit: AuditLog,
    records: Records | None = None,
) -> Iterator[Casework]:
    """Open a member's casework, and close it in the end.

    Args:
        home: the member's folder.
        source: the trust directory.
        audit: the member's log.
        records: the member's, for its node; a gateway, which takes no asks and sends no news, needs none.

    Raises:
        HomeError: `[casework]` is wrong.
        CaseworkStoreError: the tables cannot be opened.
    """
    section = read_casework_section(home)
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(contextlib.closing(CaseworkDatabase(casework_location(home, section))))
        database.open()
        threads = stack.enter_context(ThreadPoolExecutor(_THREADS, thread_name_prefix="casework"))
        readers = ReaderBook(home.member, database, source, system_clock)

        def officers(member: str) -> Collection[bytes] | None:
            return readers.officers(member) if member == home.member else None

        alarm = Alarm(section.alarm, home.folder / DUTY_FILE, section.mail_host, section.mail_from)
        context = Context(
            federation=home.federation,
            member=home.member,
            signer=home.signer,
            directory_source=source,
            database=database,
            audit=audit,
            clock=system_clock,
            officers=officers,
            may_tell=records.may_tell if records else lambda _member, _reference: False,
            alarm=alarm,
            source_of=records.source_of if records else None,
            catch_up=ToldRegister(database, audit.storage).catch_up,
        )
        yield Casework(section, context, readers, threads, GrpcTransport(home.node_tls, source), alarm, records)
