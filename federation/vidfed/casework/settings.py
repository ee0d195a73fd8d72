"""The `[casework]` section of a member's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.security.settings import check_above_zero

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.security.member.home import MemberHome

_FILE = "casework.db"


@dataclass(frozen=True, slots=True)
class CaseworkSection:
    """How conversations about hits are kept and answered.

    Attributes:
        url: `postgresql://USER@HOST/DATABASE` for conversations; empty: the file state/casework.db. A node's record store may be the same
            database.
        officers: how many different officers sign a release, a refusal, a wait or a correction: 1 or 2.
        retention_days: how long contents are kept after a conversation was closed.
        maximum_days: how long they are kept at the longest, closed or not.
        told_days: how long it is known whom this member told of which record: for so long it can be asked about, and news of it go out.
        give_up_days: after how long an entry that cannot be delivered is named as such. It is tried all the same.
        watch_minutes: how often, at most, one standing lookup is asked: by the gateway, and at the node by anybody. Shorter than 15 is for
            exercises.
        alarm: a program that is run when a person should look at once, with one JSON object on its standard input, without content; empty:
            the log alone says so. Whom it calls stands in duty.toml.
        mail_host: `HOST` or `HOST:PORT` of the unit's own mail server; those of duty.toml who have an address are then sent a mail without
            content. Empty: no mail.
        mail_from: sender of such mail.
    """

    url: str = ""
    officers: int = 1
    retention_days: int = 90
    maximum_days: int = 730
    told_days: int = 1095
    give_up_days: float = 7.0
    watch_minutes: float = 15.0
    alarm: str = ""
    mail_host: str = ""
    mail_from: str = ""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        check_above_zero(self, "retention_days", "maximum_days", "told_days", "give_up_days", "watch_minutes")
        if self.officers not in {1, 2}:
            raise ValueError("officers must be 1 or 2")
        if bool(self.mail_host) != bool(self.mail_from):
            raise ValueError("mail_host and mail_from: one without the other sends nothing")
        if self.retention_days > self.maximum_days:
            raise ValueError("retention_days must be at most maximum_days")


def read_casework_section(home: MemberHome) -> CaseworkSection:
    """Read the section.

    Raises:
        HomeError: it is wrong; the message names file, section and setting.
    """
    return home.section("casework", CaseworkSection)


def casework_location(home: MemberHome, section: CaseworkSection) -> Path | str:
    """Return where conversations are."""
    return section.url or home.state_file(_FILE)
