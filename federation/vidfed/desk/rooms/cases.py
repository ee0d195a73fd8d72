"""Cases, Inbox and Requests: what follows a hit, on both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from vidfed.casework.core.clocks import clocks_of
from vidfed.casework.core.rules import decides
from vidfed.casework.core.state import state_of
from vidfed.casework.news.book import NewsBook
from vidfed.casework.reading import pressing, waits_for
from vidfed.casework.writing import hit_of
from vidfed.desk.shell.errors import FormError
from vidfed.desk.shell.forms import Form
from vidfed.desk.shell.pages import go_to, page
from vidfed.desk.work.writing import CHOICES, ask_of, entry_of
from vidfed.federation.client.closing import end_watches_of
from vidfed.federation.client.told import find_hit
from vidfed.federation.lookup.errors import FederationError
from vidfed.federation.output.cases import clear_fields, conversation_fields, entry_fields
from vidfed.security.clock import system_clock
from vidfed.security.errors import SecurityError
from vidfed.security.identity.officers import OFFICER_ROLE
from vidfed.wire.casework_values import Close, Content, Side

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from vidfed.casework.client import CaseworkClient, Read
    from vidfed.casework.reading import View
    from vidfed.desk.desk import Desk

ROWS = 200


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


async def _list(request: Request, room: str, keep: Callable[[CaseworkClient, View], bool], **values: Any) -> Response:  # noqa: ANN401
    client, now_ms = await _desk(request).casework(), system_clock()
    views = await client.conversations()
    lost = [problem for view in views.values() if not view.conversation.asker for problem in view.problems]
    found = [(identity, view) for identity, view in views.items() if view.conversation.asker and keep(client, view)]
    found.sort(key=lambda pair: pressing(pair[1], now_ms))
    rows = [_row(client, identity, view, now_ms) for identity, view in found[:ROWS]]
    return page(request, "conversations.html", current=room, rows=rows, lost=lost, more=max(0, len(found) - ROWS), **values)


def _row(client: CaseworkClient, identity: bytes, view: View, now_ms: int) -> dict[str, Any]:
    return conversation_fields(identity, view, now_ms) | {"ours": hit_of(view.conversation).owner == client.person.member, "now": now_ms}


async def list_cases(request: Request) -> Response:
    """Show this person's cases."""
    return await _list(request, "cases", lambda client, view: hit_of(view.conversation).asker == client.person.member)


async def list_inbox(request: Request) -> Response:
    """Show what waits for this person, and what became of records that were told."""
    desk = _desk(request)
    await (await desk.casework()).news()
    news = [each.text for each in NewsBook(desk.kit.folder).all().values()]
    return await _list(request, "inbox", lambda client, view: waits_for(view, client.person.member), news=news)


async def list_requests(request: Request) -> Response:
    """Show what is asked of this unit."""
    everything = "all" in request.query_params

    def keep(client: CaseworkClient, view: View) -> bool:
        ours = hit_of(view.conversation).owner == client.person.member
        return ours and (everything or state_of(view.conversation).phase.open or bool(view.drafts or view.problems))

    return await _list(request, "requests", keep, everything=everything)


async def begin_page(request: Request) -> Response:
    """Show the form with which details about a hit are asked for."""
    desk = _desk(request)
    reference, member = request.query_params.get("reference", ""), request.query_params.get("member") or None
    hit = find_hit(desk.kit, reference, member)
    client = await desk.casework()
    colleagues = [each.reader.pseudonym for each in await client.readers(client.person.member)]
    colleagues = [each for each in colleagues if each != client.person.pseudonym]
    officers = [each.reader.pseudonym for each in await client.readers(hit.member) if each.officer]
    contact = client.directory.member(hit.member).contact
    values: dict[str, Any] = {"hit": hit, "reference": reference, "colleagues": colleagues, "officers": officers, "contact": contact}
    return page(request, "begin.html", choices=CHOICES, **values)


async def begin(request: Request) -> Response:
    """Ask for details."""
    desk, form = _desk(request), await Form.of(request)
    reference = form.text("reference")
    hit = find_hit(desk.kit, reference, form.text("member") or None)
    written = ask_of(form, hit.basis)
    deputy = form.text("deputy", needed="Name a deputy: a colleague who can go on with the case without you.")
    client = await desk.casework()
    subject = (hit.lookup_digest, hit.answer_digest, reference)
    identity = await client.begin(hit.member, subject, deputy, written.body, written.content)
    return go_to(request, f"/conversations/{identity.hex()}")


async def show(request: Request) -> Response:
    """Show one conversation, with what can be done in it."""
    desk = _desk(request)
    client = await desk.casework()
    identity, view = await client.find(request.path_params["conversation"])
    return page(request, "conversation.html", **await _conversation(client, identity, view))


async def _conversation(client: CaseworkClient, identity: bytes, view: View) -> dict[str, Any]:
    now_ms = system_clock()
    fields = _row(client, identity, view, now_ms)
    entries = [_entry(read, view) for read in client.read(view)]
    drafts = [_entry(client.open_draft(draft), view) for draft in view.drafts]
    colleagues = await client.readers(client.person.member)
    others = [each for each in colleagues if each.reader.pseudonym != client.person.pseudonym]
    return {
        "it": fields,
        "entries": entries,
        "drafts": drafts,
        "colleagues": [each.reader.pseudonym for each in others],
        "deputies": [each.reader.pseudonym for each in colleagues],
        "officers": [each.reader.pseudonym for each in others if each.officer],
        "decides": OFFICER_ROLE in client.roles,
        "running": bool(clocks_of(view.conversation, view.receipts, now_ms)),
        "seen": _seen(view),
        "withdrawable": state_of(view.conversation).phase.open,
        "moved": False,
        "choices": CHOICES,
        "current": "requests" if fields["ours"] else "cases",
    }


async def look_for_new(request: Request) -> Response:
    """Say whether something was said since a page was made."""
    client = await _desk(request).casework()
    identity, view = await client.find(request.path_params["conversation"])
    seen = request.query_params.get("seen", "")
    return page(request, "moved_on.html", moved=_seen(view) != seen, seen=_seen(view), it={"conversation": identity.hex()})


def _entry(read: Read, view: View) -> dict[str, Any]:
    return entry_fields(read, view) | {"said": clear_fields(read.entry.header.body)}


def _seen(view: View) -> str:
    """Return what a page was made from: who decides on it must have seen all of it."""
    return f"{len(view.conversation.asker)}.{len(view.conversation.owner)}"


async def preview(request: Request) -> Response:
    """Show what would be signed, and who could read it, before it is."""
    client, form = await _desk(request).casework(), await Form.of(request)
    _, view = await client.find(request.path_params["conversation"])
    written = entry_of(form, system_clock())
    state, hit = state_of(view.conversation), hit_of(view.conversation)
    readers = [reader.pseudonym for reader in (state.holder, state.deputy) if reader]
    values: dict[str, Any] = {"hit": hit, "state": state, "readers": readers, "written": written, "fields": form.fields()}
    return page(request, "preview.html", said=clear_fields(written.body), content=written.content, **values)


async def write(request: Request) -> Response:
    """Sign, seal and send an entry."""
    client, form = await _desk(request).casework(), await Form.of(request)
    identity, view = await client.find(request.path_params["conversation"])
    written = entry_of(form, system_clock())
    side = Side.OWNER if hit_of(view.conversation).owner == client.person.member else Side.ASKER
    if decides(side, written.body) and form.text("seen") != _seen(view):
        raise FormError("The conversation has moved on since this page was shown: look again, then decide.")
    await client.say(view, written.body, written.content, written.cosigner)
    if isinstance(written.body, Close) and side is Side.ASKER:
        try:
            await end_watches_of(_desk(request).kit, client, view)
        except (FederationError, SecurityError):
            raise FormError("It is closed. What is watched for its case could not be ended: stop it in Watched.") from None
    return go_to(request, f"/conversations/{identity.hex()}")


async def sign(request: Request) -> Response:
    """Sign a colleague's draft too."""
    client, form = await _desk(request).casework(), await Form.of(request)
    identity, view = await client.find(request.path_params["conversation"])
    draft = next((each for each in view.drafts if client.open_draft(each).entry.digest.hex() == form.text("draft")), None)
    if draft is None:
        raise FormError("This draft does not wait any more: look again.")
    await client.sign_draft(draft)
    return go_to(request, f"/conversations/{identity.hex()}")


async def hand_over(request: Request) -> Response:
    """Hand a case over to a colleague, with all that was said."""
    client, form = await _desk(request).casework(), await Form.of(request)
    _, view = await client.find(request.path_params["conversation"])
    holder = form.text("holder", needed="Choose who takes the case.")
    deputy = form.text("deputy", needed="Name a deputy: a colleague who can go on with the case without you.")
    if holder == deputy:
        raise FormError("Holder and deputy are two people.")
    await client.hand_over(view, holder, deputy, Content(text=form.text("text", needed="Write something.")))
    return go_to(request, "/cases")


ROUTES = [
    Route("/cases", list_cases),
    Route("/inbox", list_inbox),
    Route("/requests", list_requests),
    Route("/cases/ask", begin_page),
    Route("/cases/begin", begin, methods=["POST"]),
    Route("/conversations/{conversation}", show),
    Route("/conversations/{conversation}/new", look_for_new),
    Route("/conversations/{conversation}/preview", preview, methods=["POST"]),
    Route("/conversations/{conversation}/write", write, methods=["POST"]),
    Route("/conversations/{conversation}/sign", sign, methods=["POST"]),
    Route("/conversations/{conversation}/hand-over", hand_over, methods=["POST"]),
]
