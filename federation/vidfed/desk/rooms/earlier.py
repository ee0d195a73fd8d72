"""Earlier lookups: what the kit remembers of them, and the answers that came after somebody had stopped waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from vidfed.desk.shell.forms import Form
from vidfed.desk.shell.pages import go_to, page
from vidfed.security.clock import system_clock

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from vidfed.desk.desk import Desk

ROWS = 200


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


async def show_all(request: Request) -> Response:
    """Show the lookups that this kit remembers, and what the gateway keeps of each."""
    found = await _desk(request).client.history()
    return page(request, "earlier.html", found=found[:ROWS], more=max(0, len(found) - ROWS), now=system_clock())


async def fetch(request: Request) -> Response:
    """Fetch what was collected of one, verify all of it again, and show it."""
    desk = _desk(request)
    lookup = await desk.lookups.fetch(desk.client, (await Form.of(request)).text("lookup"))
    return go_to(request, f"/lookups/{lookup.id}")


async def forget(request: Request) -> Response:
    """Delete one here and at the gateway."""
    desk = _desk(request)
    await desk.client.forget((await Form.of(request)).text("lookup"))
    return go_to(request, "/earlier")


ROUTES = [
    Route("/earlier", show_all),
    Route("/earlier/fetch", fetch, methods=["POST"]),
    Route("/earlier/forget", forget, methods=["POST"]),
]
