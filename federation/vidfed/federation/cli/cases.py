"""`vidfed cases` and `vidfed inbox`: what follows a hit, for those who asked. Thin: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import HELP, JSON, note, say
from vidfed.federation.cli.conversations import (
    COMMAND,
    FILE,
    KIT,
    list_views,
    news_fields,
    news_lines,
    open_for,
    read_text,
    run,
    show,
    take_news,
    tell_written,
)
from vidfed.federation.lookup.errors import FederationError
from vidfed.security.errors import SecurityError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vidfed.casework.client import CaseworkClient
    from vidfed.wire.casework_values import Body, Content

INBOX_SCHEMA = "vidfed.inbox/1"
_WANTED = ("victim-identity", "offender-identity", "case-state", "origin", "call")
_URGENCIES = ("routine", "urgent", "life-at-risk")
_BASES = ("same-digest", "compared", "hash-distance-only")
_DISPOSITIONS = ("victim-identified", "safeguarded", "useful", "known-already", "no-use")


@click.group(context_settings=HELP)
def cases() -> None:
    """Ask for details about a hit, read what comes, and end it.

    Everything you write is sealed on this machine to your deputy and to the officers of the member that is asked; no server can read it. A
    person there decides. CONVERSATION is the beginning of its id, or the record's reference.

    \b
      vidfed cases ask FR-3f9a01c2 --want victim-identity --deputy nl-8
      vidfed cases list
      vidfed cases show FR-3f9a01c2
      vidfed cases close FR-3f9a01c2 --disposition victim-identified
    """  # noqa: D301 - click wants the character itself


@cases.command("list", cls=COMMAND)
@KIT
@JSON
def list_cases(kit: Path, as_json: bool) -> None:
    """List your conversations, the most pressing first."""
    list_views(
        kit, lambda client, view: view.conversation.asker[0].header.asker == client.person.member, as_json=as_json, empty="No cases."
    )


@cases.command("show", cls=COMMAND)
@click.argument("conversation")
@KIT
@JSON
def show_case(conversation: str, kit: Path, as_json: bool) -> None:
    """Show one conversation, opened with your key and proven."""
    show(kit, conversation, as_json=as_json)


@cases.command(cls=COMMAND)
@click.argument("reference")
@click.option("--member", help="Whose record it is, where two members told you of the same reference.")
@click.option("--want", "wanted", multiple=True, required=True, type=click.Choice(_WANTED), help="What you ask for; may be repeated.")
@click.option("--urgency", type=click.Choice(_URGENCIES), default="routine", show_default=True, help="48 h, 8 h, now.")
@click.option("--basis", type=click.Choice(_BASES), help="On what it rests that it is the same picture. Default: what the answer says.")
@click.option("--comparison", default="", help="With --basis compared: where the comparison is recorded.")
@click.option("--deputy", required=True, help="The colleague who can go on with the case without you.")
@click.option("--offence", default="", help="The offence you investigate, as the officer must weigh it.")
@FILE
@KIT
@JSON
def ask(
    reference: str,
    member: str | None,
    wanted: Sequence[str],
    urgency: str,
    basis: str | None,
    comparison: str,
    deputy: str,
    offence: str,
    file: Path | None,
    kit: Path,
    as_json: bool,
) -> None:
    """Ask the owner of the record REFERENCE, which a lookup of yours found, for details."""
    from vidfed.federation.cli.kits import open_kit
    from vidfed.federation.client.told import find_hit
    from vidfed.wire.casework_values import Ask, AskUrgency, Basis, Content, Detail

    hit = find_hit(open_kit(kit), reference, member)
    rests = Basis[(basis or hit.basis).replace("-", "_").upper()]
    if rests is Basis.SAME_DIGEST and hit.basis != "same-digest":
        raise click.UsageError("no digest agreed in the answer: it is a near copy; compare the pictures, or say hash-distance-only")
    if rests is Basis.COMPARED and not comparison:
        raise click.UsageError("--basis compared needs --comparison: where it is recorded")
    if not rests.confirmed:
        note("Not confirmed: nobody has compared the pictures. The officer is told so.")
    details = tuple(sorted({Detail[name.replace("-", "_").upper()] for name in wanted}, key=lambda detail: detail.value))
    body = Ask(details, AskUrgency[urgency.replace("-", "_").upper()], rests)
    content = Content(text=read_text(file, "Facts for the officer"), offence=offence, comparison=comparison)

    async def go(client: CaseworkClient) -> bytes:
        return await client.begin(hit.member, (hit.lookup_digest, hit.answer_digest, reference), deputy, body, content)

    identity = run(kit, go)
    words = f"Asked. Conversation {identity.hex()[:12]}; an officer of {hit.member} decides. `vidfed inbox` shows what comes."
    tell_written(identity, body, words, as_json=as_json)


@cases.command(cls=COMMAND)
@click.argument("conversation")
@FILE
@KIT
@JSON
def message(conversation: str, file: Path | None, kit: Path, as_json: bool) -> None:
    """Write a message."""
    from vidfed.wire.casework_values import Content, Note

    _say(kit, conversation, Note(), Content(text=read_text(file, "Message")), as_json=as_json)


@cases.command(cls=COMMAND)
@click.argument("conversation")
@FILE
@KIT
@JSON
def withdraw(conversation: str, file: Path | None, kit: Path, as_json: bool) -> None:
    """Say that you do not need it any more."""
    from vidfed.wire.casework_values import Content, Withdraw

    _say(kit, conversation, Withdraw(), Content(text=read_text(file, "Why")), as_json=as_json)


@cases.command(cls=COMMAND)
@click.argument("conversation")
@click.option("--disposition", required=True, type=click.Choice(_DISPOSITIONS), help="What came of it.")
@click.option("--keep-watches", is_flag=True, help="What is watched for its case goes on.")
@FILE
@KIT
@JSON
def close(conversation: str, disposition: str, keep_watches: bool, file: Path | None, kit: Path, as_json: bool) -> None:
    """End a conversation and say what came of it. Contents are deleted after both members' retention times.

    With the last conversation of a case its standing lookups end too, at every node.
    """
    from vidfed.federation.cli.kits import open_kit
    from vidfed.federation.client.closing import EndedWatches, end_watches_of
    from vidfed.wire.casework_values import Close, Content, Disposition

    body = Close(Disposition[disposition.replace("-", "_").upper()])
    content = Content(text=read_text(file, "For the record"))

    async def go(client: CaseworkClient) -> tuple[bytes, EndedWatches]:
        identity, view = await client.find(conversation)
        await client.say(view, body, content)
        if keep_watches:
            return identity, EndedWatches("")
        try:
            return identity, await end_watches_of(open_kit(kit), client, view)
        except (FederationError, SecurityError) as error:
            raise click.ClickException(
                f"it is closed, but what is watched for its case is not ended: {error}; vidfed watch stop --case"
            ) from None

    identity, ended = run(kit, go)
    words = ["Signed, sealed and on its way."]
    if ended.watches:
        words.append(f"{len(ended.watches)} standing lookups of case {ended.case_reference} have ended.")
    if ended.still_open:
        words.append(f"What is watched for case {ended.case_reference} goes on: {ended.still_open} of its conversations are open.")
    tell_written(identity, body, " ".join(words), as_json=as_json, watches_ended=ended.watches)


@cases.command("not-the-same", cls=COMMAND)
@click.argument("conversation")
@FILE
@KIT
@JSON
def not_the_same(conversation: str, file: Path | None, kit: Path, as_json: bool) -> None:
    """Say that it is a false match. It is labelled at both ends for 180 days, never hidden."""
    from vidfed.wire.casework_values import Content, NotTheSame

    _say(kit, conversation, NotTheSame(), Content(text=read_text(file, "What you saw")), as_json=as_json)


@cases.command("record-wrong", cls=COMMAND)
@click.argument("conversation")
@FILE
@KIT
@JSON
def record_wrong(conversation: str, file: Path | None, kit: Path, as_json: bool) -> None:
    """Tell the owner that its record is wrong."""
    from vidfed.wire.casework_values import Content, RecordWrong

    _say(kit, conversation, RecordWrong(), Content(text=read_text(file, "What is wrong")), as_json=as_json)


@cases.command("hand-over", cls=COMMAND)
@click.argument("conversation")
@click.argument("holder")
@click.option("--deputy", required=True, help="The new deputy.")
@FILE
@KIT
@JSON
def hand_over(conversation: str, holder: str, deputy: str, file: Path | None, kit: Path, as_json: bool) -> None:
    """Hand a case over to the colleague HOLDER, with all that was said in it."""
    from vidfed.wire.casework_values import Content, HandOver

    text = read_text(file, "For the colleague")

    async def go(client: CaseworkClient) -> tuple[bytes, int]:
        identity, view = await client.find(conversation)
        return identity, await client.hand_over(view, holder, deputy, Content(text=text))

    identity, count = run(kit, go)
    tell_written(identity, HandOver, f"Handed over; {holder} can read {count} entries.", as_json=as_json, readable=count)


cases.add_command(open_for)


@click.command(cls=COMMAND, context_settings=HELP)
@KIT
@JSON
def inbox(kit: Path, as_json: bool) -> None:
    """Show which of your conversations wait for you, and what became of records that you were told.

    It also makes known, once, to which key what is written to you is sealed. The private key stays on this machine.
    """
    from vidfed.casework.reading import waits_for

    found = take_news(kit)
    if not as_json:
        for line in news_lines(found):
            say(line)
    list_views(
        kit,
        lambda client, view: waits_for(view, client.person.member),
        as_json=as_json,
        empty="Nothing waits for you.",
        schema=INBOX_SCHEMA,
        beside={"news": news_fields(found)},
    )


def _say(kit: Path, conversation: str, body: Body, content: Content, *, as_json: bool) -> None:
    async def go(client: CaseworkClient) -> bytes:
        identity, view = await client.find(conversation)
        await client.say(view, body, content)
        return identity

    tell_written(run(kit, go), body, "Signed, sealed and on its way.", as_json=as_json)
