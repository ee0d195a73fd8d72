"""Calls somebody: a line in the log, the operator's program, and mail; none of them gets any content."""

from __future__ import annotations

import json
import logging
import smtplib
import subprocess
import threading
from dataclasses import dataclass
from email.message import EmailMessage
from typing import TYPE_CHECKING

from vidfed.casework.duty.rota import Called, Rota, read_rota
from vidfed.security.clock import system_clock
from vidfed.security.errors import HomeError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vidfed.security.clock import Clock
    from vidfed.wire.casework_values import EntryHeader

SCHEMA = "vidfed.casework-alarm/1"
ASKED, HALF_SPENT, OVERDUE, STANDING_HIT = "asked", "half-spent", "overdue", "standing-hit"
_ALARM_S = 30.0  # how long the operator's program, or the mail server, may take
_SMTP_PORT = 25
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Alarm:
    """Calls who is on duty, and later who comes after.

    Attributes:
        program: the operator's, run with one JSON object on its standard input; empty: none.
        rota: where `duty.toml` is.
        mail_host: `HOST` or `HOST:PORT` of the unit's own mail server, which takes mail unauthenticated from here; empty: no mail.
        mail_from: the sender.
        clock: gives the time.
    """

    program: str
    rota: Path
    mail_host: str = ""
    mail_from: str = ""
    clock: Clock = system_clock

    def __call__(self, header: EntryHeader) -> None:
        """Say that an ask has come."""
        urgency = getattr(getattr(header.body, "urgency", None), "code", "")
        self.call(header.asker, urgency, header.conversation.hex(), ASKED)

    def hit(self, member: str, pseudonym: str, watch: str) -> None:
        """Say that a standing lookup of a person has found something at a member."""
        self._say(f"a standing lookup of {pseudonym} has found something at {member}: vidfed watch hits", pseudonym)
        fields = {"from": member, "for": pseudonym, "urgency": "", "stage": STANDING_HIT, "conversation": None, "watch": watch}
        self._go(fields, self._called(0), 0, f"a standing lookup of {pseudonym} has found something at {member}", "vidfed watch hits")

    def call(self, asker: str, urgency: str, conversation: str, stage: str, level: int = 0) -> None:
        """Call somebody about an ask. Program and mail run on by themselves; a later alarm does not wait for them.

        Args:
            asker: the member that asks.
            urgency: of the ask.
            conversation: its id in hex.
            stage: `asked`, `half-spent` or `overdue`.
            level: 0 calls those on duty, 1 and above the escalation.
        """
        called = self._called(level)
        said = f"an ask of {asker}, {urgency}, is {stage}"
        self._say(f"{said}: vidfed requests" + (f"; escalation {level}" if level else ""), ", ".join(called.people))
        fields = {"from": asker, "for": "", "urgency": urgency, "stage": stage, "conversation": conversation, "watch": None}
        self._go(fields, called, level, said, f"vidfed requests show {conversation[:12]}")

    def current(self) -> Rota | None:
        """Return the rota; None where there is none, or it cannot be read, which is said."""
        try:
            return read_rota(self.rota)
        except HomeError as error:
            _log.error("ALARM: the rota cannot be read, so nobody in it is called: %s", error)
            return None

    def _called(self, level: int) -> Called:
        rota, now_ms = self.current(), self.clock()
        if rota is None:
            return Called()
        if not level and not rota.on_duty(now_ms):
            _log.error("ALARM: nobody is on duty; everybody of the escalation is called")
        return rota.called(level, now_ms)

    def _say(self, what: str, people: str) -> None:
        _log.warning("ALARM: %s%s", what, f" (called: {people})" if people else "")

    def _go(self, fields: Mapping[str, str | None], called: Called, level: int, subject: str, command: str) -> None:
        if self.program:
            said = json.dumps({"schema": SCHEMA, **fields, "level": level, "people": list(called.people), "mail": list(called.mail)})
            threading.Thread(target=self._run, args=(said,), daemon=True).start()
        if self.mail_host and called.mail:
            message = EmailMessage()
            message["Subject"] = f"vidfed: {subject}"
            message["From"] = self.mail_from
            message["To"] = ", ".join(called.mail)
            message.set_content(f"{subject[:1].upper()}{subject[1:]}.\nLook at it where you have your kit: {command}\n")
            threading.Thread(target=self._mail, args=(message,), daemon=True).start()

    def _run(self, said: str) -> None:
        try:
            subprocess.run(  # noqa: S603 - the operator's own program, by its path
                [self.program], input=said.encode(), timeout=_ALARM_S, check=True, capture_output=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            _log.error("ALARM: %s could not call anybody: %s", self.program, error)

    def _mail(self, message: EmailMessage) -> None:
        host, _, port = self.mail_host.partition(":")
        try:
            with smtplib.SMTP(host, int(port or _SMTP_PORT), timeout=_ALARM_S) as server:
                server.send_message(message)
        except (OSError, smtplib.SMTPException) as error:
            _log.error("ALARM: %s took no mail to %s: %s", self.mail_host, message["To"], error)
