"""`vidfed node news ...`: who was told of a record that is not as it was, and has not confirmed. Thin: parse, call, print."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import HELP, HOME, JSON, note, print_json, say
from vidfed.node.cli.options import COMMAND

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidfed.casework.news.storage import Notice
    from vidfed.casework.storage.database import CaseworkDatabase
    from vidfed.security.member.home import MemberHome

SCHEMA = "vidfed.node-news/1"


class _Group(COMMAND, click.Group):  # type: ignore[misc, valid-type]  # a class that is made for the errors it reports
    """Reports errors as commands do."""


@click.group(cls=_Group, context_settings=HELP, invoke_without_command=True)
@click.option("--all", "everything", is_flag=True, help="Also what was confirmed.")
@JSON
@HOME
@click.pass_context
def news(context: click.Context, home: Path, everything: bool, as_json: bool) -> None:
    """See who has not confirmed news of a record that was told.

    News goes out by itself, with what your policy tells today: whoever was told that a victim is not identified must not go on
    searching. Who may not be told any more hears it only if you say so.

    \b
      vidfed node news                        who has not confirmed
      vidfed node news confirm                let go what waits for you: very many records were taken back at once
      vidfed node news narrow REFERENCE       tell those who may not be told of a record any more that it is so
    """  # noqa: D301 - click wants the character itself
    if context.invoked_subcommand is not None:
        return

    from vidfed.casework.news import storage
    from vidfed.security.clock import as_text

    with _opened(home) as (_, database), database.reading() as connection:
        found = storage.unconfirmed(connection)
        known = storage.confirmed(connection) if everything else []
    if as_json:
        print_json({"schema": SCHEMA, "news": [_fields(notice) for notice in (*found, *known)]})
        return
    for notice in (*found, *known):
        words = ", ".join(change.code for change in notice.changes)
        if notice.received_ms is not None:
            how = f"confirmed {as_text(notice.received_ms)}"
        elif notice.held:
            how = "waits for you: vidfed node news confirm"
        else:
            how = f"not confirmed, {notice.attempts} attempts" + (f": {notice.trouble}" if notice.trouble else "")
        say(f"{notice.reference}  {notice.member} {notice.pseudonym}  {words}  since {as_text(notice.since_ms)}  {how}")
    if not found:
        note("Everybody who was told has confirmed all news.")


@news.command(cls=COMMAND)
@click.option("--drop", is_flag=True, help="Do not say it: the records were taken back by mistake, and are there again.")
@HOME
def confirm(home: Path, drop: bool) -> None:
    """Let go what waits for you because very many records were taken back at once."""
    from vidfed.casework.news import storage
    from vidfed.security.clock import system_clock

    with _opened(home) as (_, database), database.writing() as connection:
        count = storage.drop_held(connection) if drop else storage.release_held(connection, system_clock())
    say(f"{count} news {'are dropped' if drop else 'go out now'}.")


@news.command(cls=COMMAND)
@click.argument("references", nargs=-1, required=True, metavar="REFERENCE...")
@HOME
def narrow(home: Path, references: tuple[str, ...]) -> None:
    """Tell those who were told of records, and may not be any more, that it is so."""
    from vidfed.casework.carriage.opening import open_casework
    from vidfed.casework.news.noticing import Noticing
    from vidfed.node.policy.file import POLICY_FILE, PolicyFile
    from vidfed.node.records.known import open_store
    from vidfed.node.serving.casework import NodeRecords
    from vidfed.security.member.audit_log import open_log

    with contextlib.ExitStack() as stack:
        opened, _ = stack.enter_context(_opened(home))
        source = opened.directory_source()
        store = stack.enter_context(open_store(opened, reads_only=True))
        records = NodeRecords(store, PolicyFile(opened.folder / POLICY_FILE, directory_source=source), source)
        audit = stack.enter_context(contextlib.closing(open_log(opened)))
        casework = stack.enter_context(open_casework(opened, source, audit, records))
        casework.context.catch_up()
        count = Noticing(casework.context, records).narrow(references)
    say(f"{count} persons who were told hear that they may not be told any more.")


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[tuple[MemberHome, CaseworkDatabase]]:
    from vidfed.casework.settings import casework_location, read_casework_section
    from vidfed.casework.storage.database import CaseworkDatabase
    from vidfed.security.member.home import MemberHome

    home = MemberHome(folder)
    with contextlib.closing(CaseworkDatabase(casework_location(home, read_casework_section(home)))) as database:
        database.open()
        yield home, database


def _fields(notice: Notice) -> dict[str, object]:
    return {
        "member": notice.member,
        "pseudonym": notice.pseudonym,
        "reference": notice.reference,
        "changes": [change.code for change in notice.changes],
        "since_ms": notice.since_ms,
        "held": notice.held,
        "attempts": notice.attempts,
        "trouble": notice.trouble,
        "received_ms": notice.received_ms,
    }
