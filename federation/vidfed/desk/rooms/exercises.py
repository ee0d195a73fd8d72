"""Exercises: what whoever has this role does first, tried in a practice federation (`vidfed demo --stay`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from vidfed.desk.shell.pages import page

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


def show(request: Request) -> Response:
    """Show the exercises of the role for which this desk is."""
    rooms = {room.key for room in request.app.state.desk.rooms}
    role = "operator" if "node" in rooms else "officer" if "requests" in rooms else "investigator"
    return page(request, "exercises.html", role=role)


ROUTES = [Route("/exercises", show)]
