"""The part of `vidfed audit ...` that asks others: witnesses, receipts. Joins the commands of `vidfed.security.cli.audit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import HOME, JSON, kit_option, note, print_json, reporting, say
from vidfed.federation.lookup.errors import FederationError
from vidfed.security.cli.audit import audit
from vidfed.security.errors import ReceiptError, SecurityError
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vidfed.federation.client.receipt_store import ReceiptStore
    from vidfed.federation.lookup.receipts import Receipt
    from vidfed.security.audit.export import ExportReport
    from vidfed.security.audit.verify import KnownCheckpoint, VerifyReport
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.kit import Kit

__all__ = ["audit"]

_COMMAND = reporting(FederationError, SecurityError, WireError)


@audit.command(cls=_COMMAND)
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--ask", is_flag=True, help="Ask the other members now which states of this log they cosigned.")
@HOME
@JSON
def verify(file: Path | None, ask: bool, home: Path, as_json: bool) -> None:
    """Check the whole log of a member, or with FILE an export or a signed report of one. Exit status 1 if anything is wrong.

    The log is compared with its own checkpoints, the one kept beside it, those that other members cosigned, and with --ask those that they
    hold right now.
    """
    if file is not None:
        _verify_file(file, home, as_json=as_json)
    else:
        _verify_log(home, ask=ask, as_json=as_json)


def _verify_log(folder: Path, *, ask: bool, as_json: bool) -> None:
    import asyncio
    from contextlib import closing

    from vidfed.security.audit.verify import verify_log
    from vidfed.security.member.audit_log import open_storage
    from vidfed.security.member.home import MemberHome

    home = MemberHome(folder)
    known = _checkpoints_known(home)
    unreachable: list[str] = []
    if ask:
        held, unreachable = asyncio.run(_ask_witnesses(home))
        known += held
    keys = home.directory_source().current().member(home.member).audit_keys
    with closing(open_storage(home)) as storage:
        report = verify_log(storage, keys, known)
    report.notes += [f"{member} could not be asked" for member in unreachable]
    if as_json:
        fields = {name: getattr(report, name) for name in ("origin", "entries", "opened", "dropped", "checkpoints", "findings", "notes")}
        print_json({"schema": "vidfed.audit-verification/1", "holds": report.holds, "root": report.root.hex(), **fields})
    else:
        _print_report(report, sorted({entry.holder for entry in known}))
    raise SystemExit(not report.holds)


def _print_report(report: VerifyReport, holders: Sequence[str]) -> None:
    say(f"log         {report.origin}")
    say(f"entries     {report.entries}: {report.opened} as logged, {report.dropped} whose content was dropped and announced")
    say(f"compared    with {report.checkpoints} signed checkpoints, held by the log itself{''.join(f', {name}' for name in holders)}")
    for line in report.notes:
        say(f"note        {line}")
    for finding in report.findings:
        say(f"WRONG       {finding}")
    say("The log holds." if report.holds else "The log does NOT hold.")


def _verify_file(file: Path, home: Path, *, as_json: bool) -> None:
    from vidfed.security.audit.export import verify_export
    from vidfed.security.audit.report import REPORT_TYPE, read_report
    from vidfed.security.member.home import MemberHome

    with file.open("rb") as opened:
        start = opened.read(200)
    if REPORT_TYPE.encode() in start:
        report, member = read_report(file.read_bytes(), MemberHome(home).directory_source().current())
        say(f"A report about {', '.join(report['members'])}, signed by {member}. The signature holds.")
        return
    export = verify_export(file)
    if as_json:
        fields = {
            name: getattr(export, name) for name in ("federation", "member", "first", "end", "opened", "dropped", "witnesses", "findings")
        }
        print_json({"schema": "vidfed.audit-export-verification/1", "holds": not export.findings, **fields})
    else:
        _print_export(export)
    raise SystemExit(bool(export.findings))


def _print_export(export: ExportReport) -> None:
    from vidfed.security.clock import SECOND_MS, as_text

    say(f"log         {export.checkpoint.origin}")
    say(f"entries     {export.first} to {export.end - 1}: {export.opened} as logged, {export.dropped} whose content was dropped")
    say(f"checkpoint  of {export.checkpoint.size} entries")
    for member, time_s in sorted(export.witnesses.items()):
        say(f"cosigned    by {member} at {as_text(time_s * SECOND_MS)}")
    if not export.witnesses:
        say("cosigned    by nobody: the member alone vouches for this state of its log")
    for finding in export.findings:
        say(f"WRONG       {finding}")
    say(f"All this under the root with the words {export.anchor.words}: compare them with the administrators by another channel.")
    say("The export holds." if not export.findings else "The export does NOT hold.")


def _checkpoints_known(home: MemberHome) -> list[KnownCheckpoint]:
    """Return what this member holds outside the log: the copy beside it, and what others cosigned."""
    from contextlib import closing

    from vidfed.security.audit.notes import Checkpoint
    from vidfed.security.audit.verify import KnownCheckpoint
    from vidfed.security.member.audit_log import checkpoint_copy, open_witness

    known = []
    beside = checkpoint_copy(home)
    if beside.exists():
        known.append(KnownCheckpoint(f"the file {beside.name}", Checkpoint.parse(beside.read_text(encoding="utf-8"))))
    with closing(open_witness(home)) as witness:
        known += [KnownCheckpoint(f"witness {name}", checkpoint) for name, (_, checkpoint) in witness.cosignatures().items()]
    return known


async def _ask_witnesses(home: MemberHome) -> tuple[list[KnownCheckpoint], list[str]]:
    """Return what the other members hold of this log now, and who could not be asked."""
    import asyncio

    from vidfed.federation.nodes.witnesses import held_by

    directory = home.directory_source().current()
    others = [member for member in directory.members.values() if member.id != home.member]
    answers = await asyncio.gather(*(held_by(other, home, directory) for other in others))
    held = [checkpoint for answer in answers for checkpoint in answer or ()]
    return held, [other.id for other, answer in zip(others, answers, strict=True) if answer is None]


@audit.command(cls=_COMMAND)
@HOME
@JSON
def witnesses(home: Path, as_json: bool) -> None:
    """Show who cosigned which state of this log and when, what this member cosigned of others, and evidence of forks.

    Exit status 1 if there is evidence.
    """
    from contextlib import closing

    from vidfed.security.clock import SECOND_MS, as_text, system_clock
    from vidfed.security.member.audit_log import open_witness
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    members = sorted(member_home.directory_source().current().members.keys() - {member_home.member})
    with closing(open_witness(member_home)) as witness:
        ours, theirs, evidence = witness.cosignatures(), witness.witnessed(), witness.evidence()
    if as_json:
        sides = {
            name: {member: {"size": found.size, "time_ms": time_ms} for member, (time_ms, found) in side.items()}
            for name, side in (("cosigned_by", ours), ("cosigned_of", theirs))
        }
        kept = [{"member": e.member, "kind": e.kind, "time_ms": e.time_ms, "held": e.held.text, "shown": e.shown.text} for e in evidence]
        print_json({"schema": "vidfed.audit-witnesses/1", **sides, "evidence": kept})
        raise SystemExit(bool(evidence))
    now_ms = system_clock()
    for member in members:
        for side, text in ((ours, "cosigned this log"), (theirs, "had its log cosigned here")):
            if member in side:
                time_ms, found = side[member]
                say(f"{member:<8} {text} at {found.size} entries, {as_text(time_ms)} ({(now_ms - time_ms) // SECOND_MS} s ago)")
            else:
                say(f"{member:<8} never {text}")
    for entry in evidence:
        say(f"EVIDENCE {entry.kind} of the log of {entry.member}, found {as_text(entry.time_ms)}: two states it signed,")
        held, shown = (f"{found.size} entries with root {found.root.hex()[:16]}" for found in (entry.held, entry.shown))
        say(f"         {held} and {shown}")
    raise SystemExit(bool(evidence))


@audit.command("check-receipt", cls=_COMMAND)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, dir_okay=False))
@kit_option("--kit", what="Your investigator's kit, through whose gateway the nodes are asked.")
def check_receipt(files: tuple[Path, ...], kit: Path) -> None:
    """Ask the nodes to prove that the answers of receipts are in their logs: of FILES, from `export-receipts`, or of all in the kit.

    Exit status: 0 all proven, 1 a node does not stand by an answer it signed, 3 some node could not be asked.
    """
    import asyncio
    from itertools import chain

    from vidfed.federation.lookup.receipts import Receipt
    from vidfed.security.member.kit import Kit

    opened = Kit(kit)
    with _receipts_of(kit) as store:
        receipts = iter([Receipt.load(path) for path in files]) if files else store.all()
        first = next(receipts, None)
        if first is None:
            raise click.ClickException(f"{store.path}: no receipts yet; every answered lookup leaves one")
        raise SystemExit(asyncio.run(_check(opened, chain([first], receipts))))


async def _check(kit: Kit, receipts: Iterable[Receipt]) -> int:
    from vidfed.federation.client.client import FederationClient
    from vidfed.federation.lookup.errors import GatewayError
    from vidfed.federation.lookup.receipts import NothingLoggedError

    caught = unasked = 0
    async with FederationClient(kit) as client:
        for receipt in receipts:
            try:
                checked = await client.fetch_proof(receipt)
            except NothingLoggedError as error:
                say(f"nothing    {receipt.name}: {error}")
            except ReceiptError as error:
                caught += 1
                say(f"CAUGHT     {receipt.name}: {error}")
            except GatewayError as error:
                unasked += 1
                say(f"not asked  {receipt.name}: {error}")
            else:
                words = "says the same" if checked.opened else "is there; its content was dropped"
                say(f"proven     {receipt.name}: entry {checked.position} of {receipt.member} {words}")
    if caught:
        note("Keep these receipts: each is the node's own signature over an entry that it cannot show.")
        note("As files, for others to check: vidfed audit export-receipts NAME... --to FOLDER")
    return 1 if caught else 3 if unasked else 0


@audit.command("export-receipts", cls=_COMMAND)
@click.argument("names", nargs=-1)
@click.option("--to", "folder", required=True, type=click.Path(path_type=Path, file_okay=False), help="Where the files go.")
@kit_option("--kit", what="Your investigator's kit.")
def export_receipts(names: tuple[str, ...], folder: Path, kit: Path) -> None:
    """Write receipts as files, a file each, which anybody's `check-receipt` takes: those of NAMES, as it says them, or all in the kit."""
    from vidfed.security.member.kit import Kit

    count = 0
    with _receipts_of(Kit(kit).folder) as store:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for receipt in map(store.named, names) if names else store.all():
            receipt.save(folder)
            count += 1
    say(f"Wrote {count} receipts to {folder}.")


def _receipts_of(kit: Path) -> ReceiptStore:
    from vidfed.federation.client.receipt_store import RECEIPTS_FILE, ReceiptStore

    return ReceiptStore(kit / RECEIPTS_FILE)
