"""Whole cases: begun, watched, paused, resumed; results filtered and grouped on this side, a page at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.responses import FileResponse
from starlette.routing import Route

from vidfed.desk.rooms.ask import PURPOSES, justification_of
from vidfed.desk.shell.errors import GoneError
from vidfed.desk.shell.forms import Form
from vidfed.desk.shell.pages import go_to, page
from vidfed.desk.shell.preferences import Reasons
from vidfed.federation.bulk.store import HitFilter

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from vidfed.desk.desk import Desk
    from vidfed.desk.work.whole_cases import WholeCase

ROWS = 200
"""At most so many hits on a page."""
GROUPS = 20
BY = ("evidence", "member", "series", "reference")


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


async def show_all(request: Request) -> Response:
    """Show all, and the form that begins one."""
    desk = _desk(request)
    return page(request, "whole_cases.html", cases=list(desk.whole_cases), reasons=desk.preferences.last, purposes=PURPOSES)


async def begin(request: Request) -> Response:
    """Begin one."""
    desk, form = _desk(request), await Form.of(request)
    why = justification_of(form)
    desk.preferences.remember(Reasons(why.case_reference, why.purpose.code, why.legal_basis, why.offence_type))
    source = form.text("source", needed="Say where it is: the path of a folder or file on this machine.")
    case = desk.whole_cases.begin(source, why, is_list=form.text("what") == "list", ask=form.all("ask"))
    return go_to(request, f"/whole-cases/{case.id}")


async def show(request: Request) -> Response:
    """Show one, whole or, while it is under way, the part that changes."""
    case = _desk(request).whole_cases.get(request.path_params["case"])
    if request.headers.get("vidfed-live"):
        return page(request, "progress.html", case=case)
    return page(request, "whole_case.html", case=case, **_hits(case, request))


def _hits(case: WholeCase, request: Request) -> dict[str, Any]:
    asked = request.query_params
    wanted = HitFilter(**{name: asked.get(name, "") for name in BY})
    chosen = {name: getattr(wanted, name) for name in BY if getattr(wanted, name)}
    by = asked.get("by", "") if asked.get("by") in set(BY) - set(chosen) else ""
    store = case.open()
    counts = {name: store.told_counts(name, wanted, limit=GROUPS) for name in BY if name not in chosen}
    links = {name: [(value, count, urlencode(chosen | {name: value})) for value, count in each] for name, each in counts.items()}
    without = [(name, value, urlencode({n: v for n, v in chosen.items() if n != name})) for name, value in chosen.items()]
    groupings = [("", urlencode(chosen)), *((name, urlencode(chosen | {"by": name})) for name in BY if name not in chosen)]
    values: dict[str, Any] = {"groups": links, "chosen": without, "by": by, "groupings": groupings, "told": [], "table": [], "more": ""}
    if by:
        skip = int(asked["skip"]) if asked.get("skip", "").isdecimal() else 0
        found = store.told_counts(by, wanted, limit=ROWS + 1, skip=skip)
        table = [(number, value, count, urlencode(chosen | {by: value})) for number, (value, count) in enumerate(found[:ROWS], skip + 1)]
        more = urlencode(chosen | {"by": by, "skip": str(skip + ROWS)}) if len(found) > ROWS else ""
        return values | {"table": table, "more": more, "paged": skip > 0}
    number, _, row = asked.get("after", "").partition(".")
    after = (int(number), int(row)) if number.isdecimal() and row.isdecimal() else (0, 0)
    told = store.told(wanted, after=after, limit=ROWS + 1)
    if len(told) > ROWS:
        place = told[ROWS - 1].place
        values["more"] = urlencode(chosen | {"after": f"{place[0]}.{place[1]}"})
    return values | {"told": told[:ROWS], "paged": after != (0, 0)}


async def pause(request: Request) -> Response:
    """Pause one."""
    case = _desk(request).whole_cases.get(request.path_params["case"])
    await case.pause()
    return go_to(request, f"/whole-cases/{case.id}")


async def resume(request: Request) -> Response:
    """Let one go on."""
    case = _desk(request).whole_cases.get(request.path_params["case"])
    case.resume()
    return go_to(request, f"/whole-cases/{case.id}")


async def download(request: Request) -> Response:
    """Give one of the result files."""
    case, name = _desk(request).whole_cases.get(request.path_params["case"]), request.path_params["name"]
    if name not in case.files():
        raise GoneError("There is no such file.")
    return FileResponse(case.folder / name, filename=name, content_disposition_type="attachment")


ROUTES = [
    Route("/whole-cases", show_all),
    Route("/whole-cases/begin", begin, methods=["POST"]),
    Route("/whole-cases/{case}", show),
    Route("/whole-cases/{case}/pause", pause, methods=["POST"]),
    Route("/whole-cases/{case}/resume", resume, methods=["POST"]),
    Route("/whole-cases/{case}/files/{name}", download),
]
