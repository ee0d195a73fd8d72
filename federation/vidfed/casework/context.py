"""What carrying entries needs of the member it is done for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from vidfed.security.audit.entries import AuditEntry, Event, Operation
from vidfed.wire.casework_values import Ask, Close, Correct, Refuse, Wait

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

    def log(self, event: Event, entry: Entry, other: str, outcome: str) -> None:
        """Write one line about an entry: digests, types and times, no content.

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
                    pseudonym=",".join(header.authors),
                    request_digest=entry.digest,
                    outcome=outcome,
                    records=(header.subject.reference,) if header.subject else (),
                    details={
                        "kind": header.body.kind,
                        **_code_of(header.body),
                        "conversation": header.conversation.hex(),
                        "number": header.number,
                        "written_ms": header.written_ms,
                    },
                )
            ]
        )


def _code_of(body: Body) -> dict[str, str]:
    """Return what reports count of an entry by its code: urgency of an ask, reason of a refusal, what came of it at the end."""
    match body:
        case Ask():
            return {"code": body.urgency.code, "basis": body.basis.code}
        case Refuse() | Wait():
            return {"code": body.reason.code}
        case Close():
            return {"code": body.disposition.code}
        case Correct():
            return {"code": body.correction.code}
    return {}
