"""From a form of the desk to an entry of a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from vidfed.desk.shell.errors import FormError
from vidfed.security.clock import DAY_MS, MINUTE_MS
from vidfed.wire.casework_values import (
    Acknowledge,
    Ask,
    AskUrgency,
    Basis,
    Close,
    Content,
    Correct,
    Correction,
    Detail,
    Disposition,
    Note,
    NotTheSame,
    PersonDetails,
    RecordWrong,
    RefusalReason,
    Refuse,
    Release,
    TransferGround,
    Wait,
    WaitReason,
    Withdraw,
)
from vidfed.wire.values import Coded, HandlingCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidfed.desk.shell.forms import Form
    from vidfed.wire.casework_values import Body

MAX_WAIT_DAYS = 30
CHOICES: Mapping[str, type[Coded]] = {
    "wanted": Detail,
    "given": Detail,
    "urgency": AskUrgency,
    "basis": Basis,
    "ground": TransferGround,
    "handling": HandlingCode,
    "refusal": RefusalReason,
    "wait": WaitReason,
    "disposition": Disposition,
    "correction": Correction,
}
"""The fields that choose one of several, and of what."""
C = TypeVar("C", bound=Coded)


class Written(NamedTuple):
    """What is to be signed: in clear, sealed, and who signs it too."""

    body: Body
    content: Content
    cosigner: str | None


def chosen(form: Form, name: str, kind: type[C]) -> C:
    """Return the choice of a field.

    Raises:
        FormError: nothing that can be chosen.
    """
    found = {each.code: each for each in kind}.get(form.text(name))
    if found is None:
        raise FormError("Something is not chosen yet.")
    return found


def details(form: Form, name: str) -> tuple[Detail, ...]:
    """Return the details ticked.

    Raises:
        FormError: none is.
    """
    ticked = set(form.all(name))
    found = tuple(sorted((each for each in Detail if each.code in ticked), key=lambda each: each.value))
    if not found:
        raise FormError("Tick what it is about.")
    return found


def ask_of(form: Form, basis: str) -> Written:
    """Return the first entry of a conversation.

    Args:
        form: what was filled in.
        basis: what the answer itself says: `same-digest` or `hash-distance-only`.

    Raises:
        FormError: something is missing, or more is claimed than was compared.
    """
    rests = chosen(form, "basis", Basis)
    comparison = form.text("comparison")
    if rests is Basis.SAME_DIGEST and basis != Basis.SAME_DIGEST.code:
        raise FormError("No digest agreed in the answer: compare the pictures, or say that only the hashes are near each other.")
    if rests is Basis.COMPARED and not comparison:
        raise FormError("Say where the comparison is recorded.")
    body = Ask(details(form, "wanted"), chosen(form, "urgency", AskUrgency), rests)
    text = form.text("text", needed="Write the facts for the officer.")
    return Written(body, Content(text=text, offence=form.text("offence"), comparison=comparison), None)


def entry_of(form: Form, now_ms: int) -> Written:
    """Return the entry that a form makes, whose field `kind` says which.

    Raises:
        FormError: something is missing.
    """
    kind, text = form.text("kind"), form.text("text")
    cosigner = form.text("cosigner") or None
    if kind == Acknowledge.kind:
        return Written(Acknowledge(), Content(contact=form.text("contact", needed="Say whom to reach.")), cosigner)
    if kind == Release.kind:
        code = chosen(form, "handling", HandlingCode)
        body = Release(details(form, "given"), form.ticked("more_follows"), code, chosen(form, "ground", TransferGround))
        return Written(body, _released(form, text), cosigner)
    simple: dict[str, type[Note | NotTheSame | RecordWrong | Withdraw]] = {
        each.kind: each for each in (Note, NotTheSame, RecordWrong, Withdraw)
    }
    needed = form.text("text", needed="Write something.")
    if kind in simple:
        return Written(simple[kind](), Content(text=needed), cosigner)
    if kind == Close.kind:
        return Written(Close(chosen(form, "disposition", Disposition)), Content(text=needed), cosigner)
    if kind == Refuse.kind:
        return Written(Refuse(chosen(form, "refusal", RefusalReason)), Content(text=needed), cosigner)
    if kind == Wait.kind:
        until_ms = now_ms + _days(form) * DAY_MS - MINUTE_MS  # the longest is counted from the moment of signing
        return Written(Wait(chosen(form, "wait", WaitReason), until_ms), Content(text=needed), cosigner)
    if kind == Correct.kind:
        number = form.text("release")
        if not number.isdecimal():
            raise FormError("Choose the release that is to be corrected.")
        return Written(Correct(int(number), chosen(form, "correction", Correction)), Content(text=needed), cosigner)
    raise FormError("Something is not chosen yet.")


def _days(form: Form) -> int:
    text = form.text("days")
    if not text.isdecimal() or not 1 <= int(text) <= MAX_WAIT_DAYS:
        raise FormError("The clock can stand still for 1 to 30 days.")
    return int(text)


def _released(form: Form, text: str) -> Content:
    content = Content(
        text=text,
        conditions=form.text("conditions"),
        contact=form.text("contact"),
        victim=_person(form, "victim"),
        offender=_person(form, "offender"),
        case_number=form.text("case_number"),
        authority=form.text("authority"),
        taken=form.text("taken"),
    )
    if content == Content():
        raise FormError("Write what is released.")
    return content


def _person(form: Form, name: str) -> PersonDetails | None:
    fields = {field: form.text(f"{name}_{field}") for field in ("names", "born", "nationality", "sex")}
    return PersonDetails(**fields) if any(fields.values()) else None
