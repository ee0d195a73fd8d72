"""`vidfed node import|export|migrate`. Thin: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidfed.cli.terminal import HOME, JSON, file_progress, note, print_json, progress, say
from vidfed.node.cli.options import COMMAND, described, repeats_words, said

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidfed.node.intake.report import ImportReport
    from vidfed.node.records.record import Record
    from vidfed.security.member.home import MemberHome

_FORMATS = ("vics", "icse", "csv", "list", "hashdeep", "nsrl", "ncmec")
_LIST_ALGORITHMS = ("md5", "sha1", "sha256", "pdq", "phash", "dhash", "ahash", "whash", "photodna")


@click.command("import", cls=COMMAND)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--dry-run", is_flag=True, help="Do everything, report, and change nothing.")
@click.option("--format", "format_name", type=click.Choice(_FORMATS), help="Format of the files.  [default: recognised]")
@click.option("--algorithm", type=click.Choice(_LIST_ALGORITHMS), help="What a plain list holds, where the length does not tell.")
@click.option("--region", help="Whose categories the file uses, where it does not say, e.g. UK.")
@click.option("--scale", help="Name of the category scale, instead of the format's own name for it.")
@click.option("--leave-out-category", "leave_out", multiple=True, metavar="N", help="Do not take in entries of this raw category.")
@click.option(
    "--known-good",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Digests that must not become records, in any format read here, beside the lists of `vidfed node known-good`; may be repeated.",
)
@click.option("--overwrite", is_flag=True, help="Let the files overrule what was edited by hand.")
@click.option("--accept-exclusions", is_flag=True, help="Go on although most entries are in the known-good set.")
@click.option("--strict", is_flag=True, help="Refuse a file of which anything would be passed over: an entry, a value, a column.")
@click.option(
    "--max-repeats", default=100, show_default=True, type=click.IntRange(2, 255), help="Unrelated items that may share one perceptual hash."
)
@click.option(
    "--report",
    "report_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the full report.  [default: in the member's folder]",
)
@described
@JSON
@HOME
def import_(
    files: tuple[Path, ...],
    home: Path,
    as_json: bool,
    dry_run: bool,
    format_name: str | None,
    algorithm: str | None,
    region: str | None,
    scale: str | None,
    leave_out: tuple[str, ...],
    known_good: tuple[Path, ...],
    overwrite: bool,
    accept_exclusions: bool,
    strict: bool,
    max_repeats: int,
    report_path: Path | None,
    **options: Any,  # noqa: ANN401 - texts of the options in `described`
) -> None:
    """Take the hashes in FILES into records: VICS 1.x and 2.0, ICSE CSV, CSV with a header, plain lists, hashdeep, NCMEC Hash Sharing.

    Format and encoding are recognised. All files are taken in by one transaction: broken, interrupted or killed, nothing has changed.
    Run again, nothing is doubled: what differs is updated. Options that describe (--series, ...) hold for every record, over what the
    files say. Entries that cannot be used are left out and listed with their number in the report file; the exit status is then 1.
    """
    import sys

    from vidfed.node.config import StoreSection
    from vidfed.node.intake.options import ImportOptions
    from vidfed.node.operations.importing import take_files_in
    from vidfed.security.clock import system_clock
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    chosen = ImportOptions(
        format_name=format_name,
        algorithm=algorithm,
        region=region,
        values=said(options),
        defaults={"case_contact": member_home.identity.contact},
        scale=scale,
        leave_out=frozenset(leave_out),
        review_after_days=member_home.section("store", StoreSection).review_after_days,
        max_repeats=max_repeats,
        overwrite=overwrite,
        accept_exclusions=accept_exclusions,
        strict=strict,
        dry_run=dry_run,
    )
    now_ms = system_clock()
    if report_path is None:
        (member_home.folder / "reports").mkdir(mode=0o700, exist_ok=True)
        report_path = member_home.folder / f"reports/import-{now_ms}{'-dry-run' if dry_run else ''}.txt"

    def take_the_rest(said: str) -> bool:
        return sys.stdin.isatty() and click.confirm(f"{said}\nTake the rest in?", err=True)

    with file_progress("trying" if dry_run else "importing") as update:
        try:
            reports = take_files_in(
                member_home,
                files,
                chosen,
                now_ms=now_ms,
                known_good=known_good,
                report_file=report_path,
                on_progress=update,
                take_the_rest=take_the_rest,
            )
        except KeyboardInterrupt:
            raise click.ClickException("interrupted; nothing was changed") from None
    if as_json:
        print_json(
            {"schema": "vidfed.import/1", "dry_run": dry_run, "report": str(report_path), "files": [each.to_fields() for each in reports]}
        )
    else:
        for report in reports:
            _print_report(report, dry_run=dry_run)
        note(f"Full report: {report_path}")
    if any(report.skipped for report in reports):
        raise SystemExit(1)


def _print_report(report: ImportReport, *, dry_run: bool) -> None:
    counts = report.counts
    would = "would be " if dry_run else ""
    say(f"{report.file_name}: {report.format}, {report.entries} entries")
    say(f"  {would}{counts.new} new, {counts.updated} updated, {counts.unchanged} unchanged, {report.skipped} skipped")
    more = {
        "entries about an item already named in this file": counts.repeated,
        "of those say otherwise; the first was kept": counts.disagreeing,
        "say otherwise than what was edited by hand; the edit was kept (--overwrite takes the file's word)": counts.kept_edits,
        "taken back by the source": counts.retracted,
        "taken back by the source and not known here": counts.unknown_retracted,
        "retracted here and left so": counts.kept_retracted,
        **repeats_words(counts.repeats),
    }
    for words, count in more.items():
        if count:
            say(f"  {count} {words}")
    for text in report.notes:
        note(f"  note: {text}")
    for text in report.noted_first:
        note(f"  {text}")
    if report.noted > len(report.noted_first):
        note(f"  ... and {report.noted - len(report.noted_first)} more to know, in the report")
    for text in report.skipped_first:
        note(f"  skipped {text}")
    if report.skipped > len(report.skipped_first):
        note(f"  ... and {report.skipped - len(report.skipped_first)} more, in the report")


@click.command(cls=COMMAND)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--format", "format_name", type=click.Choice(["vics", "csv", "vpdq"]), help="[default: csv for a name in .csv, else vics]")
@click.option("--series", help="Only this series.")
@click.option("--case", "case_reference", help="Only this case.")
@click.option("--tag", default="", help="Only records with this tag.")
@click.option("--in-scale", help="Write categories in this scale, by the mappings; those without a counterpart are left empty and counted.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@HOME
def export(file: Path, home: Path, format_name: str | None, tag: str, in_scale: str | None, force: bool, **equal: str | None) -> None:
    """Write this member's own records to FILE: VICS 2.0 (Default, #Media), which other tools read, CSV, or, of films, vPDQ as HMA has it.

    Perceptual hashes are sensitive: FILE is readable by you alone, and is not meant for bulk exchange between members. Retracted and
    erased records are not in it.
    """
    from vidfed.node.intake.exports import write_csv, write_vics, write_vpdq
    from vidfed.node.operations.operator_audit import Operation, log_operation
    from vidfed.node.records.known import open_store
    from vidfed.node.records.lifecycle import RecordQuery, stored_records
    from vidfed.security.clock import system_clock
    from vidfed.security.files import new_text_file
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    if file.exists() and not force:
        raise click.ClickException(f"{file}: exists; --force overwrites it")
    write = {"csv": write_csv, "vpdq": write_vpdq}.get(format_name or file.suffix.lower().lstrip("."), write_vics)
    wanted = RecordQuery(equal={name: value for name, value in equal.items() if value is not None}, tag=tag)
    with open_store(member_home) as store, progress() as bar:
        task = bar.add_task("exporting", total=store.state().records)
        log_operation(member_home, Operation.CONSULTATION, "EXPORTED", records=0, now_ms=system_clock())
        with new_text_file(file) as out:
            records: Iterator[Record] = (kept.record for kept in stored_records(store, wanted))
            if in_scale:
                records = _translated(records, member_home, in_scale)
            count = write(records, out, lambda done: bar.update(task, completed=done))
        bar.update(task, completed=count)
    say(f"{count} records written to {file}")


@click.command(cls=COMMAND)
@HOME
def migrate(home: Path) -> None:
    """Bring the record store to the form this version needs, after an upgrade. One transaction: it works or changes nothing."""
    from contextlib import closing

    from vidfed.node.config import store_location
    from vidfed.node.records.database import RecordDatabase
    from vidfed.node.records.migrations import migrate as migrate_store
    from vidfed.security.member.home import MemberHome

    with closing(RecordDatabase(store_location(MemberHome(home)))) as database:
        before, now = migrate_store(database)
    say(f"record store is of form {now}" + (f", was {before}" if before != now else " already"))


def _translated(records: Iterator[Record], home: MemberHome, to_scale: str) -> Iterator[Record]:
    """Yield the records with their categories in another scale, and say at the end how many have no counterpart there."""
    from dataclasses import replace

    from vidfed.node.config import StoreSection
    from vidfed.node.records.scales import ScaleError, load_scales

    tables = load_scales([home.folder / name for name in home.section("store", StoreSection).category_scales])
    if to_scale not in tables.scales:
        raise ScaleError(f"no table describes the scale {to_scale!r}; known are {', '.join(sorted(tables.scales))}")
    region, lost = tables.scales[to_scale].region, 0
    for record in records:
        category = tables.translate(record, to_scale)
        lost += bool(record.category and category is None)
        scale = to_scale if category else ""
        yield replace(record, category=category or "", category_scale=scale, category_region=region if category else "")
    if lost:
        note(f"{lost} records have a category with no counterpart in {to_scale}; it was left empty")


@click.command(cls=COMMAND)
@JSON
@HOME
def scales(home: Path, as_json: bool) -> None:
    """Show the category scales this node knows and the mappings between them, each with version and source."""
    from vidfed.node.config import StoreSection
    from vidfed.node.records.scales import load_scales
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    tables = load_scales([member_home.folder / name for name in member_home.section("store", StoreSection).category_scales])
    if as_json:
        known = [
            {"name": s.name, "version": s.version, "region": s.region, "source": s.source, "values": s.values}
            for s in tables.scales.values()
        ]
        mapped = [
            {"from_scale": t.from_scale, "from_region": t.from_region, "to_scale": t.to_scale, "version": t.version, "table": t.table}
            for t in tables.translations
        ]
        print_json({"schema": "vidfed.scales/1", "scales": known, "mappings": mapped})
        return
    for scale in tables.scales.values():
        say(f"{scale.name} (version {scale.version}{', ' + scale.region if scale.region else ''}): {', '.join(scale.values)}")
        say(f"  {scale.source}")
    for each in tables.translations:
        pairs = ", ".join(f"{raw} = {value}" for raw, value in each.table.items())
        say(f"{each.from_scale} ({each.from_region or 'no region'}) -> {each.to_scale} (version {each.version}): {pairs}")
        say(f"  {each.source}")
