"""What `vidfed cases`, `vidfed inbox` and `vidfed requests` share: the client, texts, and how a conversation is shown."""

from __future__ import annotations

import asyncio
import logging
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidfed.casework.errors import CaseworkError
from vidfed.cli.terminal import kit_option, note, print_json, reporting, say
from vidfed.federation.lookup.errors import FederationError
from vidfed.security.errors import SecurityError
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from typing import TypeVar

    from vidfed.casework.client import CaseworkClient
    from vidfed.casework.reading import View
    from vidfed.security.member.kit import Kit
    from vidfed.wire.casework_values import Body, Content
    from vidfed.wire.news import News

    Value = TypeVar("Value")

LIST_SCHEMA = "vidfed.cases/1"
SHOW_SCHEMA = "vidfed.case/1"
WRITTEN_SCHEMA = "vidfed.written/1"
_BESIDE_S = 5.0  # for looking into the inbox after a lookup
_log = logging.getLogger(__name__)
COMMAND = reporting(CaseworkError, FederationError, SecurityError, WireError)
KIT = kit_option("--kit", what="Your kit.")
FILE = click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Take the text from this file, `-` for standard input; without it you are asked. Never an argument: others see those.",
)


def run(kit: Path, use: Callable[[CaseworkClient], Awaitable[Value]]) -> Value:
    """Use a person's conversations."""
    from vidfed.casework.client import CaseworkClient
    from vidfed.federation.cli.kits import open_kit

    async def go() -> Value:
        async with CaseworkClient(open_kit(kit)) as client:
            return await use(client)

    return asyncio.run(go())


def take_news(kit: Path) -> list[News]:
    """Take in what became of records that the person was told; return what of it is new."""
    return run(kit, lambda client: client.news())


def news_lines(found: Sequence[News]) -> list[str]:
    """Return a line for each record that something became of."""
    from vidfed.security.clock import as_text

    return [
        f"NEWS {as_text(news.issued_ms)}: {news.issuer} {item.reference}: {', '.join(change.code for change in item.changes)}"
        + ("" if item.record else "; do not rely on what you were told")
        for news in found
        for item in news.items
    ]


def news_fields(found: Sequence[News]) -> list[dict[str, object]]:
    """Return the same as JSON."""
    return [
        {
            "issued_ms": news.issued_ms,
            "member": news.issuer,
            "reference": item.reference,
            "changes": [change.code for change in item.changes],
            "to_be_relied_on": item.record is not None,
        }
        for news in found
        for item in news.items
    ]


def tell_written(
    identity: bytes,
    body: Body | type[Body],
    words: str,
    *,
    as_json: bool,
    waits: bool = False,
    readable: int | None = None,
    watches_ended: Sequence[str] = (),
) -> None:
    """Say that an entry was written.

    Args:
        identity: the conversation's id, 32 bytes.
        body: what was written.
        words: the same for people.
        as_json: for scripts.
        waits: for a second officer's signature.
        readable: after a case was handed over, how many entries the new holder can read.
        watches_ended: ids of standing lookups that ended with it.
    """
    if as_json:
        written = {"conversation": identity.hex(), "kind": body.kind, "waits_for_second_officer": waits, "readable": readable}
        print_json({"schema": WRITTEN_SCHEMA, **written, "watches_ended": list(watches_ended)})
    else:
        say(words)


def after_a_lookup(kit: Kit) -> int:
    """Take news in, so that results are shown with it; return how many conversations wait. That this fails stops no lookup."""
    from vidfed.casework.client import CaseworkClient
    from vidfed.casework.reading import waits_for

    async def look() -> int:
        async with asyncio.timeout(_BESIDE_S), CaseworkClient(kit) as client:
            await client.news()
            return sum(waits_for(view, client.person.member) for view in (await client.conversations()).values())

    try:
        return asyncio.run(look())
    except (CaseworkError, SecurityError, WireError, OSError, TimeoutError) as error:
        _log.info("messages and news could not be looked for: %s", error)
        return 0


def read_text(file: Path | None, what: str) -> str:
    """Return a text from a file, standard input, or the person at the terminal."""
    if file is None:
        return str(click.prompt(what, err=True)) if sys.stdin.isatty() else sys.stdin.read().strip()
    return (sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")).strip()


def read_details(file: Path | None) -> Content:
    """Return what a release gives, from a TOML file or standard input."""
    from vidfed.wire.casework_values import Content, PersonDetails

    raw = sys.stdin.read() if file is None or str(file) == "-" else file.read_text(encoding="utf-8")
    try:
        fields = tomllib.loads(raw)
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"the details are not TOML: {error}; `vidfed requests template` writes an example") from None
    people = {name: fields.pop(name) for name in ("victim", "offender") if name in fields}
    known = set(Content.__dataclass_fields__) - {"victim", "offender"}
    if unknown := sorted(fields.keys() - known):
        raise click.UsageError(f"the details have no field {unknown[0]!r}; known are {', '.join(sorted(known))}, victim, offender")
    if not all(isinstance(value, str) for value in fields.values()):
        raise click.UsageError("each of the details is a text in quotes")
    content = Content(**fields)
    for name, person in people.items():
        if not isinstance(person, dict) or person.keys() - set(PersonDetails.__dataclass_fields__):
            raise click.UsageError(f"[{name}] has the fields names, born, nationality, sex")
        content = replace(content, **{name: PersonDetails(**{key: str(value) for key, value in person.items()})})  # type: ignore[arg-type]
    return content


def show(kit: Path, named: str, *, as_json: bool) -> None:
    """Print one conversation, whole."""
    from vidfed.federation.output.cases import conversation_fields, conversation_lines, entry_fields
    from vidfed.security.clock import system_clock

    async def look(client: CaseworkClient) -> None:
        identity, view = await client.find(named)
        entries, now_ms = client.read(view), system_clock()
        if as_json:
            fields = conversation_fields(identity, view, now_ms)
            print_json({"schema": SHOW_SCHEMA, **fields, "entries": [entry_fields(read, view) for read in entries]})
        else:
            for line in conversation_lines(identity, view, entries, now_ms):
                say(line)

    run(kit, look)


@click.command("open-for", cls=COMMAND)
@click.argument("conversation")
@click.argument("entry", metavar="MEMBER:NUMBER")
@click.option("--to", "overseer", required=True, help="Who it is opened to, for your unit's log.")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The file for the overseer.")
@KIT
def open_for(conversation: str, entry: str, overseer: str, out: Path, kit: Path) -> None:
    """Open one entry, as `show` numbers them (fr:2), to an overseer, who checks it against the signatures without a key. It is logged."""
    from vidfed.security.files import write_private

    member, _, number = entry.partition(":")
    if out.exists():
        raise click.UsageError(f"{out}: exists; nothing is overwritten")

    async def go(client: CaseworkClient) -> bytes:
        _, view = await client.find(conversation)
        both = (*view.conversation.asker, *view.conversation.owner)
        found = [each for each in both if (each.header.writer, str(each.header.number)) == (member, number)]
        if len(found) != 1:
            shown = ", ".join(f"{each.header.writer}:{each.header.number}" for each in both)
            raise click.UsageError(f"no entry {entry!r:.60}; there are {shown}")
        return (await client.open_for_oversight(view, found[0], overseer)).to_json()

    write_private(out, run(kit, go))
    say(f"Opened entry {entry} to {overseer} in {out}; your unit's log says so.")
    note("The file can be read by whoever has it: hand it over by a safe way, then delete it.")
    note(f"The overseer checks it without a key: vidfed audit opened {out.name} --anchor anchor.json")


def list_views(
    kit: Path,
    keep: Callable[[CaseworkClient, View], bool],
    *,
    as_json: bool,
    empty: str,
    schema: str = LIST_SCHEMA,
    beside: Mapping[str, object] | None = None,
) -> None:
    """Print conversations, a line each, or as a document of this schema with what stands beside them; the most pressing first."""
    from vidfed.casework.reading import pressing
    from vidfed.federation.output.cases import conversation_fields, conversation_line
    from vidfed.security.clock import system_clock

    now_ms = system_clock()

    async def look(client: CaseworkClient) -> tuple[list[tuple[bytes, View]], list[str]]:
        views = await client.conversations()
        lost = [problem for identity, view in views.items() if not view.conversation.asker for problem in view.problems]
        return [(identity, view) for identity, view in views.items() if view.conversation.asker and keep(client, view)], lost

    found, lost = run(kit, look)
    found.sort(key=lambda pair: pressing(pair[1], now_ms))
    if as_json:
        conversations = [conversation_fields(identity, view, now_ms) for identity, view in found]
        print_json({"schema": schema, "conversations": conversations, "problems": lost, **(beside or {})})
        return
    for identity, view in found:
        say(conversation_line(identity, view, now_ms))
    for problem in lost:
        note(f"PROBLEM: {problem}")
    if not found:
        note(empty)
