"""`vidfed node repeats ...`: hashes on many different files, frames that many films share. Thin: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import HELP, HOME, JSON, note, print_json, say
from vidfed.node.cli.options import COMMAND

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.node.records.store import RecordStore
    from vidfed.security.member.home import MemberHome

_NUMBER = click.argument("number", type=click.IntRange(1))
_REASON = click.option("--reason", required=True, help="Why; kept with the decision and in the audit log, without case data.")


@click.group(context_settings=HELP)
def repeats() -> None:
    """Decide about perceptual hashes that one import had on many different files, and about frames that very many films share.

    Either a tool wrote a filler where it had no hash, which would make lookups hits that are none; or it is one picture, saved many times,
    which must stay found. What contradicts the hash sets it aside when it is imported; everything else is kept until you decide.

    Frames that more than 100 films share, such as titles and test pictures, are looked for after every `vidfed node ingest` and by `find`.
    They are set aside from films whose other frames do not agree; lookups say that they were not searched.
    """


@repeats.command(cls=COMMAND)
@HOME
def find(home: Path) -> None:
    """Look for frames that more than 100 films share. Those of different films are set aside; `keep` undoes it."""
    from vidfed.node.records.known import open_store
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    with open_store(member_home) as store:
        if not find_shared(member_home, store):
            say("no frame that more than 100 films share is new")


def find_shared(member_home: MemberHome, store: RecordStore) -> int:
    """Look for frames that very many films share, log and say what was found, and return how many frames that is."""
    from vidfed.node.records.shared_frames import find_shared_frames, has_films
    from vidfed.security.audit import Event, Operation
    from vidfed.security.clock import system_clock
    from vidfed.security.member.audit_log import logged

    if not has_films(store):
        return 0
    what = "frames that very many films share"
    with logged(member_home, Operation.ALTERATION, Event.RECORDS_CHANGED, what=what, reason="looked for after an intake") as done:
        found = find_shared_frames(store, now_ms=system_clock())
        done["records"] = sum(each.films for each in found if each.is_aside)
    for each in found:
        done_about, undo = ("is set aside from them", "keep") if each.is_aside else ("is kept", "refuse")
        note(f"one frame is in {each.films} films and {done_about}: {each.said}. Otherwise: vidfed node repeats {undo} {each.number}")
    return len(found)


@repeats.command("list", cls=COMMAND)
@JSON
@HOME
def list_(home: Path, as_json: bool) -> None:
    """List them, with what speaks for and against each."""
    from dataclasses import asdict

    from vidfed.node.operations.operator_audit import Operation, log_operation
    from vidfed.node.records.known import open_store
    from vidfed.node.records.repeats import repeats as found
    from vidfed.security.clock import as_text, system_clock
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    with open_store(member_home) as store:
        known = found(store)
    log_operation(member_home, Operation.CONSULTATION, "READ", records=sum(len(each.references) for each in known), now_ms=system_clock())
    if as_json:
        listed = [asdict(each) | {"algorithm": each.algorithm.value, "found_ms": as_text(each.found_ms)} for each in known]
        print_json({"schema": "vidfed.repeats/1", "repeats": [{**each, "found": each.pop("found_ms")} for each in listed]})
        return
    if not known:
        say("no import had one perceptual hash on many different files, and no frame is known to be shared by very many films")
    for each in known:
        decided = f"; an operator decided: {each.decision} ({each.reason})" if each.decision else ""
        say(f"{each.number}. {'frame of films' if each.is_frame else each.algorithm.label}, {each.state}{decided}")
        where = f"in {each.records} films" if each.is_frame else f"on {each.records} records of {each.origin}"
        say(f"   {where}, {as_text(each.found_ms)}: {each.evidence}")
        if each.aside:
            say(f"   set aside from {each.aside} records, e.g. {', '.join(each.references)}")


@repeats.command(cls=COMMAND)
@_NUMBER
@_REASON
@HOME
def keep(number: int, reason: str, home: Path) -> None:
    """Decide that hash NUMBER is a picture's: records that it was set aside from have it back, and imports to come keep it."""
    _decide(home, number, "keep", reason)


@repeats.command(cls=COMMAND)
@_NUMBER
@_REASON
@HOME
def refuse(number: int, reason: str, home: Path) -> None:
    """Decide that hash NUMBER is a tool's filler: it is set aside from every record with a digest, also of imports to come.

    A frame of films is set aside from every film, and what is near it too.

    `keep` undoes it.
    """
    _decide(home, number, "refuse", reason)


def _decide(home: Path, number: int, decision: str, reason: str) -> None:
    from vidfed.node.records import repeats as decisions
    from vidfed.node.records.known import open_store
    from vidfed.security.audit import Event, Operation
    from vidfed.security.clock import system_clock
    from vidfed.security.member.audit_log import logged
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    decide = decisions.keep if decision == "keep" else decisions.refuse
    with (
        logged(member_home, Operation.ALTERATION, Event.RECORDS_CHANGED, what=f"{decision} repeated hash {number}", reason=reason) as done,
        open_store(member_home) as store,
    ):
        done["records"] = changed = decide(store, number, reason, now_ms=system_clock())
    say(f"hash {number}: {'back on' if decision == 'keep' else 'set aside from'} {changed} records")
