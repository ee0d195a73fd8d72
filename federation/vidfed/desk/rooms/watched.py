"""Watched: standing lookups, what they have found, and how they begin, go on and end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from vidfed.desk.rooms.ask import PURPOSES, justification_of
from vidfed.desk.shell.errors import FormError
from vidfed.desk.shell.forms import Form
from vidfed.desk.shell.pages import go_to, page
from vidfed.desk.shell.preferences import Reasons
from vidfed.desk.work.asking import Draft
from vidfed.federation.output.json import hit_fields
from vidfed.security.clock import DAY_MS, system_clock
from vidfed.security.identity.credentials import Credential

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from vidfed.desk.desk import Desk

ROWS = 200
DAYS = 14
"""Suggested; a watch never outlives the kit."""
HOURS = (1, 6, 24)
"""How often the gateway may be told to ask."""
_USUAL_HOURS = 6
_HOUR_MIN = 60


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


def _days_left(desk: Desk) -> int:
    """Return how many whole days the kit is valid."""
    return int(max(0, Credential.read(desk.kit.credential.payload).not_after_ms - system_clock()) // DAY_MS)


async def show(request: Request) -> Response:
    """Show what is watched, what was found, and the form that begins a watch."""
    desk, asked = _desk(request), request.query_params
    watches, found = await desk.standing.watches(), await desk.standing.found()
    found.sort(key=lambda each: -each.found_ms)
    chosen = asked.get("watch", "")
    hits = [{"watch": each.watch, "label": each.label, "found_ms": each.found_ms, "hit": hit_fields(each.hit)} for each in found]
    if chosen:
        hits = [each for each in hits if each["watch"] == chosen]
    counts = {own.id: sum(each.watch == own.id for each in found) for own in watches}
    left = _days_left(desk)
    reasons = desk.preferences.cases.get(asked.get("case", ""), desk.preferences.last)
    return page(
        request,
        "watched.html",
        watches=watches,
        counts=counts,
        found=hits[:ROWS],
        more=max(0, len(hits) - ROWS),
        chosen=chosen,
        now=system_clock(),
        draft=desk.draft,
        reasons=reasons,
        purposes=PURPOSES,
        members=desk.client.directory.full_members(),
        days=min(DAYS, left),
        most=left,
        hours=HOURS,
        usual=_USUAL_HOURS,
    )


def _days(form: Form) -> float:
    try:
        days = float(form.text("days"))
    except ValueError:
        days = 0.0
    if not 0 < days < float("inf"):
        raise FormError("For how long is a number of days.")
    return days


async def begin(request: Request) -> Response:
    """Begin a watch of what was dropped, pasted, or taken over from a lookup."""
    desk, form = _desk(request), await Form.of(request)
    if text := form.text("hashes"):
        desk.draft.add_hashes(text)
    if not desk.draft.items:
        raise FormError("There is nothing to watch: drop files, or paste hashes.")
    why, hours = justification_of(form), form.text("hours")
    if hours not in map(str, HOURS):
        raise FormError("Choose how often it is asked.")
    await desk.standing.watch(desk.draft.items, why, days=_days(form), every_minutes=int(hours) * _HOUR_MIN, ask=form.all("ask"))
    desk.preferences.remember(Reasons(why.case_reference, why.purpose.code, why.legal_basis, why.offence_type))
    desk.draft = Draft()
    return go_to(request, "/watched")


async def take_over(request: Request) -> Response:
    """Take what nobody knew in a lookup, to be watched: nothing is asked yet."""
    desk = _desk(request)
    lookup = desk.lookups.get((await Form.of(request)).text("lookup"))
    desk.draft = Draft()
    if not desk.draft.add_unknown(lookup.so_far):
        raise FormError("Something is known of every item.")
    return go_to(request, "/watched#begin")


async def renew(request: Request) -> Response:
    """Watch the same for longer."""
    form = await Form.of(request)
    await _desk(request).standing.renew(form.text("watch", needed="Choose a watch."), days=_days(form))
    return go_to(request, "/watched")


async def stop(request: Request) -> Response:
    """End one."""
    form = await Form.of(request)
    await _desk(request).standing.stop(form.text("watch", needed="Choose a watch."))
    return go_to(request, "/watched")


ROUTES = [
    Route("/watched", show),
    Route("/watched/begin", begin, methods=["POST"]),
    Route("/watched/take-over", take_over, methods=["POST"]),
    Route("/watched/renew", renew, methods=["POST"]),
    Route("/watched/stop", stop, methods=["POST"]),
]
