"""`vidfed requests`: what other members ask about own records, for officers. Thin: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import HELP, JSON, note, say
from vidfed.federation.cli.conversations import COMMAND, FILE, KIT, list_views, open_for, read_details, read_text, run, show, tell_written

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vidfed.casework.client import CaseworkClient
    from vidfed.casework.reading import View
    from vidfed.wire.casework_values import Body, Content

REQUESTS_SCHEMA = "vidfed.requests/1"
_GIVEN = ("victim-identity", "offender-identity", "case-state", "origin", "call")
_GROUNDS = ("member-state", "adequacy", "safeguards", "derogation")
_REASONS = (
    "law",
    "ongoing-investigation",
    "safety",
    "not-proportionate",
    "not-ours",
    "other-channel",
    "not-held",
    "third-party",
)
_TEMPLATE = """\
# What a release gives. Leave out what it does not. Everything here is sealed to those who asked, and to your officers.
text = "How the child was identified, in a few words."
legal_basis = "Police Data Act, art. 17"
conditions = "Not in court without permission."
contact = "duty desk, +33 1 00 00 00 00"
case_number = "FR-2026-17"
authority = "Office mineurs, Lyon"
taken = "2025-03-02, Lyon, production of abuse material"

[victim]
names = "..."
born = "2015-01-01"
nationality = "FR"
sex = "f"
"""
_WITH = click.option("--with", "cosigner", metavar="OFFICER", help="The second officer who is to sign too, where your unit wants two.")


@click.group(context_settings=HELP)
def requests() -> None:
    """Answer what other members ask about your records. A person decides; nothing is released by itself, or by a clock.

    CONVERSATION is the beginning of its id, or the record's reference.

    \b
      vidfed requests list
      vidfed requests show FR-3f9a01c2
      vidfed requests acknowledge FR-3f9a01c2
      vidfed requests release FR-3f9a01c2 --give victim-identity --ground member-state --handling h1 --file details.toml
    """  # noqa: D301 - click wants the character itself


@requests.command("list", cls=COMMAND)
@click.option("--all", "everything", is_flag=True, help="Also those that are answered or over.")
@KIT
@JSON
def list_requests(everything: bool, kit: Path, as_json: bool) -> None:
    """List what is asked of your unit, the most pressing first."""
    from vidfed.casework.core.state import state_of

    def keep(client: CaseworkClient, view: object) -> bool:
        conversation = view.conversation  # type: ignore[attr-defined]
        own = conversation.asker[0].header.owner == client.person.member
        return own and (everything or state_of(conversation).phase.open or bool(view.drafts or view.problems))  # type: ignore[attr-defined]

    list_views(kit, keep, as_json=as_json, empty="Nothing is asked of your unit.", schema=REQUESTS_SCHEMA)


@requests.command("show", cls=COMMAND)
@click.argument("conversation")
@KIT
@JSON
def show_request(conversation: str, kit: Path, as_json: bool) -> None:
    """Show one request: who asks, for what, on what basis, and all that was said."""
    show(kit, conversation, as_json=as_json)


@requests.command(cls=COMMAND)
@click.argument("conversation")
@FILE
@KIT
@JSON
def acknowledge(conversation: str, file: Path | None, kit: Path, as_json: bool) -> None:
    """Say that somebody has it, and whom to reach."""
    from vidfed.wire.casework_values import Acknowledge, Content

    _decide(kit, conversation, Acknowledge(), Content(contact=read_text(file, "Whom to reach")), as_json=as_json)


@requests.command(cls=COMMAND)
def template() -> None:
    """Write an example of the file that `release` takes."""
    for line in _TEMPLATE.splitlines():
        say(line)


@requests.command(cls=COMMAND)
@click.argument("conversation")
@click.option("--give", "given", multiple=True, required=True, type=click.Choice(_GIVEN), help="What is given; may be repeated.")
@click.option("--more-follows", is_flag=True, help="The rest is still to come: the clock runs on.")
@click.option("--handling", type=click.Choice(("h0", "h1", "h2", "h3")), required=True, help="Europol handling code.")
@click.option("--ground", type=click.Choice(_GROUNDS), required=True, help="On what ground the data may go to the asker.")
@_WITH
@click.option("--yes", is_flag=True, help="Do not ask again before signing.")
@FILE
@KIT
@JSON
def release(
    conversation: str,
    given: Sequence[str],
    more_follows: bool,
    handling: str,
    ground: str,
    cosigner: str | None,
    yes: bool,
    file: Path | None,
    kit: Path,
    as_json: bool,
) -> None:
    """Give details, from a TOML file: see `vidfed requests template`."""
    from vidfed.wire.casework_values import Detail, Release, TransferGround
    from vidfed.wire.values import HandlingCode

    details = tuple(sorted({Detail[name.replace("-", "_").upper()] for name in given}, key=lambda detail: detail.value))
    body = Release(details, more_follows, HandlingCode[handling.upper()], TransferGround[ground.replace("-", "_").upper()])
    content = read_details(file)

    async def go(client: CaseworkClient) -> tuple[bytes, bool]:
        from vidfed.casework.core.state import state_of
        from vidfed.casework.writing import hit_of

        identity, view = await client.find(conversation)
        state, hit = state_of(view.conversation), hit_of(view.conversation)
        basis = (
            "CONFIRMED BY NOBODY: hash distance only"
            if state.basis and not state.basis.confirmed
            else state.basis.code
            if state.basis
            else "?"
        )
        readers = ", ".join(reader.pseudonym for reader in (state.holder, state.deputy) if reader)
        note(f"To {hit.asker} ({readers}), about {hit.subject.reference}: {', '.join(given)}. Basis: {basis}.")
        if not yes:
            click.confirm("Sign and release?", abort=True, err=True)
        return identity, await client.say(view, body, content, cosigner)

    _tell(*run(kit, go), body, as_json=as_json)


@requests.command(cls=COMMAND)
@click.argument("conversation")
@click.option("--reason", required=True, type=click.Choice(_REASONS), help="Why.")
@_WITH
@FILE
@KIT
@JSON
def refuse(conversation: str, reason: str, cosigner: str | None, file: Path | None, kit: Path, as_json: bool) -> None:
    """Refuse, with a reason and a text."""
    from vidfed.wire.casework_values import Content, RefusalReason, Refuse

    body = Refuse(RefusalReason[reason.replace("-", "_").upper()])
    _decide(kit, conversation, body, Content(text=read_text(file, "Why, for the asker")), cosigner, as_json=as_json)


@requests.command(cls=COMMAND)
@click.argument("conversation")
@click.option("--for", "reason", required=True, type=click.Choice(("judicial-authorisation", "third-party")), help="For what.")
@click.option("--days", required=True, type=click.IntRange(1, 30), help="For how long at the most. It can be renewed.")
@_WITH
@FILE
@KIT
@JSON
def wait(conversation: str, reason: str, days: int, cosigner: str | None, file: Path | None, kit: Path, as_json: bool) -> None:
    """Stop the clock, because somebody else must agree first."""
    from vidfed.security.clock import DAY_MS, MINUTE_MS, system_clock
    from vidfed.wire.casework_values import Content, Wait, WaitReason

    until_ms = system_clock() + days * DAY_MS - MINUTE_MS  # the longest is counted from the moment of signing
    body = Wait(WaitReason[reason.replace("-", "_").upper()], until_ms)
    _decide(kit, conversation, body, Content(text=read_text(file, "For the asker")), cosigner, as_json=as_json)


@requests.command("not-the-same", cls=COMMAND)
@click.argument("conversation")
@FILE
@KIT
@JSON
def not_the_same(conversation: str, file: Path | None, kit: Path, as_json: bool) -> None:
    """Say that it is a false match."""
    from vidfed.wire.casework_values import Content, NotTheSame

    _decide(kit, conversation, NotTheSame(), Content(text=read_text(file, "What you saw")), as_json=as_json)


@requests.command(cls=COMMAND)
@click.argument("conversation")
@click.option("--release", "number", required=True, type=int, help="The number of the release, as `show` names it.")
@click.option("--because", "correction", required=True, type=click.Choice(("wrong", "no-longer-to-be-used")), help="What is the matter.")
@_WITH
@FILE
@KIT
@JSON
def correct(conversation: str, number: int, correction: str, cosigner: str | None, file: Path | None, kit: Path, as_json: bool) -> None:
    """Say that what was released was wrong, or may no longer be used."""
    from vidfed.wire.casework_values import Content, Correct, Correction

    body = Correct(number, Correction[correction.replace("-", "_").upper()])
    _decide(kit, conversation, body, Content(text=read_text(file, "What is right")), cosigner, as_json=as_json)


@requests.command(cls=COMMAND)
@click.argument("conversation")
@FILE
@KIT
@JSON
def message(conversation: str, file: Path | None, kit: Path, as_json: bool) -> None:
    """Write a message."""
    from vidfed.wire.casework_values import Content, Note

    _decide(kit, conversation, Note(), Content(text=read_text(file, "Message")), as_json=as_json)


@requests.command(cls=COMMAND)
@click.argument("conversation")
@click.option("--yes", is_flag=True, help="Do not ask again before signing.")
@KIT
@JSON
def sign(conversation: str, yes: bool, kit: Path, as_json: bool) -> None:
    """Read a colleague's draft in which you are named, and sign it too."""
    from vidfed.federation.output.cases import draft_lines
    from vidfed.wire import envelope as wire_envelope
    from vidfed.wire.casework import read_entry

    async def go(client: CaseworkClient) -> tuple[bytes, bool, Body]:
        identity, view = await client.find(conversation)
        if not view.drafts:
            raise click.UsageError("no draft waits in this conversation")
        draft = view.drafts[-1]
        for line in draft_lines(client.open_draft(draft)):
            note(line)
        if not yes:
            click.confirm("Sign it too?", abort=True, err=True)
        body = read_entry(wire_envelope.from_message(draft.entry).payload).body
        return identity, await client.sign_draft(draft), body

    _tell(*run(kit, go), as_json=as_json)


@requests.command("hand-on", cls=COMMAND)
@click.argument("officer")
@click.argument("conversations", nargs=-1)
@KIT
def hand_on(officer: str, conversations: tuple[str, ...], kit: Path) -> None:
    """Let OFFICER, a colleague who is new or has a new kit, read what was said before: in CONVERSATIONS, or in all there are."""

    async def go(client: CaseworkClient) -> tuple[int, int]:
        every = [view for identity, view in (await client.conversations()).items() if identity and is_asked(client, view)]
        views = [(await client.find(named))[1] for named in conversations] if conversations else every
        return sum([await client.hand_on(view, officer) for view in views]), len(views)

    entries, count = run(kit, go)
    say(f"{officer} can read {entries} entries of {count} conversations.")


requests.add_command(open_for)


def is_asked(client: CaseworkClient, view: View) -> bool:
    """Tell whether a conversation is about a record of the person's own member."""
    asker = view.conversation.asker
    return bool(asker) and asker[0].header.owner == client.person.member


def _decide(kit: Path, conversation: str, body: Body, content: Content, cosigner: str | None = None, *, as_json: bool) -> None:
    async def go(client: CaseworkClient) -> tuple[bytes, bool]:
        identity, view = await client.find(conversation)
        return identity, await client.say(view, body, content, cosigner)

    _tell(*run(kit, go), body, as_json=as_json)


def _tell(identity: bytes, waits: bool, body: Body, *, as_json: bool) -> None:
    words = "Signed, sealed and on its way."
    if waits:
        words = "Signed; it goes out when the second officer has signed too: `vidfed requests sign`."
    tell_written(identity, body, words, as_json=as_json, waits=waits)
