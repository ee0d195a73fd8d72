"""`vidfed watch ...`: standing lookups. Thin: parse, call, print."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import HELP, JSON, kit_option, note, print_json, progress, reporting, say
from vidfed.federation.lookup.errors import FederationError
from vidfed.index.errors import HashError
from vidfed.security.errors import SecurityError
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import TypeVar

    from vidfed.federation.client.standing import Found, OwnWatch, StandingClient

    Value = TypeVar("Value")

COMMAND = reporting(FederationError, SecurityError, HashError, WireError)
LIST_SCHEMA = "vidfed.watches/1"
FOUND_SCHEMA = "vidfed.watch-hits/1"
WATCH_SCHEMA = "vidfed.watch/1"
_KIT = kit_option("--kit", what="Your kit.")
_PURPOSES = ("identification", "investigation", "prosecution")
_SHORT = 12  # hex digits of an id


@click.group(context_settings=HELP)
def watch() -> None:
    """Be told when somebody learns what nobody knows yet.

    You sign once for what is asked, why and until when; your gateway asks every few hours. What you watch stays in your own country:
    nodes keep neither hashes nor case. WATCH is the beginning of its id.

    \b
      vidfed watch add unseen/ --case NL-1 --purpose identification --legal-basis "Police Data Act" --days 20
      vidfed watch list
      vidfed watch hits
      vidfed watch renew 3f9a01 --days 20
      vidfed watch stop --case NL-1
    """  # noqa: D301 - click wants the character itself


@watch.command(cls=COMMAND)
@click.argument("pictures", nargs=-1, type=click.Path(path_type=Path))
@click.option("--hash", "hashes", multiple=True, metavar="ALGORITHM:VALUE", help="A bare hash; may be repeated.")
@click.option("--case", "case_reference", required=True, help="Reference of your case; every node logs that it was asked for it.")
@click.option("--purpose", type=click.Choice(_PURPOSES), required=True, help="Why you ask.")
@click.option("--legal-basis", required=True, help="The law you ask under.")
@click.option("--offence", default="child-sexual-abuse", show_default=True, help="Type of offence.")
@click.option("--days", default=14.0, show_default=True, type=click.FloatRange(0.1, 366), help="For how long; at most as your kit lives.")
@click.option("--every-minutes", default=360.0, show_default=True, type=click.FloatRange(0, min_open=True), help="How often it is asked.")
@click.option("--ask", "ask", multiple=True, metavar="MEMBER", help="Ask only this member; may be repeated. Default: all.")
@_KIT
@JSON
def add(
    pictures: tuple[Path, ...],
    hashes: tuple[str, ...],
    case_reference: str,
    purpose: str,
    legal_basis: str,
    offence: str,
    days: float,
    every_minutes: float,
    ask: tuple[str, ...],
    kit: Path,
    as_json: bool,
) -> None:
    """Watch PICTURES (files or folders) or hashes."""
    from vidfed.federation.client.standing import purpose_of
    from vidfed.federation.lookup.items import items_of_hashes, items_of_pictures
    from vidfed.federation.lookup.question import Justification

    failures: dict[str, str] = {}
    items = items_of_hashes(hashes)
    with progress() as bar:
        task = bar.add_task("hashing", total=None, visible=bool(pictures))
        items += items_of_pictures(
            pictures, failures=failures, on_progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    for file, reason in failures.items():
        note(f"{file}: {reason}")
    if not items:
        raise click.UsageError("name a picture, a folder, or a --hash")
    justification = Justification(purpose_of(purpose), legal_basis, case_reference, offence)

    async def go(client: StandingClient) -> str:
        return await client.watch(items, justification, days=days, every_minutes=every_minutes, ask=ask)

    identity = _run(kit, go)
    words = f"Watching {len(items)} items for {days:g} days: {identity[:_SHORT]}. `vidfed watch list` says who has answered."
    _tell(words, began=identity, as_json=as_json)


@watch.command("list", cls=COMMAND)
@_KIT
@JSON
def list_watches(kit: Path, as_json: bool) -> None:
    """List what you watch, until when it is watched by whom, and who has not answered."""
    found = _run(kit, lambda client: client.watches())
    if as_json:
        print_json({"schema": LIST_SCHEMA, "watches": [_fields(own) for own in found]})
        return
    for own in found:
        for line in _lines(own):
            say(line)
    if not found:
        note("You watch nothing.")


@watch.command(cls=COMMAND)
@_KIT
@JSON
def hits(kit: Path, as_json: bool) -> None:
    """Show what was found of all that you watch, verified here again."""
    from vidfed.federation.output.table import superseded
    from vidfed.security.clock import as_text

    found = _run(kit, lambda client: client.found())
    if as_json:
        print_json({"schema": FOUND_SCHEMA, "found": [_found_fields(each) for each in found]})
        return
    for each in found:
        record = each.hit.record
        weak = "  weak: says nothing by itself" if each.hit.weak else ""
        said = f"victim identified: {record.victim_identified.code}  {record.case_contact}"
        say(f"{as_text(each.found_ms)}  {each.hit.member} {record.reference}  {each.label}  {each.hit.words}  {said}{weak}")
        if each.hit.news is not None:
            say(f"    {superseded(each.hit.news).plain}")
        elif not each.hit.weak:
            say(f"    details: vidfed cases ask {record.reference} --want victim-identity --deputy COLLEAGUE")
    if not found:
        note("Nothing was found yet.")


@watch.command(cls=COMMAND)
@click.argument("named", metavar="WATCH")
@click.option("--days", default=14.0, show_default=True, type=click.FloatRange(0.1, 366), help="For how long from now.")
@_KIT
@JSON
def renew(named: str, days: float, kit: Path, as_json: bool) -> None:
    """Watch the same for longer, by a new mandate that names all who are members now; the old one ends."""

    async def go(client: StandingClient) -> tuple[str, str]:
        ended = await client.identify(named)
        return await client.renew(ended, days=days), ended

    identity, ended = _run(kit, go)
    _tell(f"Watching on for {days:g} days: {identity[:_SHORT]}.", began=identity, ended=[ended], as_json=as_json)


@watch.command(cls=COMMAND)
@click.argument("named", metavar="[WATCH]", required=False)
@click.option("--case", "case_reference", help="All watches of this case.")
@_KIT
@JSON
def stop(named: str | None, case_reference: str | None, kit: Path, as_json: bool) -> None:
    """End a watch, or all of a case: here at once, at every node as soon as it is reached."""
    if (named is None) == (case_reference is None):
        raise click.UsageError("name a watch, or a --case")

    async def go(client: StandingClient) -> list[str]:
        if case_reference is not None:
            return await client.stop_case(case_reference)
        assert named is not None  # noqa: S101 - one of the two is
        return [await client.stop(named)]

    ended = _run(kit, go)
    _tell(f"{len(ended)} stopped.", ended=ended, as_json=as_json)


def _run(kit: Path, use: Callable[[StandingClient], Awaitable[Value]]) -> Value:
    from vidfed.federation.cli.kits import open_kit
    from vidfed.federation.client.standing import StandingClient

    async def go() -> Value:
        async with StandingClient(open_kit(kit)) as client:
            return await use(client)

    return asyncio.run(go())


def _tell(words: str, *, began: str | None = None, ended: Sequence[str] = (), as_json: bool) -> None:
    if as_json:
        print_json({"schema": WATCH_SCHEMA, "began": began, "ended": list(ended)})
    else:
        say(words)


def _lines(own: OwnWatch) -> list[str]:
    from vidfed.security.clock import as_text

    if own.ended_ms is not None:
        return [f"{own.id[:_SHORT]}  {own.case_reference}  stopped {as_text(own.ended_ms)}"]
    times = [each.until_ms for each in own.members if each.until_ms is not None and not each.trouble]
    until = f"watched until {as_text(min(times))} by {own.text}" if times else f"not answered yet by any of {len(own.members)}"
    lines = [f"{own.id[:_SHORT]}  {own.case_reference}  {len(own.labels)} items, ends {as_text(own.ends_ms)}  {until}"]
    for each in own.members:
        if each.trouble or each.until_ms is None:
            since = f"since {as_text(each.until_ms)}" if each.until_ms is not None else "at all"
            lines.append(f"    {each.member}: not answered {since}" + (f": {each.trouble}" if each.trouble else ""))
    if own.not_asked:
        lines.append(f"    not asked, by your mandate: {', '.join(own.not_asked)} (vidfed watch renew {own.id[:_SHORT]})")
    return lines


def _fields(own: OwnWatch) -> dict[str, object]:
    members = [{"member": each.member, "watched_until_ms": each.until_ms, "trouble": each.trouble} for each in own.members]
    return {
        "watch": own.id,
        "case": own.case_reference,
        "items": list(own.labels),
        "ends_ms": own.ends_ms,
        "ended_ms": own.ended_ms,
        "members": members,
        "not_asked": list(own.not_asked),
    }


def _found_fields(found: Found) -> dict[str, object]:
    from vidfed.federation.output.json import hit_fields

    return {"watch": found.watch, "label": found.label, "found_ms": found.found_ms, "hit": hit_fields(found.hit)}
