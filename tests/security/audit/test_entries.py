"""What one entry says, written and read back; what its leaf commits to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from vidfed.security.audit.entries import AuditEntry, Event, Operation, commit_case, read_body, seal

if TYPE_CHECKING:
    from collections.abc import Mapping

TEXTS = st.text(max_size=30)
DETAILS = st.dictionaries(TEXTS, st.one_of(st.integers(), TEXTS, st.lists(st.integers(), max_size=4).map(tuple), st.booleans()), max_size=4)


@given(
    member=TEXTS,
    pseudonym=TEXTS,
    legal_basis=TEXTS,
    case=TEXTS,
    outcome=TEXTS,
    request=st.binary(max_size=32),
    records=st.lists(TEXTS, max_size=3).map(tuple),
    details=DETAILS,
)
def test_whatever_an_entry_says_is_read_back(
    member: str,
    pseudonym: str,
    legal_basis: str,
    case: str,
    outcome: str,
    request: bytes,
    records: tuple[str, ...],
    details: Mapping[str, int | str | tuple[int, ...]],
) -> None:
    entry = AuditEntry(
        7,
        Operation.ERASURE,
        Event.LOG_READ,
        member,
        pseudonym=pseudonym,
        legal_basis=legal_basis,
        case_reference=case,
        request_digest=request,
        outcome=outcome,
        records=records,
        details=details,
    )
    sealed = seal(entry)
    assert sealed.opens()
    assert sealed.body is not None
    said = read_body(sealed.body)
    assert (said["time_ms"], said["operation"], said["event"], said["member"]) == (7, "erasure", "log-read", member)
    assert (said["pseudonym"], said["legal_basis"], said["outcome"], said["records"]) == (pseudonym, legal_basis, outcome, list(records))
    assert (said["request"], said["answer"]) == (request.hex(), "")
    assert said["case"] == (commit_case(sealed.case_salt, case) if sealed.case_salt else "")
    assert said["details"] == {name: list(value) if isinstance(value, tuple) else value for name, value in details.items()}


def test_two_entries_that_say_the_same_have_leaves_that_do_not() -> None:
    entry = AuditEntry(7, Operation.ERASURE, Event.LOG_READ, "nl")
    assert seal(entry).commitment != seal(entry).commitment
