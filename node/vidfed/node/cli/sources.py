"""`vidfed node source add|preview|sync|status|remove`. Thin: parse, call, print."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from vidfed.cli.terminal import HELP, HOME, JSON, note, print_json, say
from vidfed.node.cli.options import COMMAND, repeats_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from vidfed.node.sources.follow import Followed
    from vidfed.node.sources.rows.statement import Statement
    from vidfed.security.member.home import MemberHome

_PREVIEWED = 20
_KINDS = ("sql", "folder", "ncmec", "list", "known-good")


@click.group(context_settings=HELP)
def source() -> None:
    """Follow what the unit already has: a database, a folder, a clearing house, a list by HTTPS.

    The source stays in charge: it is read only, its records are read-only here but for sharing and review, and what it takes back is
    taken back here. docs/connect.md maps three databases step by step.
    """


def _pairs(_context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name.strip():
            raise click.BadParameter(f"{each!r} is not FIELD=..., as in --{parameter.name} md5=hash_md5")
        parts = [part.strip() for part in value.split("+")] if parameter.name == "column" else [value]
        pairs[name.strip()] = parts if len(parts) > 1 else parts[0]
    return pairs


def _number(text: str) -> object:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


@source.command(cls=COMMAND)
@click.argument("name")
@click.option("--kind", type=click.Choice(_KINDS), required=True, help="What it is.")
@click.option("--url", help="sql: database URL without a password. list, ncmec: https address.")
@click.option("--password-file", help="File of mode 0600 with the password alone, relative to the member's folder.")
@click.option("--username", help="For HTTPS.")
@click.option("--table", help="sql: table or view, with its schema before a dot.")
@click.option("--query", help="sql: one SELECT instead.")
@click.option("--key", multiple=True, help="Column that names a row for ever; several together by repeating.")
@click.option("--changed", help="sql: column with a time or number that grows with every change.")
@click.option("--deleted", help="Column that says a row was taken back.")
@click.option(
    "--column", multiple=True, callback=_pairs, metavar="FIELD=COLUMN", help="Which column is which field of a record; A+B: both."
)
@click.option("--constant", multiple=True, callback=_pairs, metavar="FIELD=VALUE", help="What is true of every record.")
@click.option("--value", multiple=True, metavar="FIELD:THEIRS=OURS", help="What one of the source's words means, e.g. distributed:J=yes.")
@click.option("--path", help="folder: where the files appear.")
@click.option("--environment", help="ncmec: industry, npo, exploitative, test-industry, ...")
@click.option("--set", "further", multiple=True, callback=_pairs, metavar="SETTING=VALUE", help="Any other setting, e.g. every_s=300.")
@HOME
def add(
    name: str,
    home: Path,
    key: tuple[str, ...],
    column: dict[str, Any],
    constant: dict[str, Any],
    value: tuple[str, ...],
    further: dict[str, Any],
    **plain: str | None,
) -> None:
    r"""Write [source.NAME] into vidfed.toml, checked. Nothing is read yet: look with `preview` next.

    \b
    vidfed node source add cases --kind sql --url postgresql://reader@db/cases --table media --key id
        --column md5=md5_hash --column category=kat --value category:1=A --constant category_scale=national
    """
    from vidfed.node.sources.configure import add_source
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    settings: dict[str, Any] = {option: said for option, said in plain.items() if said is not None}
    if key:
        settings["key"] = list(key)
    settings |= {setting: _number(said) for setting, said in further.items()}
    settings |= {title: table for title, table in (("columns", column), ("constants", constant)) if table}
    for each in value:
        field, colon, words = each.partition(":")
        theirs, equals, ours = words.rpartition("=")
        if not colon or not equals:
            raise click.BadParameter(f"{each!r} is not FIELD:THEIRS=OURS")
        settings.setdefault("values", {}).setdefault(field, {})[theirs] = ours
    add_source(member_home.config_path, name, settings)
    say(f"[source.{name}] is in {member_home.config_path}")
    note(f"Next: vidfed node source preview {name}. The service follows it once it is restarted.")


@source.command(cls=COMMAND)
@click.argument("name")
@click.option("--quick", is_flag=True, help="Show the first rows only; do not count the whole source.")
@JSON
@HOME
def preview(name: str, home: Path, quick: bool, as_json: bool) -> None:
    """Show the first twenty rows as the records they would become, every problem named, and how many rows would be passed over and why.

    Nothing is stored. Hashes are not shown.
    """
    from vidfed.node.sources.comparison.run import preview as preview_source
    from vidfed.node.sources.follow import FollowOptions, source_named
    from vidfed.node.sources.settings import FolderSection
    from vidfed.security.clock import system_clock
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    settings = source_named(member_home, name)
    rows: list[dict[str, object]] = []
    about: dict[str, Any] = {}
    if not isinstance(settings.section, FolderSection):
        for each in preview_source(settings, member_home.folder, now_ms=system_clock(), most=_PREVIEWED):
            if isinstance(each, dict):
                about = each
            elif len(rows) < _PREVIEWED:
                rows.append({"key": "", "problems": [each]} if isinstance(each, str) else _shown(each))
    found = None if quick else _follow(member_home, name, FollowOptions(full=True, dry_run=True))
    if as_json:
        whole = _fields(name, found, dry_run=True) if found else None
        print_json({"schema": "vidfed.source-preview/1", "source": name, "rows": rows, "about": about, "whole": whole})
        return
    for row in rows:
        _print_row(row)
    if unchanging := about.get("unchanging"):
        note(f"{unchanging} rows have no time of change: that they changed is seen by full comparisons only")
    if found:
        _print_followed(name, found, dry_run=True)


def _shown(statement: Statement) -> dict[str, object]:
    from vidfed.node.sources.rows.statement import Kind

    fate = {Kind.LIVE: "record", Kind.DELETED: "taken back", Kind.UNUSABLE: "passed over"}[statement.kind]
    return {
        "key": statement.key,
        "becomes": fate,
        "hashes": list(statement.codes),
        "fields": _readable(statement.values),
        "problems": statement.notes,
    }


def _readable(values: dict[str, Any]) -> dict[str, str]:
    """Return the values of columns in the words of CSV files."""
    import json

    from vidfed.formats.fields import FIELDS, Kind, field_text
    from vidfed.wire.values import HandlingCode, Ternary

    said = {}
    for name, value in values.items():
        kind = FIELDS[name].kind
        if kind is Kind.TERNARY:
            said[name] = Ternary(value).code
        elif kind is Kind.HANDLING:
            said[name] = HandlingCode(value).name
        elif kind is Kind.TEXTS:
            said[name] = ", ".join(json.loads(value))
        else:
            said[name] = field_text(name, value)
    return said


def _print_row(row: dict[str, Any]) -> None:
    fields = ", ".join(f"{name}={value}" for name, value in row.get("fields", {}).items())
    hashes = "+".join(row.get("hashes", ())) or "no hash"
    say(f"{row['key'] or '(no key)'}: {row.get('becomes', 'passed over')}: {hashes}{'; ' if fields else ''}{fields}")
    for problem in row["problems"]:
        say(f"    {problem}")


@source.command(cls=COMMAND)
@click.argument("names", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Read and compare, report, and change nothing.")
@click.option("--full", is_flag=True, help="Compare everything, whatever the schedule says.")
@click.option("--accept-losses", is_flag=True, help="Retract also where much was lost at once: you have looked, and it is right.")
@click.option("--scheduled", is_flag=True, hidden=True, help="Called by the service: no progress.")
@JSON
@HOME
def sync(names: tuple[str, ...], home: Path, dry_run: bool, full: bool, accept_losses: bool, scheduled: bool, as_json: bool) -> None:
    """Read the sources NAMES now, or all of them, and bring the records up to date.

    Interrupted, killed or refused, nothing has changed. Whoever asks this node sees a source as of one moment. The exit status is 1 where
    a file could not be taken in or a source could not be read.
    """
    from vidfed.node.sources.follow import FollowOptions
    from vidfed.node.sources.settings import read_sources
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    options = FollowOptions(full=full, dry_run=dry_run, accept_losses=accept_losses)
    said, failed = [], False
    for name in names or tuple(read_sources(member_home)):
        try:
            found = _follow(member_home, name, options, silent=scheduled or as_json)
        except KeyboardInterrupt:
            raise click.ClickException("interrupted; nothing was changed") from None
        said.append(_fields(name, found, dry_run=dry_run))
        failed = failed or bool(found.folder and (found.folder.failed or found.folder.not_current))
        if not as_json:
            _print_followed(name, found, dry_run=dry_run)
    if as_json:
        print_json({"schema": "vidfed.source-sync/1", "dry_run": dry_run, "sources": said})
    elif not said:
        say("no source is configured: vidfed node source add")
    if failed:
        raise SystemExit(1)


def _follow(home: MemberHome, name: str, options: Any, *, silent: bool = False) -> Followed:  # noqa: ANN401 - FollowOptions, imported late
    from vidfed.node.sources.follow import follow

    with _counting(f"reading {name}", silent=silent) as on_progress:
        return follow(home, name, options, on_progress=on_progress)


@contextmanager
def _counting(what: str, *, silent: bool) -> Iterator[Callable[[int], None]]:
    """Show how many rows have been read, with the rate; how many there are is not known before."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    error_console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:,.0f} rows"), TimeElapsedColumn())
    with Progress(*columns, console=error_console, transient=True, disable=silent or not error_console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda rows: bar.update(task, completed=rows)


def _fields(name: str, found: Followed, *, dry_run: bool) -> dict[str, object]:
    fields: dict[str, object] = {"source": name, "dry_run": dry_run, "report": str(found.report) if found.report else None}
    if found.result is not None:
        result = found.result
        fields |= {"full": result.full, "taken_up": result.taken_up, "as_of_ms": result.as_of_ms, "counts": result.report.to_fields()}
    if found.known_good is not None:
        fields |= {"known_good": asdict(found.known_good)}
    if found.folder is not None:
        folder = found.folder
        fields |= {"files": [each.to_fields() for each in folder.imported], "failed": folder.failed, "waiting": folder.waiting}
        fields |= {"not_current": folder.not_current}
    return fields


def _print_followed(name: str, found: Followed, *, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    if found.folder is not None:
        for imported in found.folder.imported:
            counts = imported.counts
            taken = f"{counts.new} new, {counts.updated} updated, {counts.unchanged} unchanged, {imported.skipped} skipped"
            say(f"{name}: {imported.file_name}: {would}{taken}")
        for file, reason in found.folder.failed.items():
            say(f"{name}: {file}: not taken in: {reason}")
        if found.folder.waiting:
            say(f"{name}: {len(found.folder.waiting)} files wait until they are complete")
        if found.folder.not_current:
            say(f"{name}: {found.folder.not_current}")
        if not (found.folder.imported or found.folder.failed or found.folder.waiting):
            say(f"{name}: nothing new")
        return
    if found.known_good is not None:
        good = found.known_good
        before = f", in place of {good.before}" if good.before is not None else ""
        would_be = "would be" if dry_run else "are"
        say(f"{name}: {good.rows} rows read: {good.items} items {would_be} known good{before}; {good.passed_over} rows passed over")
        return
    assert found.result is not None  # noqa: S101 - one of the three
    report = found.result.report
    how = "compared in full" if found.result.full else "changes only"
    say(f"{name}: {report.rows} rows read, {how}{'; read by an earlier run that was stopped' if found.result.taken_up else ''}")
    say(f"  {would}{report.new} new, {report.changed} changed, {report.unchanged} unchanged, {report.lost} retracted")
    more = {
        "of those changed were retracted and are back": report.back,
        "retracted because the source took them back": report.deleted,
        "retracted because they vanished": report.vanished,
        "retracted because their row has no usable hash any more": report.lost_hashes,
        "deletions at the source match nothing here": report.unmatched_deletions,
        "rows about records that were erased here and stay so": report.erased,
        "rows with a key that an earlier row had": report.repeated,
        "values left out of rows that were taken": report.noted,
        **repeats_words(report.repeats),
        "rows passed over": report.passed_over + found.result.without_key,
    }
    for words, count in more.items():
        if count:
            say(f"  {count} {words}")
    for reason, count in report.reasons.items():
        say(f"    {count} x {reason}")
    if found.report:
        note(f"Every one of them: {found.report}")


@source.command(cls=COMMAND)
@JSON
@HOME
def status(home: Path, as_json: bool) -> None:
    """Show each source: how fresh its records are, how its last run went, when the next is due."""
    from vidfed.node.records.known import open_store
    from vidfed.node.sources.overview import overview
    from vidfed.security.clock import as_text, system_clock
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    with open_store(member_home) as store:
        sources = overview(member_home, store, system_clock())
    if as_json:
        print_json({"schema": "vidfed.source-status/1", "sources": [each.to_fields() for each in sources]})
        return
    if not sources:
        say("no source is followed: vidfed node source add")
    for each in sources:
        as_of = f"as of {as_text(each.as_of_ms)}" if each.as_of_ms else "never read"
        what = "items that become no record" if each.kind == "known-good" else "records"
        say(f"{each.name} ({each.kind}): {each.live} {what} {as_of}{', BEHIND its schedule' if each.behind else ''}")
        if not each.configured:
            say("  NOT in the configuration any more: its records grow old; put it back, or vidfed node source remove")
        if each.compared_ms and each.compared_ms != each.as_of_ms:
            say(f"  everything was compared {as_text(each.compared_ms)}; what vanished since is not known")
        if each.problem:
            words = "waits for a decision" if each.waiting else f"{each.failures} runs failed, the last"
            say(f"  {words} {as_text(each.attempted_ms)}: {each.problem}")
        if each.next_ms:
            say(f"  next run {as_text(each.next_ms)}")


@source.command(cls=COMMAND)
@click.argument("name")
@click.option("--keep/--retract", default=None, help="Keep its records as this member's own, or retract them.")
@HOME
def remove(name: str, home: Path, keep: bool | None) -> None:
    """Follow a source no longer, and take it out of vidfed.toml.

    Its records are either kept, as this member's own that nobody corrects any more, or retracted; then they come back when a source of
    the same name is followed again. One of the two must be said.
    """
    from vidfed.node.records.known import open_store
    from vidfed.node.sources.configure import remove_source
    from vidfed.node.sources.ending import end_source
    from vidfed.node.sources.follow import history_path, state_folder
    from vidfed.node.sources.settings import read_sources
    from vidfed.security.audit import Event, Operation
    from vidfed.security.clock import system_clock
    from vidfed.security.lockfile import exclusive
    from vidfed.security.member.audit_log import logged
    from vidfed.security.member.home import MemberHome

    if keep is None:
        raise click.UsageError("say what becomes of its records: --keep or --retract")
    member_home = MemberHome(home)
    event = Event.RECORDS_CHANGED if keep else Event.RECORDS_RETRACTED
    with exclusive(state_folder(member_home) / f"{name}.lock"), open_store(member_home) as store:
        with logged(member_home, Operation.ALTERATION, event, source=name) as done:
            done["records"] = count = end_source(store, name, keep=keep, now_ms=system_clock())
        if name in read_sources(member_home):
            remove_source(member_home.config_path, name)
    history_path(member_home, name).unlink(missing_ok=True)
    say(f"{name} is no longer followed; {count} records were {'kept as own records' if keep else 'retracted'}")
    note("A service that runs reads the configuration when it is restarted.")
