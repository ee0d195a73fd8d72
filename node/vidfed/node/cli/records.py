"""`vidfed node records ...`: looking at one's own records and changing them. Thin: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vidfed.cli.terminal import HELP, HOME, JSON, console, note, print_json, say
from vidfed.node.cli.options import COMMAND, DESCRIPTION, described, said

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.node.records.lifecycle import StoredRecord

_REFERENCE = click.argument("reference")
_REASON = click.option("--reason", required=True, help="Why; kept with the record, without case data.")


@click.group(context_settings=HELP)
def records() -> None:
    """List, show, edit, retract and erase records."""


@records.command("list", cls=COMMAND)
@click.option("--state", type=click.Choice(["live", "retracted", "erased", "all"]), default="live", show_default=True)
@click.option("--series", help="Only this series.")
@click.option("--case", "case_reference", help="Only this case.")
@click.option("--category", help="Only this raw category.")
@click.option("--scale", "category_scale", help="Only categories of this scale.")
@click.option("--tag", default="", help="Only records with this tag.")
@click.option("--hash", "hash_text", metavar="ALGORITHM:VALUE", help="Only records with exactly this hash.")
@click.option("--after", default=0, type=click.IntRange(0), help="Continue after this number: that of the last record of the page before.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="Records a page.")
@JSON
@HOME
def list_(home: Path, state: str, tag: str, hash_text: str | None, after: int, limit: int, as_json: bool, **equal: str | None) -> None:
    """List records, a page at a time."""
    from vidfed.index import Hash
    from vidfed.node.records.lifecycle import RecordQuery

    wanted = RecordQuery(
        state=state,
        equal={name: value for name, value in equal.items() if value is not None},
        tag=tag,
        hash=Hash.parse(hash_text) if hash_text else None,
    )
    _print_page(home, wanted, after=after, limit=limit, as_json=as_json)


@records.command(cls=COMMAND)
@click.option("--within-days", default=0, show_default=True, type=click.IntRange(0), help="Also those due in so many days.")
@click.option("--after", default=0, type=click.IntRange(0), help="Continue after this number.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="Records a page.")
@JSON
@HOME
def due(home: Path, within_days: int, after: int, limit: int, as_json: bool) -> None:
    """List the records whose review date has come. Keep one with `edit --review DATE`, or retract or erase it."""
    from vidfed.node.records.lifecycle import RecordQuery
    from vidfed.security.clock import DAY_MS, system_clock

    _print_page(home, RecordQuery(due_ms=system_clock() + within_days * DAY_MS), after=after, limit=limit, as_json=as_json)


@records.command(cls=COMMAND)
@_REFERENCE
@click.option("--hashes", is_flag=True, help="Show the hashes too; perceptual hashes are sensitive.")
@JSON
@HOME
def show(reference: str, home: Path, hashes: bool, as_json: bool) -> None:
    """Show one record by its public reference. The audit log says who looked at it."""
    from vidfed.node.operations.records import consult_record
    from vidfed.security.member.home import MemberHome

    kept = consult_record(MemberHome(home), reference)
    _print_one(kept, hashes=hashes, as_json=as_json)


@records.command(cls=COMMAND)
@_REFERENCE
@described
@click.option("--category", help="Raw category.")
@click.option("--scale", "category_scale", help="Scale the category is of.")
@click.option("--region", "category_region", help="Region the category is of.")
@click.option("--clear", multiple=True, type=click.Choice([*DESCRIPTION, "category"]), help="Set a field to empty; may be repeated.")
@JSON
@HOME
def edit(reference: str, home: Path, as_json: bool, clear: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401 - texts
    """Change what is known of a record. Members asked from now on are told the new."""
    from vidfed.node.operations.operator_audit import Operation
    from vidfed.node.records.lifecycle import edit as edit_record
    from vidfed.node.records.upsert.columns import empty_columns

    empty = empty_columns()
    values = {name: empty[name] for name in clear} | said(options)
    if not values:
        raise click.UsageError("name what is to be changed, e.g. --victim-identified yes")
    _print_one(_change(home, reference, Operation.ALTERATION, "EDITED", edit_record, values), hashes=False, as_json=as_json)


@records.command(cls=COMMAND)
@_REFERENCE
@_REASON
@JSON
@HOME
def retract(reference: str, home: Path, reason: str, as_json: bool) -> None:
    """Take a record back: lookups no longer find it, imports do not bring it back, its tombstone stays.

    Tells who was told of it earlier, as far as the audit log says.
    """
    from vidfed.node.operations.operator_audit import Operation
    from vidfed.node.records.lifecycle import retract as retract_record

    kept = _change(home, reference, Operation.ALTERATION, "RETRACTED", retract_record, reason)
    _print_one(kept, hashes=False, as_json=as_json)
    _tell_recipients(home, reference)


@records.command(cls=COMMAND)
@_REFERENCE
@JSON
@HOME
def reinstate(reference: str, home: Path, as_json: bool) -> None:
    """Undo a retraction."""
    from vidfed.node.operations.operator_audit import Operation
    from vidfed.node.records.lifecycle import reinstate as reinstate_record

    _print_one(_change(home, reference, Operation.ALTERATION, "REINSTATED", reinstate_record), hashes=False, as_json=as_json)


@records.command(cls=COMMAND)
@_REFERENCE
@click.option("--yes", is_flag=True, help="Do not ask.")
@HOME
def erase(reference: str, home: Path, yes: bool) -> None:
    """Remove a record's hashes and content from every file of the member's folder for good.

    That it was erased is logged; what it was is not. Other than a retracted record, whose tombstone keeps its hashes, nothing but its
    reference and times is left. Where something is left, such as files of the index that a busy node is still rewriting, that is said.
    """
    from vidfed.node.operations.erasing import erase_record
    from vidfed.security.member.home import MemberHome

    if not yes:
        click.confirm(f"Erase record {reference} for good?", abort=True)
    done = erase_record(MemberHome(home), reference)
    where = "its codes are still in what follows" if done.left else "its codes are in no file of this folder"
    say(f"record {reference} is erased; {where}. Backups made before still hold it")
    for each in done.left:
        note(f"  {each}")
    _tell_recipients(home, reference)


def _change(home: Path, reference: str, operation: Any, outcome: str, change: Any, *arguments: object) -> StoredRecord:  # noqa: ANN401 - an Operation, a function of lifecycle
    from vidfed.node.operations.records import change_record
    from vidfed.security.member.home import MemberHome

    return change_record(MemberHome(home), reference, operation, outcome, change, *arguments)


def _tell_recipients(home: Path, reference: str) -> None:
    from vidfed.node.operations.operator_audit import earlier_recipients
    from vidfed.security.member.home import MemberHome

    told = earlier_recipients(MemberHome(home), reference)
    if not told:
        note("The audit log names nobody who was told of it.")
    else:
        note("Told earlier, and to be informed:")
        for each in told:
            note(f"  {each}")


def _print_page(home: Path, wanted: Any, *, after: int, limit: int, as_json: bool) -> None:  # noqa: ANN401 - a lifecycle.RecordQuery
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from vidfed.node.operations.records import consult_page, record_fields
    from vidfed.security.clock import as_text
    from vidfed.security.member.home import MemberHome

    page, more = consult_page(MemberHome(home), wanted, after=after, limit=limit)
    if as_json:
        print_json({"schema": "vidfed.records/1", "records": [record_fields(kept, hashes=False) for kept in page], "more": more})
        return
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in ("No", "Reference", "State", "Victim", "Series", "Category", "Case", "Hashes", "Review", "Changed"):
        table.add_column(name, overflow="fold")
    for kept in page:
        record = kept.record
        category = " ".join(part for part in (record.category, record.category_scale, record.category_region) if part)
        codes = ", ".join(algorithm.label for algorithm in record.hashes)
        review = as_text(record.review_ms)[:10] if record.review_ms else "-"
        cells = (kept.number, record.reference, kept.state, record.victim_identified.code, record.series or "-", category or "-")
        cells += (record.case_reference or "-", codes or "-", review, as_text(kept.changed_ms)[:10])  # type: ignore[assignment]  # a longer tuple
        table.add_row(*(Text(str(cell)) for cell in cells))
    console().print(table)
    if more:
        note(f"More: --after {page[-1].number}")


def _print_one(kept: StoredRecord, *, hashes: bool, as_json: bool) -> None:
    from vidfed.node.operations.records import record_fields

    fields = record_fields(kept, hashes=hashes)
    if as_json:
        print_json({"schema": "vidfed.record/1"} | fields)
        return
    for name, value in fields.items():
        if value or value == 0:
            say(f"{name.replace('_', ' '):<20} {', '.join(map(str, value)) if isinstance(value, list) else value}")
