"""Two members write to each other while entries are lost, doubled, late and crossing; a plain model says what must come of it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support.casework import ASK, DEPUTY, HAND_OVER, HOLDER, PARTIAL, RELEASE, START_MS, SUCCESSOR, entry_of, next_header
from vidfed.casework.core.conversation import Conversation, Entry, Fit
from vidfed.casework.core.rules import check
from vidfed.casework.core.state import State, state_of
from vidfed.casework.errors import NotAllowedError
from vidfed.security.clock import DAY_MS, HOUR_MS
from vidfed.wire.casework_values import (
    Acknowledge,
    Ask,
    AskUrgency,
    Body,
    Close,
    Correct,
    Correction,
    Detail,
    Disposition,
    HandOver,
    Note,
    NotTheSame,
    RecordWrong,
    RefusalReason,
    Refuse,
    Release,
    Side,
    Wait,
    WaitReason,
    Withdraw,
)

ASKER_BODIES: list[Body] = [
    ASK,
    replace(ASK, wanted=(Detail.VICTIM_IDENTITY,), urgency=AskUrgency.LIFE_AT_RISK),
    NotTheSame(),
    RecordWrong(),
    Note(),
    Withdraw(),
    HAND_OVER,
    Close(Disposition.USEFUL),
    Acknowledge(),  # not theirs to write
]
OWNER_BODIES: list[Body] = [
    Acknowledge(),
    RELEASE,
    PARTIAL,
    Refuse(RefusalReason.LAW),
    NotTheSame(),
    Note(),
    Withdraw(),  # not theirs to write
]


class Model:
    """What a conversation amounts to, found by walking through it once, entry by entry, in an order in which causes come first.

    Written to be plain and to share nothing with `state_of`.
    """

    def __init__(self, conversation: Conversation) -> None:
        self.asks: dict[int, dict[str, object]] = {}
        self.closed = False
        self.begun = False
        self.releases: list[int] = []
        self.late: set[int] = set()
        self.corrected: set[int] = set()
        self.labels = 0
        self.persons = ("", "")
        for entry in causes_first(conversation):
            self.take(entry)

    def take(self, entry: Entry) -> None:
        header, body = entry.header, entry.header.body
        if header.subject is not None:
            self.begun = True
            self.persons = (header.subject.holder.pseudonym, header.subject.deputy.pseudonym)
        if isinstance(body, Ask):
            self.asks[header.number] = {"wanted": set(body.wanted), "given": set(), "settled": False, "word": "asked", "withdrawn": None}
        if isinstance(body, Withdraw):
            self.asks[max(self.asks)]["withdrawn"] = header
        if isinstance(body, HandOver):
            self.persons = (body.holder.pseudonym, body.deputy.pseudonym)
        if isinstance(body, NotTheSame):
            self.labels += 1
        if isinstance(body, Close):
            self.closed = True
        if isinstance(body, Correct):
            self.corrected.add(body.release)
        if header.side is Side.OWNER:
            self.answer(header.seen_number, header.number, body)

    def answer(self, seen: int, number: int, body: Body) -> None:
        answered = [ask for ask in self.asks if ask <= seen]
        if not answered:
            return
        ask = self.asks[answered[-1]]
        if isinstance(body, Release):
            self.releases.append(number)
            ask["given"] = set(body.given) | ask["given"]  # type: ignore[operator]
            ask["settled"] = ask["settled"] or not body.more_follows or ask["given"] >= ask["wanted"]  # type: ignore[operator]
            ask["word"] = "released" if ask["settled"] else "partly-released"
        elif isinstance(body, Refuse):
            ask["settled"], ask["word"] = True, "refused"
        elif isinstance(body, Wait) and not ask["settled"]:
            ask["word"] = "waiting"
        elif isinstance(body, Acknowledge) and not ask["settled"]:
            ask["word"] = "partly-released" if ask["given"] else "acknowledged"

    def word(self) -> str:
        if self.closed:
            return "closed"
        if not self.asks:
            return "noted" if self.begun else "empty"
        ask = self.asks[max(self.asks)]
        return "withdrawn" if ask["withdrawn"] else str(ask["word"])

    def allows(self, side: Side, body: Body, author: str) -> bool:
        word = self.word()
        is_open = word in {"asked", "acknowledged", "waiting", "partly-released"}
        mine: dict[type, bool] = {
            Note: word not in {"empty", "closed"},
            NotTheSame: side is Side.ASKER or word != "empty",
        }
        if side is Side.ASKER:
            if self.begun and author not in self.persons:
                return False
            mine |= {
                Ask: word != "closed",
                RecordWrong: True,
                Withdraw: is_open,
                Close: word not in {"empty", "closed"},
                HandOver: word != "empty",
            }
        else:
            mine |= {
                Acknowledge: is_open,
                Refuse: is_open,
                Wait: is_open,
                Release: bool(self.asks) and word not in {"withdrawn", "closed"},
                Correct: isinstance(body, Correct) and body.release in self.releases,
            }
        return mine.get(type(body), False)


def causes_first(conversation: Conversation) -> list[Entry]:
    """Return all entries, each after everything its author had seen; by no other rule than that."""
    order: list[Entry] = []
    done = {Side.ASKER: 0, Side.OWNER: 0}
    while len(order) < len(conversation.asker) + len(conversation.owner):
        for side in (Side.OWNER, Side.ASKER):
            chain = conversation.side(side)
            if done[side] < len(chain) and chain[done[side]].header.seen_number <= done[side.other]:
                order.append(chain[done[side]])
                done[side] += 1
                break
    return order


def assert_as_modelled(conversation: Conversation) -> None:
    state, model = state_of(conversation), Model(conversation)
    assert state.phase.value == model.word()
    assert [told.number for told in state.releases] == model.releases
    assert {told.number for told in state.releases if told.correction} == model.corrected
    assert len(state.false_matches) == model.labels
    assert (state.holder.pseudonym if state.holder else "", state.deputy.pseudonym if state.deputy else "") == model.persons
    if state.phase.open:
        ask = model.asks[max(model.asks)]
        assert state.open == ask["wanted"] - ask["given"]  # type: ignore[operator]
    else:
        assert not state.open


class TwoMembers(RuleBasedStateMachine):
    """Each side has its own copy; between them is a network that does what it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.views = {Side.ASKER: Conversation(), Side.OWNER: Conversation()}
        self.flying: list[Entry] = []
        self.now_ms = START_MS

    @initialize(first=st.sampled_from(ASKER_BODIES[:4]))
    def begin(self, first: Body) -> None:
        self.author(Side.ASKER, first, HOLDER.pseudonym, stale=False)

    def author(self, side: Side, body: Body, person: str, *, stale: bool) -> None:
        view = self.views[side]
        own, other = view.side(side), view.side(side.other)
        seen = own[-1].header.seen_number if stale and own else len(other)
        header = next_header(view, side, body, at_ms=self.now_ms, seen=seen, authors=[person])
        past = view.past(header)
        allowed = Model(past).allows(side, body, person)
        try:
            check(view, header)
        except NotAllowedError:
            assert not allowed
            return
        assert allowed
        entry = entry_of(header)
        assert view.fit(entry) is Fit.NEXT
        self.views[side] = view.added(entry)
        self.flying.append(entry)

    @rule(
        body=st.sampled_from(ASKER_BODIES),
        person=st.sampled_from([HOLDER.pseudonym, HOLDER.pseudonym, DEPUTY.pseudonym, SUCCESSOR.pseudonym]),
        stale=st.booleans(),
    )
    def asker_writes(self, body: Body, person: str, *, stale: bool) -> None:
        self.author(Side.ASKER, body, person, stale=stale)

    @rule(body=st.sampled_from(OWNER_BODIES), stale=st.booleans())
    def owner_writes(self, body: Body, *, stale: bool) -> None:
        self.author(Side.OWNER, body, "fr-1", stale=stale)

    @rule(days=st.integers(1, 30))
    def owner_waits(self, days: int) -> None:
        self.author(Side.OWNER, Wait(WaitReason.THIRD_PARTY, self.now_ms + days * DAY_MS), "fr-1", stale=False)

    @rule(release=st.integers(1, 4))
    def owner_corrects(self, release: int) -> None:
        self.author(Side.OWNER, Correct(release, Correction.WRONG), "fr-1", stale=False)

    @rule(hours=st.integers(1, 60))
    def time_passes(self, hours: int) -> None:
        self.now_ms += hours * HOUR_MS

    @rule(data=st.data(), keep=st.booleans())
    def deliver(self, data: st.DataObject, *, keep: bool) -> None:
        if self.flying:
            place = data.draw(st.integers(0, len(self.flying) - 1))
            self.receive(self.flying[place] if keep else self.flying.pop(place))

    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        if self.flying:
            self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))

    def receive(self, entry: Entry) -> None:
        side = entry.header.side.other
        fit = self.views[side].fit(entry)
        assert fit in {Fit.NEXT, Fit.KNOWN, Fit.GAP}
        if fit is Fit.NEXT:
            check(self.views[side], entry.header)  # what its own side allowed the other side allows
            self.views[side] = self.views[side].added(entry)

    @invariant()
    def each_holds_a_part_of_the_other_s_chain(self) -> None:
        for side in Side:
            truth = self.views[side].side(side)
            held = self.views[side.other].side(side)
            assert held == truth[: len(held)]
            assert_as_modelled(self.views[side])

    def teardown(self) -> None:
        """Whatever was lost is sent again, by turns, until both have all."""
        for _ in range(2):
            for side in (Side.OWNER, Side.ASKER):
                for entry in self.views[side].side(side):
                    self.receive(entry)
        one, other = self.views[Side.ASKER], self.views[Side.OWNER]
        assert one == other
        assert state_of(one) == state_of(other)
        assert_as_modelled(one)


TwoMembers.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestTwoMembers = TwoMembers.TestCase


def crossing(before: list[tuple[Side, Body]], asker: list[Body], owner: list[Body]) -> State:
    """Return the state after entries that neither side had seen of the other when it wrote its own."""
    start = Conversation()
    for side, body in before:
        start = start.added(entry_of(next_header(start, side, body)))
    views = {Side.ASKER: start, Side.OWNER: start}
    for side, bodies in ((Side.ASKER, asker), (Side.OWNER, owner)):
        for body in bodies:
            header = next_header(views[side], side, body)
            check(views[side], header)
            views[side] = views[side].added(entry_of(header))
    ends = set()
    for order in itertools.permutations([*views[Side.ASKER].asker[len(start.asker) :], *views[Side.OWNER].owner[len(start.owner) :]]):
        joined = start
        for entry in [*order, *order, *order]:  # an entry that comes before its turn comes again
            if joined.fit(entry) is Fit.NEXT:
                check(joined, entry.header)
                joined = joined.added(entry)
        ends.add(state_of(joined))
    (state,) = ends
    return state


A, O = Side.ASKER, Side.OWNER  # noqa: E741 - a table's columns


@pytest.mark.parametrize("end", [Withdraw(), Close(Disposition.NO_USE)])
def test_release_that_crosses_the_end_is_kept_and_called_late(end: Body) -> None:
    state = crossing([(A, ASK)], [end], [RELEASE])
    assert state.phase.value == ("withdrawn" if isinstance(end, Withdraw) else "closed")
    assert [told.late for told in state.releases] == [True]


def test_release_that_was_seen_before_the_close_is_not_late() -> None:
    state = crossing([(A, ASK), (O, RELEASE), (A, Close(Disposition.USEFUL))], [], [])
    assert [told.late for told in state.releases] == [False]


@pytest.mark.parametrize("answer", [Acknowledge(), Refuse(RefusalReason.LAW)])
def test_answer_that_crosses_a_withdrawal_changes_nothing(answer: Body) -> None:
    assert crossing([(A, ASK)], [Withdraw()], [answer]).phase.value == "withdrawn"


def test_answer_to_the_first_ask_leaves_a_second_that_crossed_it_open() -> None:
    urgent = replace(ASK, urgency=AskUrgency.LIFE_AT_RISK)
    state = crossing([(A, ASK)], [urgent], [RELEASE])
    assert (state.phase.value, state.urgency, len(state.releases)) == ("asked", AskUrgency.LIFE_AT_RISK, 1)
    assert state.open == set(ASK.wanted)


def test_false_match_and_release_that_cross_both_stand() -> None:
    state = crossing([(A, ASK)], [NotTheSame()], [RELEASE])
    assert state.phase.value == "released"
    assert [(label.side, label.authors) for label in state.false_matches] == [(A, (HOLDER.pseudonym,))]


def test_release_that_crosses_a_hand_over_stands_and_the_case_has_its_new_holder() -> None:
    state = crossing([(A, ASK)], [HAND_OVER], [RELEASE])
    assert (state.phase.value, state.holder) == ("released", SUCCESSOR)


def test_everything_wanted_and_given_settles_though_more_was_announced() -> None:
    everything = replace(PARTIAL, given=ASK.wanted)
    assert crossing([(A, ASK), (O, everything)], [], []).phase.value == "released"


def test_rest_that_is_given_later_settles() -> None:
    rest = replace(PARTIAL, given=(Detail.CASE_STATE,))
    assert crossing([(A, ASK), (O, PARTIAL)], [], []).open == {Detail.CASE_STATE}
    assert crossing([(A, ASK), (O, PARTIAL), (O, rest)], [], []).phase.value == "released"


def test_release_after_a_refusal_names_the_phase() -> None:
    assert crossing([(A, ASK), (O, Refuse(RefusalReason.LAW)), (O, RELEASE)], [], []).phase.value == "released"


def test_withdrawal_of_a_later_ask_makes_no_answer_to_the_first_late() -> None:
    urgent = replace(ASK, urgency=AskUrgency.LIFE_AT_RISK)
    state = crossing([(A, ASK)], [urgent, Withdraw()], [RELEASE])
    assert (state.phase.value, [told.late for told in state.releases]) == ("withdrawn", [False])


def test_correction_stands_after_closing() -> None:
    state = crossing([(A, ASK), (O, RELEASE)], [Close(Disposition.USEFUL)], [Correct(1, Correction.WRONG)])
    assert (state.phase.value, state.releases[0].correction) == ("closed", Correction.WRONG)
