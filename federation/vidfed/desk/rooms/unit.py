"""The node's rooms: its health in words, records, imports, the policy explained, kits, news not confirmed, the audit log verified."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from vidfed.casework.news import storage as news_storage
from vidfed.casework.settings import casework_location, read_casework_section
from vidfed.casework.storage.database import CaseworkDatabase
from vidfed.cli.printable import printable
from vidfed.desk.shell.errors import FormError
from vidfed.desk.shell.forms import Form
from vidfed.desk.shell.pages import go_to, page
from vidfed.formats.fields import FIELDS, field_value
from vidfed.node.operations.doctor import examine
from vidfed.node.operations.operator_audit import earlier_recipients
from vidfed.node.operations.records import change_record, consult_page, consult_record, record_fields
from vidfed.node.operations.status import read_status
from vidfed.node.policy.explain import explain
from vidfed.node.policy.file import read_own_policy
from vidfed.node.policy.policy import Requester
from vidfed.node.records.known import open_store
from vidfed.node.records.lifecycle import RecordQuery, edit, reinstate, retract, stored_record
from vidfed.security.audit import Operation
from vidfed.security.documents import ROLES
from vidfed.security.errors import SecurityError
from vidfed.security.member.audit_log import checkpoints_known, verify_own_log
from vidfed.security.member.persons import invite_person, kit_states, revoke_kit
from vidfed.wire.values import Purpose

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from vidfed.desk.unit import UnitDesk
    from vidfed.security.member.home import MemberHome

ROWS = 200
STATES = ("live", "retracted", "erased", "all")
_PASSPHRASE_CHARS = 12
EDITED = tuple(field for field in FIELDS.values() if field.option is not None)
"""The fields that an operator edits, as the command has them as options."""


def _desk(request: Request) -> UnitDesk:
    desk: UnitDesk = request.app.state.desk
    return desk


def show_node(request: Request) -> Response:
    """Show how the node is."""
    state = read_status(_desk(request).home)
    return page(request, "node.html", state=state, lines=list(state.lines()))


def doctor(request: Request) -> Response:
    """Look at everything, and show what to do."""
    return page(request, "doctor.html", report=examine(_desk(request).home))


def list_records(request: Request) -> Response:
    """Show a page of records. It is logged."""
    asked = request.query_params
    state = asked.get("state", "live")
    equal = {name: asked[name] for name in ("series", "case_reference") if asked.get(name)}
    wanted = RecordQuery(state=state if state in STATES else "live", equal=equal)
    after = asked.get("after", "")
    rows, more = consult_page(_desk(request).home, wanted, after=int(after) if after.isdecimal() else 0, limit=ROWS)
    return page(request, "records.html", rows=rows, more=more, states=STATES, wanted=wanted, asked=asked)


def show_record(request: Request) -> Response:
    """Show one record, who was told of it, and what can be changed. It is logged."""
    return _record(request, request.path_params["reference"])


def _record(request: Request, reference: str) -> Response:
    home = _desk(request).home
    kept = consult_record(home, reference)
    told = earlier_recipients(home, reference)
    fields = record_fields(kept, hashes=False)
    members = _members(home) or []
    roles_of = [_explained(home, member, (), purpose, reference) for member in members for purpose in (Purpose.IDENTIFICATION,)]
    return page(request, "record.html", kept=kept, fields=fields, told=told, edited=EDITED, explained=roles_of)


async def change(request: Request) -> Response:
    """Edit, retract or reinstate a record."""
    home, form, reference = _desk(request).home, await Form.of(request), request.path_params["reference"]
    what = form.text("what")
    if what == "retract":
        reason = form.text("reason", needed="Say why it is taken back.")
        await asyncio.to_thread(change_record, home, reference, Operation.ALTERATION, "RETRACTED", retract, reason)
    elif what == "reinstate":
        await asyncio.to_thread(change_record, home, reference, Operation.ALTERATION, "REINSTATED", reinstate)
    else:
        values = _edited(form)
        if not values:
            raise FormError("Nothing was changed in the form.")
        await asyncio.to_thread(change_record, home, reference, Operation.ALTERATION, "EDITED", edit, values)
    return go_to(request, f"/records/{reference}")


def _edited(form: Form) -> dict[str, object]:
    values = {}
    for field in EDITED:
        text = form.text(field.name)
        if text and text != form.text(f"was-{field.name}"):
            try:
                values[field.name] = field_value(field.name, text)
            except ValueError as error:
                raise FormError(printable(error)) from None
    return values


def _members(home: MemberHome) -> list[str] | None:
    """Return the ids in the trust directory; None where there is no valid one."""
    try:
        return sorted(home.directory_source().current().members)
    except SecurityError:
        return None


def _explained(home: MemberHome, member: str, roles: tuple[str, ...], purpose: Purpose, reference: str) -> Any:  # noqa: ANN401 - an Explanation
    members = _members(home)
    policy = read_own_policy(home, members, None)
    with open_store(home, reads_only=True) as store:
        kept = stored_record(store, reference)
    return explain(policy, Requester(member, frozenset(roles), purpose), kept, members)


def show_policy(request: Request) -> Response:
    """Show the policy, and why a member would or would not be told of a record, by the code that decides."""
    home, asked = _desk(request).home, request.query_params
    members = _members(home)
    found = read_own_policy(home, members, None)
    explained: list[Any] = []
    reference, member = asked.get("reference", "").strip(), asked.get("member", "")
    roles = tuple(role for role in asked.getlist("role") if role in ROLES)
    if reference:
        chosen = [member] if member else members or []
        explained = [_explained(home, each, roles, purpose, reference) for each in chosen for purpose in Purpose]
    values: dict[str, Any] = {"rules": found.rules, "members": members or [], "reference": reference, "member": member}
    return page(request, "policy.html", explained=explained, roles=ROLES, **values)


def show_kits(request: Request) -> Response:
    """Show who holds which kit."""
    return page(request, "kits.html", kits=kit_states(_desk(request).home), roles=ROLES)


async def invite(request: Request) -> Response:
    """Write an invitation."""
    home, form = _desk(request).home, await Form.of(request)
    passphrase = form.text("passphrase", needed="Think of a passphrase, which reaches the person by another way.")
    if len(passphrase) < _PASSPHRASE_CHARS:
        raise FormError("The passphrase has 12 characters at least: four words drawn by lot are best.")
    pseudonym = form.text("pseudonym", needed="Say for whom it is.")
    gateway = form.text("gateway", needed="Say where the person reaches the gateway, as HOST:PORT.")
    folder = home.folder / "invitations"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{pseudonym}.invitation"
    if "/" in pseudonym or path.exists():
        raise FormError("There is an invitation of this name already.")
    roles = tuple(role for role in form.all("role") if role in ROLES)
    await asyncio.to_thread(invite_person, home, path, passphrase.encode(), gateway=gateway, pseudonym=pseudonym, roles=roles)
    return page(request, "done.html", what="invited", path=str(path))


async def revoke(request: Request) -> Response:
    """Revoke a kit and what was renewed from it."""
    home, form = _desk(request).home, await Form.of(request)
    serials, version = await asyncio.to_thread(revoke_kit, home, form.text("serial", needed="Choose a kit."))
    return page(request, "done.html", what="revoked", serials=serials, version=version, path=str(home.entry_path))


def show_news(request: Request) -> Response:
    """Show who has not confirmed news of a record."""
    home = _desk(request).home
    with contextlib.closing(CaseworkDatabase(casework_location(home, read_casework_section(home)))) as database:
        database.open()
        with database.reading() as connection:
            found = list(news_storage.unconfirmed(connection))
    return page(request, "news.html", found=found[:ROWS], more=max(0, len(found) - ROWS))


def show_audit(request: Request) -> Response:
    """Show the audit log's room."""
    return page(request, "audit.html", report=None)


def verify(request: Request) -> Response:
    """Verify the whole log."""
    home = _desk(request).home
    return page(request, "audit_report.html", report=verify_own_log(home, checkpoints_known(home)))


def show_import(request: Request) -> Response:
    """Show the last import, and the form that begins one."""
    template = "import_progress.html" if request.headers.get("vidfed-live") else "import.html"
    return page(request, template, it=_desk(request).importing)


async def begin_import(request: Request) -> Response:
    """Begin an import."""
    form = await Form.of(request)
    path = form.text("file", needed="Say which file: its whole path on this machine.")
    _desk(request).importing.begin(path, dry_run=form.text("how") != "really")
    return go_to(request, "/import")


ROUTES = [
    Route("/", show_node),
    Route("/doctor", doctor, methods=["POST"]),
    Route("/records", list_records),
    Route("/records/{reference}", show_record),
    Route("/records/{reference}/change", change, methods=["POST"]),
    Route("/import", show_import),
    Route("/import/begin", begin_import, methods=["POST"]),
    Route("/policy", show_policy),
    Route("/kits", show_kits),
    Route("/kits/invite", invite, methods=["POST"]),
    Route("/kits/revoke", revoke, methods=["POST"]),
    Route("/news", show_news),
    Route("/audit", show_audit),
    Route("/audit/verify", verify, methods=["POST"]),
]
