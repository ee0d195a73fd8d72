"""How the desk looks and speaks, and whether names are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from vidfed.desk.shell.forms import Form
from vidfed.desk.shell.language import LANGUAGES
from vidfed.desk.shell.preferences import THEMES
from vidfed.desk.shell.sessions import COOKIE

if TYPE_CHECKING:
    from starlette.requests import Request


async def change(request: Request) -> Response:
    """Change what the form names, and show the page anew."""
    desk, form = request.app.state.desk, await Form.of(request)
    if (code := form.text("language")) in LANGUAGES:
        desk.preferences.language = code
    if (theme := form.text("theme")) in THEMES:
        desk.preferences.theme = theme
    if names := form.text("names"):
        desk.preferences.names_shown = names == "shown"
    desk.preferences.save()
    return Response(status_code=204, headers={"HX-Refresh": "true"})


async def leave(request: Request) -> Response:
    """End this browser's session."""
    request.app.state.desk.sessions.end(request.cookies.get(COOKIE, ""))
    return Response(status_code=204, headers={"HX-Refresh": "true"})


ROUTES = [Route("/settings", change, methods=["POST"]), Route("/leave", leave, methods=["POST"])]
