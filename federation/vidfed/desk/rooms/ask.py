"""Ask: what is to be asked and why, and the answers as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from vidfed.cli.printable import printable
from vidfed.desk.shell.errors import FormError
from vidfed.desk.shell.forms import Form
from vidfed.desk.shell.pages import go_to, page
from vidfed.desk.shell.preferences import Reasons
from vidfed.desk.shell.uploads import file_name
from vidfed.desk.work.asking import Draft
from vidfed.federation.client.client import DEFAULT_DEADLINE_S
from vidfed.federation.lookup.items import parse_distances
from vidfed.federation.lookup.question import Justification
from vidfed.federation.output.json import to_document
from vidfed.security.errors import SecurityError
from vidfed.wire.values import Purpose, Urgency

if TYPE_CHECKING:
    from starlette.requests import Request

    from vidfed.desk.desk import Desk
    from vidfed.desk.work.asking import Lookup

PURPOSES = {purpose.code: purpose for purpose in Purpose if purpose.code in {"identification", "investigation", "prosecution"}}
MAX_DEADLINE_S = 600.0
ROWS = 200
"""At most so many groups of hits on a page."""


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


async def show(request: Request) -> Response:
    """Show what is about to be asked."""
    desk = _desk(request)
    try:
        members = desk.client.directory.full_members()
        trouble = ""
    except SecurityError as error:
        members, trouble = (), printable(error)
    case = request.query_params.get("case", "")
    reasons = desk.preferences.cases.get(case, desk.preferences.last)
    return page(request, "ask.html", draft=desk.draft, reasons=reasons, purposes=PURPOSES, members=members, trouble=trouble)


async def take_file(request: Request) -> Response:
    """Take one dropped file: its bytes as they are, its name in a header."""
    desk = _desk(request)
    length = request.headers.get("content-length", "")
    path = await desk.uploads.take(request.stream(), int(length) if length.isdecimal() else None)
    desk.draft.waiting.append((path, printable(file_name(request.headers.get("vidfed-name")))))
    return Response(status_code=204)


async def hash_files(request: Request) -> Response:
    """Hash what was dropped, and show the draft."""
    desk = _desk(request)
    await desk.draft.hash_waiting(desk.uploads, any_quality=False)
    return page(request, "draft.html", draft=desk.draft)


async def add_hashes(request: Request) -> Response:
    """Take pasted hashes, and show the draft."""
    desk = _desk(request)
    desk.draft.add_hashes((await Form.of(request)).text("hashes"))
    return page(request, "draft.html", draft=desk.draft)


async def empty(request: Request) -> Response:
    """Forget what was about to be asked."""
    desk = _desk(request)
    for path, _ in desk.draft.waiting:
        desk.uploads.remove(path)
    desk.draft = Draft()
    return page(request, "draft.html", draft=desk.draft)


async def ask(request: Request) -> Response:
    """Ask."""
    desk, form = _desk(request), await Form.of(request)
    if text := form.text("hashes"):
        desk.draft.add_hashes(text)
    if not desk.draft.items:
        raise FormError("There is nothing to ask about: drop files, or paste hashes.")
    justification = justification_of(form)
    desk.preferences.remember(
        Reasons(justification.case_reference, justification.purpose.code, justification.legal_basis, justification.offence_type)
    )
    distance, deadline = form.text("pdq"), form.text("deadline")
    try:
        deadline_s = min(max(float(deadline or DEFAULT_DEADLINE_S), 0.1), MAX_DEADLINE_S)
    except ValueError:
        raise FormError("How long to wait is a number of seconds.") from None
    lookup = desk.lookups.begin(
        desk.client,
        desk.draft,
        justification,
        distances=parse_distances([f"pdq={distance}"] if distance else []),
        ask=form.all("ask"),
        deadline_s=deadline_s,
    )
    desk.draft = Draft()
    return go_to(request, f"/lookups/{lookup.id}")


def justification_of(form: Form) -> Justification:
    """Return why somebody asks, as a form says it.

    Raises:
        FormError, QuestionError: something is missing or wrong.
    """
    purpose = PURPOSES.get(form.text("purpose"))
    if purpose is None:
        raise FormError("Say for what purpose you ask.")
    return Justification(
        purpose,
        form.text("legal_basis", needed="Say under which law you ask."),
        form.text("case", needed="Say for which case you ask."),
        form.text("offence", needed="Say which type of offence it is about."),
        Urgency.LIFE_AT_RISK if form.ticked("urgent") else Urgency.ROUTINE,
    )


async def show_lookup(request: Request) -> Response:
    """Show a lookup, whole or, while it is under way, the part that changes."""
    lookup = _desk(request).lookups.get(request.path_params["lookup"])
    template = "answers.html" if request.headers.get("vidfed-live") else "lookup.html"
    return page(request, template, lookup=lookup, **_answers(lookup))


def _answers(lookup: Lookup) -> dict[str, Any]:
    result = lookup.so_far
    document = to_document(result)
    groups: dict[int, list[dict[str, object]]] = {}
    for hit in document["hits"]:
        groups.setdefault(hit["item"], []).append(hit)
    return {
        "result": result,
        "closing": result.closing,
        "document": document,
        "groups": list(groups.items())[:ROWS],
        "left_out": max(0, len(groups) - ROWS),
        "waiting": [member for member in lookup.members if member not in lookup.nodes],
    }


ROUTES = [
    Route("/", show),
    Route("/ask", ask, methods=["POST"]),
    Route("/ask/files", take_file, methods=["POST"]),
    Route("/ask/hash", hash_files, methods=["POST"]),
    Route("/ask/hashes", add_hashes, methods=["POST"]),
    Route("/ask/empty", empty, methods=["POST"]),
    Route("/lookups/{lookup}", show_lookup),
]
