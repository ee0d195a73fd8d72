"""The breaker leaves a failing node alone, tries it with one lookup, and never for ever."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from vidfed.federation.nodes.breaker import Breaker, BreakerRules, BreakerState, Ticket

RULES = BreakerRules(failures=3, open_s=10.0, open_max_s=60.0)
CLOSED, OPEN, HALF_OPEN = BreakerState


def breaker(chance: float = 0.0) -> Breaker:
    return Breaker(RULES, lambda: chance)


def fail(it: Breaker, now_s: float, times: int = 1) -> None:
    for _ in range(times):
        ticket = it.admit(now_s)
        assert ticket is not None
        it.report(ticket, good=False, now_s=now_s)


def opened(now_s: float = 0.0) -> Breaker:
    it = breaker()
    fail(it, now_s, RULES.failures)
    return it


def test_it_opens_after_as_many_failures_in_a_row_as_the_rules_say_and_not_before() -> None:
    it = breaker()
    fail(it, 0.0, RULES.failures - 1)
    assert it.state(0.0) is CLOSED
    fail(it, 0.0)
    assert it.state(0.0) is OPEN
    assert it.admit(9.9) is None


def test_a_success_between_failures_begins_the_count_anew() -> None:
    it = breaker()
    for _ in range(10):
        fail(it, 0.0, RULES.failures - 1)
        ticket = it.admit(0.0)
        assert ticket
        it.report(ticket, good=True, now_s=0.0)
    assert it.state(0.0) is CLOSED


def test_what_taught_nothing_counts_for_nothing() -> None:
    it = breaker()
    for _ in range(10):
        ticket = it.admit(0.0)
        assert ticket
        it.report(ticket, good=None, now_s=0.0)
    assert (it.state(0.0), it.failures) == (CLOSED, 0)


def test_after_the_pause_one_probe_goes_through_at_a_time() -> None:
    it = opened()
    assert it.state(10.0) is HALF_OPEN
    probe = it.admit(10.0)
    assert probe
    assert it.admit(10.0) is None
    it.report(probe, good=True, now_s=11.0)
    assert it.state(11.0) is CLOSED
    assert it.admit(11.0)
    assert it.admit(11.0)


def test_a_probe_that_is_given_up_makes_room_for_another() -> None:
    it = opened()
    probe = it.admit(10.0)
    assert probe
    it.report(probe, good=None, now_s=10.5)
    assert it.admit(10.5)


def test_each_failed_probe_doubles_the_pause_up_to_the_longest() -> None:
    it, now_s = opened(), 0.0
    pauses = []
    for _ in range(6):
        pauses.append(it.open_until_s - now_s)
        now_s = it.open_until_s
        fail(it, now_s)
    assert pauses == [10.0, 20.0, 40.0, 60.0, 60.0, 60.0]


def test_a_success_makes_the_next_pause_short_again() -> None:
    it = opened()
    fail(it, 10.0)
    probe = it.admit(30.0)
    assert probe
    it.report(probe, good=True, now_s=30.0)
    fail(it, 30.0, RULES.failures)
    assert it.open_until_s == 40.0


def test_chance_shortens_a_pause_by_a_fifth_at_most() -> None:
    it = breaker(chance=1.0)
    fail(it, 0.0, RULES.failures)
    assert it.open_until_s == 8.0


def test_urgent_lookups_are_tried_while_it_is_open_and_only_their_success_says_something() -> None:
    it = opened()
    ticket = it.admit(1.0, urgent=True)
    assert ticket
    it.report(ticket, good=False, now_s=2.0)
    assert it.open_until_s == 10.0
    ticket = it.admit(3.0, urgent=True)
    assert ticket
    it.report(ticket, good=True, now_s=4.0)
    assert it.state(4.0) is CLOSED


def test_reports_about_lookups_from_before_it_opened_change_nothing() -> None:
    it = breaker()
    early = [it.admit(0.0) for _ in range(2 * RULES.failures)]
    for ticket in early[: RULES.failures]:
        assert ticket
        it.report(ticket, good=False, now_s=1.0)
    until_s = it.open_until_s
    for ticket, good in zip(early[RULES.failures :], (True, False, None), strict=True):
        assert ticket
        it.report(ticket, good=good, now_s=2.0)
    assert it.state(2.0) is OPEN
    assert it.open_until_s == until_s


class AnyOrder(RuleBasedStateMachine):
    """Lookups that come, end and are given up in any order, at any time."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(RULES, lambda: 0.5)
        self.now_s = 0.0
        self.out: list[Ticket] = []

    @rule(target=tickets, urgent=st.booleans())
    def ask(self, urgent: bool) -> Ticket | None:
        state = self.breaker.state(self.now_s)
        ticket = self.breaker.admit(self.now_s, urgent=urgent)
        assert ticket is not None or (state is not CLOSED and not urgent)
        assert state is not OPEN or ticket is None or urgent
        if ticket:
            self.out.append(ticket)
        return ticket

    @rule(ticket=consumes(tickets), good=st.sampled_from([True, False, None]))
    def end(self, ticket: Ticket | None, good: bool | None) -> None:
        if ticket is None:
            return
        before = self.breaker.state(self.now_s)
        self.breaker.report(ticket, good=good, now_s=self.now_s)
        self.out.remove(ticket)
        after = self.breaker.state(self.now_s)
        assert after is before or (good is True and after is CLOSED) or (good is False and after is OPEN)

    @rule(elapsed_s=st.floats(0.0, 100.0))
    def wait(self, elapsed_s: float) -> None:
        self.now_s += elapsed_s

    @precondition(lambda self: self.breaker.state(self.now_s) is not CLOSED)
    @rule()
    def a_pause_ends(self) -> None:
        assert self.breaker.open_until_s - self.now_s <= RULES.open_max_s

    @invariant()
    def at_most_one_probe_is_out(self) -> None:
        assert sum(ticket.probe and ticket is self.breaker._probe for ticket in self.out) <= 1
        assert self.breaker._probe is None or self.breaker._probe in self.out

    @invariant()
    def it_counts_failures_only_up_to_the_rule(self) -> None:
        assert self.breaker.failures <= RULES.failures


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
