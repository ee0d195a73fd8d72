"""What carrying entries needs of the member it is done for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from vidfed.casework.core.clocks import ALLOWANCE_MS
from vidfed.casework.core.stored import chain_of
from vidfed.casework.storage import conversations as store
from vidfed.security.audit.entries import AuditEntry, Event, Operation
from vidfed.wire.casework_values import Ask, Close, Correct, NotTheSame, Refuse, Release, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from vidfed.casework.core.conversation import Entry
    from vidfed.casework.storage.database import CaseworkDatabase
    from vidfed.security.clock import Clock
    from vidfed.security.crypto.keys import Signer
    from vidfed.security.identity.directory import DirectorySource
    from vidfed.wire.casework_values import Body, EntryHeader


class Log(Protocol):
    """The member's audit log."""

    def append_many(self, entries: Sequence[AuditEntry]) -> object:
        """Append; durable when it returns.

        Raises:
            AuditError: it cannot be written.
        """


@dataclass(frozen=True, slots=True)
class Context:
    """One member, as its node and gateway carry its conversations. All of it may be used from several threads.

    Attributes:
        federation, member: who this is.
        signer: the member's signing key.
        directory_source: gives the trust directory.
        database: where conversations are.
        audit: the member's log.
        clock: gives the time.
        officers: the X25519 public keys of a member's officers, by its id; None where another member's are not known here, and its own node
            will check.
        may_tell: tells whether today's policy tells this member of this record; asked by id and reference.
        catch_up: takes into the register of whom this member told what its log has meanwhile.
        source_of: tells which source is in charge of a record; None where records are not known, as at a gateway.
        alarm: called with the header of an entry that a person should see at once, after it is on disk.
    """

    federation: str
    member: str
    signer: Signer
    directory_source: DirectorySource
    database: CaseworkDatabase
    audit: Log
    clock: Clock
    officers: Callable[[str], Collection[bytes] | None]
    may_tell: Callable[[str, str], bool]
    alarm: Callable[[EntryHeader], None]
    catch_up: Callable[[], object] = lambda: None
    source_of: Callable[[str], str] | None = None

    def log(
        self,
        event: Event,
        entry: Entry,
        other: str,
        outcome: str,
        received_ms: int | None = None,
        *,
        by: str = "",
        **more: str,
    ) -> None:
        """Write one line about an entry: digests, types and times, no content.

        Args:
            event: sent, received or opened.
            entry: the entry.
            other: the other member.
            outcome: what became of it.
            received_ms: of an own entry that was taken, the other member's receipt.
            by: the person who did it, where that is none of the entry's authors.
            more: details besides.

        Raises:
            AuditError: it cannot be written; the caller does nothing.
        """
        header = entry.header
        self.audit.append_many(
            [
                AuditEntry(
                    time_ms=self.clock(),
                    operation=Operation.DISCLOSURE,
                    event=event,
                    member=other,
                    pseudonym=by or ",".join(header.authors),
                    request_digest=entry.digest,
                    outcome=outcome,
                    records=(header.subject.reference,) if header.subject else (),
                    details={
                        "kind": header.body.kind,
                        **_code_of(header.body),
                        **self._source(header, outcome),
                        "conversation": header.conversation.hex(),
                        "number": header.number,
                        "seen": header.seen_number,
                        "written_ms": header.written_ms,
                        **({} if received_ms is None else {"received_ms": received_ms}),
                        **more,
                    },
                )
            ]
        )

    def _source(self, header: EntryHeader, outcome: str) -> dict[str, str]:
        """Return where the record of a false match comes from: for the reports, and once, when it has been taken."""
        if not isinstance(header.body, NotTheSame) or outcome != "TAKEN":
            return {}
        if header.owner != self.member:
            return {"source": f"member {header.owner}"}
        if self.source_of is None:
            return {}
        if header.subject is not None:
            return {"source": self.source_of(header.subject.reference)}
        with self.database.reading() as connection:
            first = chain_of(store.stored(connection, header.conversation)).first
        return {"source": self.source_of(first.subject.reference)} if first and first.subject else {}


def _code_of(body: Body) -> dict[str, str | int]:
    """Return what reports count of an entry by its code: urgency of an ask, reason of a refusal, what came of it at the end."""
    match body:
        case Ask():
            wanted = ",".join(detail.code for detail in body.wanted)
            return {"code": body.urgency.code, "basis": body.basis.code, "wanted": wanted, "allowance_ms": ALLOWANCE_MS[body.urgency]}
        case Release():
            return {"given": ",".join(detail.code for detail in body.given), "more_follows": int(body.more_follows)}
        case Wait():
            return {"code": body.reason.code, "until_ms": body.until_ms}
        case Refuse():
            return {"code": body.reason.code}
        case Close():
            return {"code": body.disposition.code}
        case Correct():
            return {"code": body.correction.code}
    return {}
