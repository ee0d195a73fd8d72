"""What may stand where: each rule of section 1.2 by an entry that breaks it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.casework import (
    ASK,
    DEPUTY,
    HAND_OVER,
    HOLDER,
    OFFICER,
    RELEASE,
    SECOND_OFFICER,
    START_MS,
    SUBJECT,
    SUCCESSOR,
    entry_of,
    next_header,
    written,
)
from vidfed.casework.core.conversation import Conversation, Fit, conversation_id
from vidfed.casework.core.rules import MAX_WAIT_MS, TOLERANCE_MS, check
from vidfed.casework.errors import NotAllowedError
from vidfed.wire.casework_values import (
    MAX_TALKING,
    Acknowledge,
    Body,
    Close,
    Correct,
    Correction,
    Disposition,
    EntryHeader,
    Note,
    NotTheSame,
    RecordWrong,
    RefusalReason,
    Refuse,
    Side,
    Wait,
    WaitReason,
    Withdraw,
)

A, O = Side.ASKER, Side.OWNER  # noqa: E741 - who writes
ASKED = written((A, ASK))


def refused(conversation: Conversation, header: EntryHeader, why: str) -> None:
    with pytest.raises(NotAllowedError, match=why):
        check(conversation, header)


@pytest.mark.parametrize("body", [ASK, NotTheSame(), RecordWrong()])
def test_conversation_begins_with_the_asker_s_word_about_a_hit(body: Body) -> None:
    check(Conversation(), next_header(Conversation(), A, body))


@pytest.mark.parametrize("body", [Note(), Withdraw(), Close(Disposition.USEFUL), HAND_OVER])
def test_conversation_begins_with_nothing_else(body: Body) -> None:
    refused(Conversation(), next_header(Conversation(), A, body), "begins with")


@pytest.mark.parametrize("body", [Acknowledge(), RELEASE, Note()])
def test_owner_cannot_begin(body: Body) -> None:
    refused(Conversation(), next_header(Conversation(), O, body), "begins with")


def test_first_entry_without_the_hit() -> None:
    refused(Conversation(), replace(next_header(Conversation(), A, ASK), subject=None), "states the hit")


def test_hit_stated_again() -> None:
    refused(ASKED, replace(next_header(ASKED, A, Note()), subject=SUBJECT), "only the first")


def test_conversation_id_is_that_of_the_hit() -> None:
    other = replace(SUBJECT, reference="FR-0002")
    refused(Conversation(), replace(next_header(Conversation(), A, ASK), subject=other), "not that of this hit")


@pytest.mark.parametrize(
    "change",
    [{"federation": "other"}, {"asker": "de"}, {"owner": "de"}, {"subject": replace(SUBJECT, reference="X")}],
    ids=lambda change: next(iter(change)),
)
def test_conversation_ids_differ_with_each_part(change: dict[str, object]) -> None:
    parts: dict[str, object] = {"federation": "test-federation", "asker": "nl", "owner": "fr", "subject": SUBJECT}
    assert conversation_id(**parts) != conversation_id(**{**parts, **change})  # type: ignore[arg-type]


def test_conversation_ids_do_not_run_parts_together() -> None:
    assert conversation_id("ab", "c", "d", SUBJECT) != conversation_id("a", "bc", "d", SUBJECT)


@pytest.mark.parametrize("field", ["conversation", "federation"])
def test_release_replayed_into_another_conversation(field: str) -> None:
    other = {"conversation": b"x" * 32, "federation": "other"}[field]
    refused(ASKED, replace(next_header(ASKED, O, RELEASE), **{field: other}), "another conversation")  # type: ignore[arg-type]


@pytest.mark.parametrize("author", [SUCCESSOR.pseudonym, "nl-99"])
def test_entry_by_somebody_else_of_the_same_member(author: str) -> None:
    refused(ASKED, next_header(ASKED, A, Note(), authors=[author]), "handed over")


@pytest.mark.parametrize("author", [HOLDER.pseudonym, DEPUTY.pseudonym])
def test_holder_and_deputy_write(author: str) -> None:
    check(ASKED, next_header(ASKED, A, Note(), authors=[author]))


def test_hand_over_lets_the_new_holder_write_and_the_former_deputy_no_more() -> None:
    handed = written((A, HAND_OVER), start=ASKED)
    check(handed, next_header(handed, A, Note(), authors=[SUCCESSOR.pseudonym]))
    check(handed, next_header(handed, A, Note(), authors=[HOLDER.pseudonym]))  # the new deputy
    refused(handed, next_header(handed, A, Note(), authors=[DEPUTY.pseudonym]), "handed over")


def test_who_begins_holds_the_case() -> None:
    refused(Conversation(), next_header(Conversation(), A, ASK, authors=[DEPUTY.pseudonym]), "holds the case")


def test_two_officers_sign_a_decision_and_nothing_else() -> None:
    check(ASKED, next_header(ASKED, O, RELEASE, authors=[OFFICER, SECOND_OFFICER]))
    refused(ASKED, next_header(ASKED, O, Note(), authors=[OFFICER, SECOND_OFFICER]), "one person")
    refused(ASKED, next_header(ASKED, A, Note(), authors=[HOLDER.pseudonym, DEPUTY.pseudonym]), "one person")


@pytest.mark.parametrize("body", [ASK, RecordWrong(), Withdraw(), Close(Disposition.USEFUL), HAND_OVER])
def test_owner_writes_nothing_of_the_asker_s(body: Body) -> None:
    refused(ASKED, next_header(ASKED, O, body), "owner's side")


@pytest.mark.parametrize("body", [Acknowledge(), RELEASE, Refuse(RefusalReason.LAW), Correct(1, Correction.WRONG)])
def test_asker_writes_nothing_of_the_owner_s(body: Body) -> None:
    refused(ASKED, next_header(ASKED, A, body), "asker's side")


@pytest.mark.parametrize("body", [Acknowledge(), Refuse(RefusalReason.LAW), Wait(WaitReason.THIRD_PARTY, START_MS + 1)])
def test_settled_ask_is_not_answered_again_but_by_a_release(body: Body) -> None:
    settled = written((O, RELEASE), start=ASKED)
    refused(settled, next_header(settled, O, body), "no ask is open")
    check(settled, next_header(settled, O, RELEASE))


@pytest.mark.parametrize("end", [Withdraw(), Close(Disposition.NO_USE)])
def test_nothing_is_released_by_who_has_seen_the_end(end: Body) -> None:
    ended = written((A, end), start=ASKED)
    refused(ended, next_header(ended, O, RELEASE), "no ask stands")


def test_nothing_is_released_without_an_ask() -> None:
    noted = written((A, NotTheSame()))
    refused(noted, next_header(noted, O, RELEASE), "no ask stands")


def test_withdrawn_ask_can_be_asked_again_and_a_closed_conversation_not() -> None:
    withdrawn = written((A, Withdraw()), start=ASKED)
    check(withdrawn, next_header(withdrawn, A, ASK))
    closed = written((A, Close(Disposition.NO_USE)), start=ASKED)
    refused(closed, next_header(closed, A, ASK), "closed")
    refused(closed, next_header(closed, A, Note()), "closed")
    check(closed, next_header(closed, A, RecordWrong()))


@pytest.mark.parametrize(("length_ms", "allowed"), [(0, False), (1, True), (MAX_WAIT_MS, True), (MAX_WAIT_MS + 1, False)])
def test_wait_ends_within_thirty_days(length_ms: int, *, allowed: bool) -> None:
    header = next_header(ASKED, O, Wait(WaitReason.JUDICIAL_AUTHORISATION, START_MS + length_ms))
    if allowed:
        check(ASKED, header)
    else:
        refused(ASKED, header, "30 days")


def test_correction_of_what_is_no_release() -> None:
    acknowledged = written((O, Acknowledge()), start=ASKED)
    refused(acknowledged, next_header(acknowledged, O, Correct(1, Correction.WRONG)), "no release")


def test_time_of_writing_goes_back_along_a_chain() -> None:
    later = written((A, ASK, 5))
    refused(later, next_header(later, A, Note(), at_ms=START_MS + 4 * 60_000), "older")


@pytest.mark.parametrize(("behind_ms", "allowed"), [(TOLERANCE_MS, True), (TOLERANCE_MS + 1, False)])
def test_clock_moved_back_behind_what_was_seen(behind_ms: int, *, allowed: bool) -> None:
    asked = written((A, ASK, 60))
    header = next_header(asked, O, Acknowledge(), at_ms=START_MS + 3_600_000 - behind_ms)
    if allowed:
        check(asked, header)
    else:
        refused(asked, header, "compare the clocks")


def test_clock_is_compared_with_the_newest_that_was_seen() -> None:
    conversation = written((A, ASK), (A, Note(), 60))
    refused(conversation, next_header(conversation, O, Acknowledge(), at_ms=START_MS + 60_000), "compare the clocks")


def test_seen_goes_back_along_a_chain() -> None:
    conversation = written((A, ASK), (O, Acknowledge()), (A, Note()))
    refused(conversation, next_header(conversation, A, Note(), seen=0), "seen less")


def test_last_numbers_of_a_chain_are_kept_for_what_ends_it() -> None:
    full = written((A, ASK), *[(A, Note())] * (MAX_TALKING - 1))
    refused(full, next_header(full, A, Note()), "full")
    refused(full, next_header(full, A, ASK), "full")
    check(full, next_header(full, A, Close(Disposition.NO_USE)))


def test_same_number_twice_is_a_fork_and_the_same_entry_twice_is_none() -> None:
    one, two = (entry_of(next_header(ASKED, A, Note(), at_ms=START_MS + plus)) for plus in (0, 1))
    held = ASKED.added(one)
    assert (held.fit(one), held.fit(two)) == (Fit.KNOWN, Fit.FORK)


def test_entry_behind_another_one_than_ours_is_a_fork() -> None:
    forked = replace(next_header(ASKED, A, Note()), previous=b"x" * 32)
    assert ASKED.fit(entry_of(forked)) is Fit.FORK


@pytest.mark.parametrize("seen", [b"x" * 32, None])
def test_seen_must_be_here_and_the_same(seen: bytes | None) -> None:
    acknowledged = written((O, Acknowledge()), start=ASKED)
    header = next_header(acknowledged, A, Note())
    header = replace(header, seen=seen) if seen else replace(header, seen_number=2)
    assert acknowledged.fit(entry_of(header)) is Fit.AHEAD


def test_entry_after_a_missing_one_is_a_gap() -> None:
    second = entry_of(next_header(ASKED, A, Note()))
    assert Conversation().fit(second) is Fit.GAP
