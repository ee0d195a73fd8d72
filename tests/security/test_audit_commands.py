"""`vidfed audit` on what others have put into the log."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from click.testing import CliRunner

from vidfed.security.audit.entries import AuditEntry, Event, Operation
from vidfed.security.audit.oversight import appoint
from vidfed.security.cli.audit import audit
from vidfed.security.clock import system_clock
from vidfed.security.member.audit_log import open_log

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.security.member.home import MemberHome

PSEUDONYMS = ("[/x]", "[bold]inv[/bold]", "\x1b[2Kinv", "inv\nwords", "\u202evni", "inv\x9b2K", ":smile:", "[link=x]y")


def test_audit_show_of_hostile_pseudonyms(home: MemberHome, tmp_path: Path) -> None:
    """A pseudonym is another member's text; so is all else that a refused call is logged with."""
    now_ms = system_clock()
    with closing(open_log(home)) as log:
        for pseudonym in PSEUDONYMS:
            log.append(AuditEntry(now_ms, Operation.CONSULTATION, Event.LOOKUP_ANSWERED, "nl", pseudonym=pseudonym, outcome=pseudonym))
        folder = tmp_path / "dpo"
        appoint(folder, log, federation="test", member="fr", name="officer", signer=home.signer, now_ms=now_ms)
    result = CliRunner().invoke(audit, ["show", "--home", str(home.folder), "--as", str(folder)])
    assert result.exit_code == 0, result.output
    assert [char for char in result.output if not char.isprintable() and char != "\n"] == []
    for shown in ("[/x]", "[bold]inv[/bold]", r"\x1b[2Kinv", r"inv\nwords", r"\u202evni", r"inv\x9b2K", ":smile:", "[link=x]y"):
        assert shown in result.output
