"""Who may read the log: people the member has appointed and not dismissed, and every reading is logged before anything is shown.

An appointment is a statement of the member, signed with its signing key, of a payload type of its own: no investigator's credential can
stand for it. The log's database lists all appointments: one that is not listed, or listed as revoked, opens nothing. All this does not keep
out whoever owns the machine and opens the database itself; docs/oversight.md says so.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from vidfed.security.audit.entries import AuditEntry, Event, Operation
from vidfed.security.clock import DAY_MS, as_text
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import PublicKey, SigningKey
from vidfed.security.documents import read_document
from vidfed.security.errors import EnvelopeError, KeyFileError, OversightError, SignatureError
from vidfed.security.files import read_private, write_private

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vidfed.security.audit.log import AuditLog
    from vidfed.security.audit.storage.tables import Storage
    from vidfed.security.crypto.keys import Signer

APPOINTMENT_TYPE = "application/vnd.vidfed.oversight-appointment.v1+json"
READ_TYPE = "application/vnd.vidfed.log-read.v1+json"
APPOINTMENT_DAYS = 365
_FORM = {"federation": str, "member": str, "serial": str, "name": str, "key": str, "not_before_ms": int, "not_after_ms": int}


@dataclass(frozen=True, slots=True)
class Appointment:
    """A member's statement that this key's holder may read its log."""

    federation: str
    member: str
    serial: str
    name: str
    key: PublicKey
    not_before_ms: int
    not_after_ms: int


class Listed(NamedTuple):
    """One appointment as the log's database lists it; `revoked_ms` is None while it is not revoked."""

    serial: str
    name: str
    not_before_ms: int
    not_after_ms: int
    revoked_ms: int | None

    def state(self, now_ms: int) -> str:
        """Say whether it opens the log now: `holds`, `ended` or `revoked`."""
        if self.revoked_ms is not None:
            return "revoked"
        return "holds" if self.not_before_ms <= now_ms < self.not_after_ms else "ended"


def listed(storage: Storage) -> list[Listed]:
    """Return all appointments, oldest first."""
    columns = ", ".join(Listed._fields)
    return [Listed(*row) for row in storage.database.fetch(f"SELECT {columns} FROM appointments ORDER BY not_before_ms, serial")]  # noqa: S608 - our own columns


def revoke(log: AuditLog, who: str, *, now_ms: int) -> Listed:
    """Take an appointment back, from now on. Whoever calls this has said so in the log.

    Args:
        log: the member's.
        who: the appointment's name, or the beginning of its serial.
        now_ms: now.

    Raises:
        OversightError: there is none of that name that still holds, or more than one.
        AuditError: it is not revoked.
    """
    found = [one for one in listed(log.storage) if one.state(now_ms) == "holds" and who and (one.name == who or one.serial.startswith(who))]
    if len(found) != 1:
        problem = "no appointment that holds is" if not found else f"{len(found)} appointments are"
        raise OversightError(f"{problem} named {who!r:.100}: give the beginning of its serial, `vidfed audit appointments` lists them")
    with log.changing() as transaction:
        transaction.execute("UPDATE appointments SET revoked_ms = ? WHERE serial = ?", (now_ms, found[0].serial))
    return found[0]


def appoint(
    folder: Path, log: AuditLog, *, federation: str, member: str, name: str, signer: Signer, now_ms: int, days: int = APPOINTMENT_DAYS
) -> Appointment:
    """Make the folder with which a person may read the member's log for some days, and list the appointment.

    Raises:
        AuditError: it cannot be listed.
        OversightError: the folder is in use, or the name is empty or not printable.
    """
    if folder.exists() and any(folder.iterdir()):
        raise OversightError(f"{folder}: exists and is not empty; an appointment is never overwritten")
    if not name.strip() or not name.isprintable():
        raise OversightError("the name must be printable")
    key = SigningKey.generate()
    fields = {
        "federation": federation,
        "member": member,
        "serial": secrets.token_hex(16),
        "name": name,
        "key": key.public.text,
        "not_before_ms": now_ms,
        "not_after_ms": now_ms + days * DAY_MS,
    }
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key.save(folder / "oversight.key")
    envelope = Envelope(APPOINTMENT_TYPE, json.dumps(fields, sort_keys=True).encode()).signed_by(signer)
    write_private(folder / "appointment.json", envelope.to_json())
    made = _read(envelope.payload)
    with log.changing() as transaction:
        transaction.insert("appointments", [Listed(made.serial, made.name, made.not_before_ms, made.not_after_ms, None)])
    return made


@dataclass(frozen=True, slots=True)
class Overseer:
    """Somebody whose appointment holds now, with the key to prove it."""

    appointment: Appointment
    key: SigningKey

    @classmethod
    def load(cls, folder: Path, *, federation: str, member: str, member_keys: tuple[PublicKey, ...], now_ms: int) -> Overseer:
        """Open an appointment's folder.

        Raises:
            OversightError: it is not this member's, has ended, or its key is another's.
        """
        try:
            envelope = Envelope.from_json(read_private(folder / "appointment.json"))
            appointment = _read(envelope.verify(APPOINTMENT_TYPE, member_keys))
            key = SigningKey.load(folder / "oversight.key")
        except (EnvelopeError, SignatureError, KeyFileError) as error:
            raise OversightError(f"{folder}: not an appointment by {member}: {error}") from None
        if (appointment.federation, appointment.member) != (federation, member):
            raise OversightError(f"{folder}: an appointment by {appointment.member} of {appointment.federation}")
        if not appointment.not_before_ms <= now_ms < appointment.not_after_ms:
            raise OversightError(f"{folder}: the appointment of {appointment.name} ended at {as_text(appointment.not_after_ms)}")
        if key.public != appointment.key:
            raise OversightError(f"{folder}: the key is not the one that was appointed")
        return cls(appointment, key)

    def announce(self, log: AuditLog, what: str, details: Mapping[str, int | str], *, event: Event = Event.LOG_READ, now_ms: int) -> int:
        """Log a reading before it happens; return its position. One with an appointment that was taken back is logged as refused.

        The entry holds the digest of a statement signed with the overseer's key, so that nobody else can be said to have read.

        Raises:
            OversightError: the appointment was revoked, or is not listed; nothing may be shown.
            AuditError: it cannot be logged; nothing may be shown.
        """
        found = next((one for one in listed(log.storage) if one.serial == self.appointment.serial), None)
        refusal = ""
        if found is None:
            refusal = f"the appointment of {self.appointment.name} is not in the list that this log keeps"
        elif found.revoked_ms is not None:
            refusal = f"the appointment of {self.appointment.name} was revoked at {as_text(found.revoked_ms)}"
        fields = {"who": self.appointment.serial, "what": what, "details": dict(details), "time_ms": now_ms}
        statement = Envelope(READ_TYPE, json.dumps(fields, sort_keys=True).encode()).signed_by(self.key)
        entry = AuditEntry(
            time_ms=now_ms,
            operation=Operation.CONSULTATION if event is Event.LOG_READ else Operation.DISCLOSURE,
            event=event,
            member=self.appointment.member,
            pseudonym=self.appointment.name,
            purpose="oversight",
            request_digest=statement.digest,
            outcome="REFUSED" if refusal else "DONE",
            details={"what": what, "appointment": self.appointment.serial, "signature": statement.signatures[0].value.hex(), **details},
        )
        position = log.append(entry).position
        if refusal:
            raise OversightError(f"{refusal}; this attempt is entry {position} of the log")
        return position


def _read(payload: bytes) -> Appointment:
    fields = read_document(payload, _FORM, OversightError, "appointment")
    try:
        return Appointment(**{**fields, "key": PublicKey.parse(fields["key"])})
    except KeyFileError as error:
        raise OversightError(f"appointment: {error}") from None
