"""The part of `vidfed audit ...` that asks others: witnesses, receipts. Joins the commands of `vidfed.security.cli.audit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidfed.casework.errors import CaseworkError
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

_COMMAND = reporting(CaseworkError, FederationError, SecurityError, WireError)


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


@audit.command(cls=_COMMAND)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--anchor", required=True, type=click.Path(path_type=Path, dir_okay=False, exists=True), help="The federation's first root.")
@JSON
def opened(file: Path, anchor: Path, as_json: bool) -> None:
    """Check and read an entry of a conversation that a party opened to you (`vidfed cases open-for`). No key is needed.

    It holds if the persons named, and their member, signed for exactly this content. Compare the words with those that the administrators
    give you by another way.
    """
    from vidfed.casework.client import Read
    from vidfed.casework.opened import OpenedEntry
    from vidfed.casework.reading import View
    from vidfed.federation.output.cases import draft_lines, entry_fields
    from vidfed.security.trust.anchor import Anchor

    root = Anchor.load(anchor)
    shown = OpenedEntry.from_json(file.read_bytes(), str(file))
    entry, content = shown.check(root)
    read, header = Read(entry, content), entry.header
    if as_json:
        fields = entry_fields(read, View()) | {"conversation": header.conversation.hex(), "opened_to": shown.overseer}
        print_json({"schema": "vidfed.opened-entry/1", "asker": header.asker, "owner": header.owner, **fields})
        return
    note(f"words of the federation's first root: {root.words}")
    say(f"holds: entry {header.number} of {header.writer}, between {header.asker} (asks) and {header.owner}, {header.conversation.hex()}")
    for line in draft_lines(read):
        say(f"  {line}")


def _verify_log(folder: Path, *, ask: bool, as_json: bool) -> None:
    import asyncio

    from vidfed.security.audit.verify import vouched_for
    from vidfed.security.clock import SECOND_MS
    from vidfed.security.member.audit_log import checkpoints_known, verify_own_log
    from vidfed.security.member.home import MemberHome

    home = MemberHome(folder)
    directory = home.directory_source().current()
    known = checkpoints_known(home)
    unreachable: list[str] = []
    if ask:
        held, unreachable = asyncio.run(_ask_witnesses(home))
        known += held
    report = verify_own_log(home, known)
    report.notes += [f"{member} could not be asked" for member in unreachable]
    report.vouched = vouched_for(report, known, directory)
    if as_json:
        report_vouched = {name: {"size": size, "time_ms": time_s * SECOND_MS} for name, (size, time_s) in report.vouched.items()}
        fields = {"vouched_by": report_vouched} | {
            name: getattr(report, name) for name in ("origin", "entries", "opened", "dropped", "checkpoints", "findings", "notes")
        }
        print_json({"schema": "vidfed.audit-verification/1", "holds": report.holds, "root": report.root.hex(), **fields})
    else:
        _print_report(report, sorted({entry.holder for entry in known}))
    raise SystemExit(not report.holds)


def _print_report(report: VerifyReport, holders: Sequence[str]) -> None:
    from vidfed.security.clock import SECOND_MS, as_text

    say(f"log         {report.origin}")
    say(f"entries     {report.entries}: {report.opened} as logged, {report.dropped} whose content was dropped and announced")
    say(f"compared    with {report.checkpoints} signed checkpoints, held by the log itself{''.join(f', {name}' for name in holders)}")
    for line in report.notes:
        say(f"note        {line}")
    for finding in report.findings:
        say(f"WRONG       {finding}")
    for name, (size, time_s) in sorted(report.vouched.items()):
        say(f"vouched     by {name} for the first {size} of {report.entries} entries, {as_text(time_s * SECOND_MS)}")
    if report.holds and not report.vouched:
        say("The log holds in itself, but NOBODY ELSE VOUCHES for it: whoever has this member's keys could have written all of it anew.")
        say("Next: run the node, which asks the others each minute; what keeps them: vidfed node doctor")
        return
    say("The log holds." if report.holds else "The log does NOT hold.")


def _verify_file(file: Path, home: Path, *, as_json: bool) -> None:
    from vidfed.security.audit.export import verify_export
    from vidfed.security.audit.reporting.report import REPORT_TYPE, read_report
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


async def _ask_witnesses(home: MemberHome) -> tuple[list[KnownCheckpoint], list[str]]:
    """Return what the other members hold of this log now, and who could not be asked."""
    import asyncio

    from vidfed.federation.nodes.witnesses import held_by

    directory = home.directory_source().current()
    others = [member for member in directory.members.values() if member.id != home.member]
    answers = await asyncio.gather(*(held_by(other, home, directory) for other in others))
    held = [checkpoint for answer in answers for checkpoint in answer or ()]
    return held, [other.id for other, answer in zip(others, answers, strict=True) if answer is None]


@audit.command("new-epoch", cls=_COMMAND)
@click.option("--reason", required=True, help="One line that the other members are told and keep for good; no case data.")
@click.option("--alone", is_flag=True, help="Go on although no other member can be asked what it holds of this log.")
@HOME
def new_epoch(reason: str, alone: bool, home: Path) -> None:
    """Go on with an audit log that was lost, or put back from a backup, and that others therefore no longer cosign.

    The log is begun anew under the next number. It keeps the entries that are left, and announces, signed, what others held of it: they
    see for good that entries were lost. The node and the gateway must be stopped.
    """
    import asyncio
    import getpass

    from vidfed.security.audit.verify import cosigned_s
    from vidfed.security.clock import system_clock
    from vidfed.security.lockfile import check_not_serving
    from vidfed.security.member.audit_log import audit_location, checkpoint_copy, checkpoints_known
    from vidfed.security.member.home import MemberHome
    from vidfed.security.member.new_epoch import begin_epoch

    member_home = MemberHome(home)
    check_not_serving(member_home.state_file("serving"), "node")
    check_not_serving(member_home.state_file("gateway-serving"), "gateway")
    held, unreachable = asyncio.run(_ask_witnesses(member_home))
    directory = member_home.directory_source().current()
    others = len(directory.members) - 1
    if others and len(unreachable) == others and not alone:
        raise click.ClickException(
            f"none of the {others} other members can be asked what it holds of this log ({', '.join(unreachable)}); an epoch that names "
            "less than they hold is refused by them. Try again when they answer, or with --alone"
        )
    start = begin_epoch(
        audit_location(member_home),
        member_home.audit_signer,
        [(each.checkpoint, cosigned_s(each.checkpoint, directory)) for each in (*checkpoints_known(member_home), *held)],
        federation=member_home.federation,
        member=member_home.member,
        reason=reason,
        operator=getpass.getuser(),
        beside=checkpoint_copy(member_home),
        clock=system_clock,
    )
    say(start.words)
    for member in unreachable:
        note(f"{member} could not be asked. If it holds a later state it will not cosign: run this again then, and it is named.")
    note("The others are told when the node runs. Next: start the node, then vidfed node doctor")


@audit.command(cls=_COMMAND)
@HOME
@JSON
def witnesses(home: Path, as_json: bool) -> None:
    """Show who cosigned which state of this log and when, or does not; what this member cosigned of others; and evidence of forks.

    Also which members began their logs anew after a loss, and what they said of it.

    Exit status 1 if there is evidence.
    """
    from contextlib import closing

    from vidfed.security.clock import SECOND_MS, as_text, system_clock
    from vidfed.security.member.audit_log import open_witness
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    directory = member_home.directory_source().current()
    members = sorted(directory.members.keys() - {member_home.member})
    with closing(open_witness(member_home)) as witness:
        ours, theirs, evidence = witness.cosignatures(), witness.witnessed(), witness.evidence()
        disagreements, epochs = witness.disagreements(), witness.epochs(directory)
    if as_json:
        sides = {
            name: {member: {"size": found.size, "time_ms": time_ms} for member, (time_ms, found) in side.items()}
            for name, side in (("cosigned_by", ours), ("cosigned_of", theirs))
        }
        kept = [{"member": e.member, "kind": e.kind, "time_ms": e.time_ms, "held": e.held.text, "shown": e.shown.text} for e in evidence]
        begun = [
            {"member": seen.member, "time_ms": seen.time_ms, "epoch": seen.start.epoch, "announcement": seen.start.text} for seen in epochs
        ]
        refused = {member: {"since_ms": each.since_ms, "said": each.said} for member, each in disagreements.items()}
        print_json({"schema": "vidfed.audit-witnesses/1", **sides, "evidence": kept, "epochs": begun, "disagreements": refused})
        raise SystemExit(bool(evidence))
    now_ms = system_clock()
    for member in members:
        for side, text in ((ours, "cosigned this log"), (theirs, "had its log cosigned here")):
            if member in side:
                time_ms, found = side[member]
                say(f"{member:<8} {text} at {found.size} entries, {as_text(time_ms)} ({(now_ms - time_ms) // SECOND_MS} s ago)")
            else:
                say(f"{member:<8} never {text}")
    for member, each in disagreements.items():
        say(f"{member:<8} DOES NOT COSIGN this log since {as_text(each.since_ms)}: {each.said}")
    for seen in epochs:
        say(f"{seen.member:<8} began its log anew, told here {as_text(seen.time_ms)}: {seen.start.words}")
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

    Exit status: 0 all proven, 1 a node does not stand by an answer it signed, 3 some node could not be asked, or announced that it lost the
    entry.
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
    from vidfed.federation.lookup.receipts import LostEntryError, NothingLoggedError

    caught = unasked = lost = 0
    async with FederationClient(kit) as client:
        for receipt in receipts:
            try:
                checked = await client.fetch_proof(receipt)
            except NothingLoggedError as error:
                say(f"nothing    {receipt.name}: {error}")
            except LostEntryError as error:
                lost += 1
                say(f"lost       {receipt.name}: {error}")
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
    if lost:
        note("What was lost is proven by nobody any more. What the node told the others of it: vidfed audit witnesses, at your unit.")
    return 1 if caught else 3 if unasked or lost else 0


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
