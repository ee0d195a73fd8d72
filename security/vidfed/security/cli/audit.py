"""`vidfed audit ...`: what oversight does with a member's log on the member's own machine, or with a file. Thin: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidfed.cli.terminal import HELP, HOME, JSON, console, note, print_json, reporting, say
from vidfed.security.errors import SecurityError

if TYPE_CHECKING:
    from vidfed.security.audit import AuditLog, SealedEntry
    from vidfed.security.audit.oversight import Overseer
    from vidfed.security.member.home import MemberHome

COMMAND = reporting(SecurityError)
_AS = click.option(
    "--as",
    "appointment",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    envvar="VIDFED_OVERSIGHT",
    help="Your appointment's folder, or $VIDFED_OVERSIGHT. That you read is logged first.",
)
_DAY = click.DateTime(["%Y-%m-%d"])
_FROM = click.option("--from", "from_", type=_DAY, help="First day, UTC.  [default: the log's first]")
_TO = click.option("--to", type=_DAY, help="Day after the last one, UTC.  [default: until now]")


@click.group(context_settings=HELP)
def audit() -> None:
    """Prove what was asked, answered and changed.

    verify, prove, witnesses: anybody with the member's folder, or with an export file. show, export, stats, report: only with an
    appointment (`vidfed audit appoint`, `appointments`, `revoke`), and logged.
    """


@audit.command(cls=COMMAND)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Who may read; the log names the reader so.")
@click.option("--days", default=365, show_default=True, type=click.IntRange(1, 365), help="For how long.")
@HOME
def appoint(folder: Path, name: str, days: int, home: Path) -> None:
    """Make FOLDER, with which one person may read this member's log."""
    from vidfed.security.audit import Event, Operation
    from vidfed.security.audit.oversight import appoint as make
    from vidfed.security.clock import as_text, system_clock
    from vidfed.security.member.audit_log import logged

    member = _home(home)
    names = {"federation": member.federation, "member": member.member, "name": name}
    with logged(member, Operation.ALTERATION, Event.OVERSIGHT_APPOINTED, name=name) as done:
        made = make(folder, done.log, **names, signer=member.signer, now_ms=system_clock(), days=days)
        done["appointment"] = made.serial
    note(f"{name} may read the log of {made.member} until {as_text(made.not_after_ms)} with {folder}.")


@audit.command(cls=COMMAND)
@HOME
@JSON
def appointments(home: Path, as_json: bool) -> None:
    """List who may read, and who might: name, serial, from when, until when, whether it holds."""
    from contextlib import closing

    from vidfed.security.audit.oversight import listed
    from vidfed.security.clock import as_text, system_clock
    from vidfed.security.member.audit_log import open_storage

    now_ms = system_clock()
    with closing(open_storage(_home(home))) as storage:
        found = listed(storage)
    if as_json:
        print_json(
            {"schema": "vidfed.audit-appointments/1", "appointments": [one._asdict() | {"state": one.state(now_ms)} for one in found]}
        )
        return
    for one in found:
        ended = f", revoked {as_text(one.revoked_ms)}" if one.revoked_ms is not None else ""
        say(f"{one.serial[:8]}  {one.state(now_ms):<8} {as_text(one.not_before_ms)} to {as_text(one.not_after_ms)}{ended}  {one.name}")
    if not found:
        note("Nobody was ever appointed. Next: vidfed audit appoint FOLDER --name NAME")


@audit.command(cls=COMMAND)
@click.argument("who")
@HOME
def revoke(who: str, home: Path) -> None:
    """Take back the appointment of WHO (its name, or the beginning of its serial), at once and for good."""
    from vidfed.security.audit import Event, Operation
    from vidfed.security.audit.oversight import revoke as take_back
    from vidfed.security.clock import system_clock
    from vidfed.security.member.audit_log import logged

    with logged(_home(home), Operation.ALTERATION, Event.OVERSIGHT_REVOKED, name=who) as done:
        taken = take_back(done.log, who, now_ms=system_clock())
        done["appointment"] = taken.serial
    note(f"{taken.name} may no longer read the log. Any further attempt with this appointment is refused and logged.")


@audit.command(cls=COMMAND)
@click.argument("position", type=click.IntRange(min=0))
@HOME
def prove(position: int, home: Path) -> None:
    """Print the proof that entry POSITION is in the log, as JSON. Nothing of what the entry says is in it."""
    from contextlib import closing

    from vidfed.security.audit.merkle import verify_inclusion
    from vidfed.security.member.audit_log import open_log

    with closing(open_log(_home(home))) as log:
        entry = log.storage.entry(position)
        checkpoint = log.checkpoint()
        proof = log.prove_inclusion(position, checkpoint.size)
    verify_inclusion(entry.leaf_hash, position, checkpoint.size, checkpoint.root, proof)
    fields = {"position": position, "commitment": entry.commitment.hex(), "leaf_hash": entry.leaf_hash.hex()}
    print_json({"schema": "vidfed.audit-proof/1", **fields, "proof": [found.hex() for found in proof], "checkpoint": checkpoint.text})


@audit.command(cls=COMMAND)
@click.argument("positions", nargs=-1, type=click.IntRange(min=0))
@click.option("--last", default=20, show_default=True, type=click.IntRange(1, 10_000), help="How many of the newest entries.")
@_AS
@HOME
@JSON
def show(positions: tuple[int, ...], last: int, appointment: Path, home: Path, as_json: bool) -> None:
    """Show entries: those at POSITIONS, or the newest."""
    from contextlib import closing

    from vidfed.security.clock import system_clock
    from vidfed.security.member.audit_log import open_log

    member = _home(home)
    overseer = _overseer(member, appointment)
    with closing(open_log(member)) as log:
        size = len(log)
        wanted = positions or tuple(range(max(0, size - last), size))
        entries = [(position, log.storage.entry(position)) for position in wanted]
        overseer.announce(log, "show", {"entries": len(entries)}, now_ms=system_clock())
    if as_json:
        shown = [{"position": at, **({"dropped": True} if entry.body is None else entry.fields())} for at, entry in entries]
        print_json({"schema": "vidfed.audit-entries/1", "entries": shown})
        return
    _print_entries(entries)


@audit.command(cls=COMMAND)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_FROM
@_TO
@_AS
@HOME
def export(file: Path, from_: Any, to: Any, appointment: Path, home: Path) -> None:  # noqa: ANN401 - click gives datetimes
    """Write the entries of a time into FILE, with all that proves them. `vidfed audit verify FILE` then needs nothing else."""
    from contextlib import closing

    from vidfed.security.audit import Event
    from vidfed.security.audit.export import write_export
    from vidfed.security.clock import system_clock
    from vidfed.security.member.audit_log import open_log, open_witness

    member = _home(home)
    overseer = _overseer(member, appointment)
    now_ms = system_clock()
    from_ms, to_ms = _period(from_, to, now_ms)
    source = member.directory_source()
    source.last_known_or_fail()
    with closing(open_log(member)) as log, closing(open_witness(member)) as witness:
        first, end = log.storage.positions(from_ms, to_ms)
        overseer.announce(log, "export", {"first": first, "end": end}, event=Event.LOG_EXPORTED, now_ms=now_ms)
        checkpoint = log.checkpoint()
        # A state that others cosigned proves more than a newer one that nobody saw, if it covers the range.
        cosigned = [found for _, found in witness.cosignatures().values() if found.size >= end]
        if cosigned:
            newest = max(cosigned, key=lambda found: found.size)
            checkpoint = newest.with_signatures(s for found in cosigned if found.body == newest.body for s in found.signatures)
        write_export(
            file,
            log,
            checkpoint,
            first=first,
            end=end,
            member=member.member,
            anchor=source.anchor,
            directory=source.files(),
        )
    note(f"Wrote entries {first} to {end - 1} to {file}. Next: vidfed audit verify {file}")


@audit.command(cls=COMMAND)
@click.argument("one", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("other", type=click.Path(path_type=Path, dir_okay=False))
@JSON
def compare(one: Path, other: Path, as_json: bool) -> None:
    """Compare the exports of two members: what one logged and the other did not, or otherwise. Exit status 1 if they differ."""
    from vidfed.security.audit.compare import compare as compare_exports
    from vidfed.security.audit.export import verify_export
    from vidfed.security.clock import as_text

    exports = [verify_export(path) for path in (one, other)]
    for export_ in exports:
        if export_.findings:
            raise click.ClickException(f"the export of {export_.member} does not hold: {export_.findings[0]}")
    result = compare_exports(*exports)
    if as_json:
        fields = {"agreed": result.agreed, "unanswered": result.unanswered, "findings": result.findings}
        print_json({"schema": "vidfed.audit-comparison/1", "members": [e.member for e in exports], **fields})
    else:
        say(f"{exports[0].member} and {exports[1].member}, {as_text(result.from_ms)} to {as_text(result.to_ms)}")
        say(f"{result.agreed} lookups on which both logs agree, {result.unanswered} that got no reply")
        for finding in result.findings:
            say(f"DIFFERENT: {finding}")
        say("The logs agree." if not result.findings else f"{len(result.findings)} differences.")
    raise SystemExit(bool(result.findings))


@audit.command(cls=COMMAND)
@_FROM
@_TO
@_AS
@HOME
@JSON
def stats(from_: Any, to: Any, appointment: Path, home: Path, as_json: bool) -> None:  # noqa: ANN401 - click gives datetimes
    """Count entries by member, purpose and outcome, without case data. Counts are told as ranges of five."""
    from vidfed.security.audit.reporting.report import TABLES, TOTALS, range_text

    report = _report(_home(home), appointment, from_, to, "stats")
    if as_json:
        print_json(report)
        return
    for name, text in TOTALS.items():
        say(f"{text:<40} {range_text(report['totals'][name]):>12}")
    for name, title in TABLES.items():
        if report["tables"][name]:
            say()
            say(title)
            for key, found in report["tables"][name].items():
                say(f"  {key or '(none)':<38} {range_text(found):>12}")


@audit.command(cls=COMMAND)
@click.option("--member", "other", required=True, help="The member that is compromised, or asks.")
@click.option("--since", type=_DAY, required=True, help="First day, UTC.")
@_AS
@JSON
@HOME
def exposure(other: str, since: Any, appointment: Path, home: Path, as_json: bool) -> None:  # noqa: ANN401 - click gives datetimes
    """List everything told to a member or asked by it: for a compromise, and for the notice within 72 hours.

    Records are named by reference, persons by pseudonym; what conversations said is sealed to persons and is not in the log.
    """
    from contextlib import closing

    from vidfed.security.audit.compare import exposure_of
    from vidfed.security.clock import as_text, system_clock
    from vidfed.security.member.audit_log import open_log

    member, now_ms = _home(home), system_clock()
    overseer = _overseer(member, appointment)
    from_ms, to_ms = _period(since, None, now_ms)
    with closing(open_log(member)) as log:
        overseer.announce(log, "exposure", {"from_ms": from_ms, "to_ms": to_ms, "of": other}, now_ms=now_ms)
        found = exposure_of(_opened(log, *log.storage.positions(from_ms, to_ms)), other, from_ms=from_ms)
    if as_json:
        print_json({"schema": "vidfed.exposure/1", "member": other, "from_ms": from_ms, "to_ms": to_ms, **found.fields()})
        return
    say(f"{other} since {as_text(from_ms)}: {found.questions} questions, {found.hashes} hashes, {len(found.told)} records told")
    for reference, told in sorted(found.told.items()):
        times = f"{told.times} times, first {as_text(told.first_ms)}, last {as_text(told.last_ms)}"
        say(f"  told {reference}: {times}, to {', '.join(sorted(told.persons))}")
    for entry in found.casework:
        way = "sent to it" if entry.sent else "from it"
        say(f"  {as_text(entry.time_ms)}  {entry.kind} {way}  {', '.join(entry.references)}  {entry.persons}")


@audit.command(cls=COMMAND)
@click.option("--from", "from_", type=_DAY, required=True, help="First day, UTC: the first of a month.")
@click.option("--to", type=_DAY, required=True, help="Day after the last one, UTC: the first of a month.")
@click.option("--draft", is_flag=True, help="Take any time, and mark the report as not to be published.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the page here.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Write the signed report (JSON) here.")
@_AS
@HOME
def report(from_: Any, to: Any, draft: bool, html: Path | None, out: Path, appointment: Path, home: Path) -> None:  # noqa: ANN401 - click gives datetimes
    """Make the transparency report of a time, signed by the member.

    A report to be published covers whole months that are over: two reports over times that overlap could be subtracted from each other, and
    the difference would tell what each of them hides.
    """
    from vidfed.security.audit.reporting.report import is_draft
    from vidfed.security.clock import system_clock

    member = _home(home)
    now_ms = system_clock()
    if is_draft(*_period(from_, to, now_ms), now_ms) and not draft:
        raise click.UsageError(
            "a report covers whole months that are over: --from and --to the first of a month, --to not in the future; "
            "or add --draft, for a report that is not to be published"
        )
    _write_report(member, _report(member, appointment, from_, to, "report"), out, html)


@audit.command("combine", cls=COMMAND)
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the page here.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Write the signed sum (JSON) here.")
@HOME
def combine_command(reports: tuple[Path, ...], html: Path | None, out: Path, home: Path) -> None:
    """Add up the signed REPORTS of several members, whose logs are not needed for that; signed by this member."""
    from vidfed.security.audit.reporting.report import combine, read_report
    from vidfed.security.clock import system_clock

    member = _home(home)
    directory = member.directory_source().current()
    read = [read_report(path.read_bytes(), directory)[0] for path in reports]
    _write_report(member, combine(read, made_ms=system_clock()), out, html)


@audit.command(cls=COMMAND)
@click.argument("positions", nargs=-1, required=True, type=click.IntRange(min=0))
@click.option("--reason", required=True, help="Why, for those who later find the place empty. Must not repeat what is erased.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@HOME
def erase(positions: tuple[int, ...], reason: str, yes: bool, home: Path) -> None:
    """Drop what the entries at POSITIONS say, for good. Their places stay, the log says so, and it still verifies."""
    import getpass
    from contextlib import closing

    from vidfed.security.audit.retention import erase as drop
    from vidfed.security.clock import system_clock
    from vidfed.security.member.audit_log import open_log

    if not yes:
        click.confirm(f"Drop the content of {len(positions)} entries for good?", abort=True, err=True)
    member = _home(home)
    with closing(open_log(member)) as log:
        count = drop(log, positions, member=member.member, operator=getpass.getuser(), reason=reason, now_ms=system_clock())
    note(f"Dropped the content of {count} entries. Backups are not reached by this.")


@audit.command(cls=COMMAND)
@HOME
def prune(home: Path) -> None:
    """Drop what entries older than [audit] retention_days say. Their places stay, and the log still verifies. Run it daily."""
    import getpass
    from contextlib import closing

    from vidfed.security.audit.retention import prune as drop
    from vidfed.security.clock import system_clock
    from vidfed.security.member.audit_log import open_log, read_audit_section

    member = _home(home)
    days = read_audit_section(member).retention_days
    with closing(open_log(member)) as log:
        before, count = drop(log, retention_days=days, member=member.member, operator=getpass.getuser(), now_ms=system_clock())
    note(f"Dropped the content of {count} entries older than {days} days; entries from {before} on keep theirs.")


def _home(folder: Path) -> MemberHome:
    from vidfed.security.member.home import MemberHome

    return MemberHome(folder)


def _overseer(member: MemberHome, folder: Path) -> Overseer:
    from vidfed.security.audit.oversight import Overseer
    from vidfed.security.clock import system_clock

    keys = (member.signer.public,)
    return Overseer.load(folder, federation=member.federation, member=member.member, member_keys=keys, now_ms=system_clock())


def _period(from_: Any, to: Any, now_ms: int) -> tuple[int, int]:  # noqa: ANN401 - click gives datetimes or None
    from datetime import UTC

    from vidfed.security.clock import SECOND_MS

    first, end = (None if day is None else int(day.replace(tzinfo=UTC).timestamp()) * SECOND_MS for day in (from_, to))
    return first or 0, end if end is not None else now_ms + 1


def _report(member: MemberHome, appointment: Path, from_: Any, to: Any, what: str) -> dict[str, Any]:  # noqa: ANN401 - click gives datetimes
    from contextlib import closing

    from vidfed.security.audit.reporting.asks import LOOK_BACK_MS
    from vidfed.security.audit.reporting.report import make_report
    from vidfed.security.clock import system_clock
    from vidfed.security.member.audit_log import open_log

    overseer = _overseer(member, appointment)
    now_ms = system_clock()
    from_ms, to_ms = _period(from_, to, now_ms)
    with closing(open_log(member)) as log:
        overseer.announce(log, what, {"from_ms": from_ms, "to_ms": to_ms}, now_ms=now_ms)
        checkpoint = log.checkpoint()
        first, end = log.storage.positions(max(0, from_ms - LOOK_BACK_MS), to_ms)
        return make_report(
            _opened(log, first, min(end, checkpoint.size)),
            federation=member.federation,
            member=member.member,
            from_ms=from_ms,
            to_ms=to_ms,
            made_ms=now_ms,
            checkpoint=checkpoint,
        )


def _opened(log: AuditLog, first: int, end: int) -> Any:  # noqa: ANN401 - an iterator of JSON objects
    return (entry.fields() for _, entry in log.storage.entries(first, end) if entry.body is not None)


def _write_report(member: MemberHome, made: dict[str, Any], out: Path, html: Path | None) -> None:
    from vidfed.security.audit.reporting.html import render
    from vidfed.security.audit.reporting.report import sign_report
    from vidfed.security.files import write_whole

    envelope = sign_report(made, member.signer)
    write_whole(out, envelope.to_json())
    if html is not None:
        write_whole(html, render(made, envelope, member.member).encode())
    note(f"Wrote {' and '.join(map(str, filter(None, (out, html))))}.")


_CELL_CHARS = 80  # of a text in a table: a pseudonym has at most 40


def _print_entries(entries: list[tuple[int, SealedEntry]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from vidfed.cli.printable import printable
    from vidfed.security.clock import as_text

    table = Table(box=SIMPLE_HEAD)
    for column in ("Entry", "Time", "Event", "Operation", "Member", "Person", "Purpose", "Outcome", "Records"):
        table.add_column(column, justify="right" if column in {"Entry", "Records"} else "left")
    for position, entry in entries:
        if entry.body is None:
            table.add_row(str(position), as_text(entry.time_ms), "(content dropped)")
            continue
        said = entry.fields()
        texts = (printable(said[name], _CELL_CHARS) for name in ("event", "operation", "member", "pseudonym", "purpose", "outcome"))
        table.add_row(str(position), as_text(entry.time_ms), *texts, str(len(said["records"])))
    console().print(table)
