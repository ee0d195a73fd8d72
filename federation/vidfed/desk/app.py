"""The desk as an application: the rooms that are open, behind the guard."""

from __future__ import annotations

import contextlib
import traceback
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from vidfed.casework.errors import CaseworkError
from vidfed.cli.terminal import note
from vidfed.desk.rooms import exercises, settings
from vidfed.desk.shell.errors import DeskError, GoneError, TooMuchError
from vidfed.desk.shell.guard import Guard
from vidfed.desk.shell.pages import page, spoken_in
from vidfed.federation.lookup.errors import FederationError
from vidfed.formats.entries import FormatError
from vidfed.security.errors import SecurityError
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from starlette.requests import Request
    from starlette.responses import Response

    from vidfed.desk.desk import Desk
    from vidfed.desk.unit import UnitDesk

_SAID = (DeskError, FederationError, SecurityError, CaseworkError, FormatError, WireError, OSError)


def application(desk: Desk | UnitDesk, rooms: Iterable[Route], authorities: Iterable[str], errors: Iterable[type[Exception]] = ()) -> Guard:
    """Return the desk.

    Args:
        desk: this run.
        rooms: the routes of the rooms that are open.
        authorities: `host:port` as the browser may name it.
        errors: whose text is for the person at the desk, beside those of asking.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await desk.close()

    routes = [*rooms, *settings.ROUTES, *exercises.ROUTES, Mount("/static", StaticFiles(packages=[("vidfed.desk", "static")]))]
    app = Starlette(
        routes=[Mount(desk.path, routes=routes), Route("/{rest:path}", _nothing)],
        exception_handlers={**dict.fromkeys((*_SAID, *errors), _said), 404: _nothing, Exception: _failed},
        lifespan=lifespan,
    )
    app.state.desk = desk
    return Guard(app, desk.sessions, authorities)


async def _said(request: Request, error: Exception) -> Response:
    """Say what was wrong, in the place of the page that says such things."""
    status = 404 if isinstance(error, GoneError) else 413 if isinstance(error, TooMuchError) else 422
    spoken = spoken_in(request)
    # What the desk says itself is in its catalogues; what others said is no template, and stays as it is.
    text = spoken.say(error.text, **error.values) if isinstance(error, DeskError) else str(error) or type(error).__name__
    return _trouble(request, status, text)


async def _nothing(request: Request, _error: Exception | None = None) -> Response:
    return _trouble(request, 404, spoken_in(request).say("There is no such page."))


async def _failed(request: Request, error: Exception) -> Response:
    for line in "".join(traceback.format_exception(error)).splitlines():
        note(line)
    said = "The desk itself failed; the terminal says more. Nothing was sent that the page does not show as sent."
    return _trouble(request, 500, spoken_in(request).say(said))


def _trouble(request: Request, status: int, text: str) -> Response:
    """Return an error: into the place for them if the page asked by itself, else as a page."""
    if request.headers.get("hx-request"):
        return page(request, "error.html", status=status, headers={"HX-Retarget": "#trouble", "HX-Reswap": "innerHTML"}, text=text)
    return page(request, "trouble.html", status=status, text=text)
