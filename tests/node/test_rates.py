"""Budgets: each member's own, for each rule, over restarts and for all processes of a node together."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.disk import full_disk
from vidfed.node.errors import BudgetsError, RateLimitedError
from vidfed.node.policy.policy import Limits
from vidfed.node.policy.quotas import Budgets, Charge, Lane
from vidfed.security.clock import DAY_MS, MINUTE_MS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = 1_800_000_000_000 - 1_800_000_000_000 % DAY_MS
LIMITS = Limits(
    lookups_per_minute=3,
    hashes_per_minute=10,
    lookups_per_day=5,
    hashes_per_day=25,
    urgent_lookups_per_day=2,
    urgent_hashes_per_day=4,
)


@pytest.fixture
def budgets(tmp_path: Path) -> Iterator[Budgets]:
    made = Budgets(tmp_path / "rates.db")
    yield made
    made.close()


def spend(
    budgets: Budgets, hashes: int = 1, *, lookups: int = 1, at: int = NOW, member: str = "nl", rule: str = "one", urgent: bool = False
) -> Lane:
    return spent(budgets, Charge(member, rule, LIMITS, lookups, hashes, urgent), at)


def spent(budgets: Budgets, charge: Charge, at: int = NOW) -> Lane:
    """Spend one charge; raise why it is refused."""
    (lane,) = budgets.spend([charge], at)
    if isinstance(lane, RateLimitedError):
        raise lane
    return lane


def test_a_member_s_minute_is_its_own_and_ends(budgets: Budgets) -> None:
    spend(budgets, 10)
    with pytest.raises(RateLimitedError, match="more than 10 hashes in a minute; again in 60 s"):
        spend(budgets)
    spend(budgets, 10, member="fr")
    spend(budgets, 10, rule="two")
    spend(budgets, 10, at=NOW + MINUTE_MS)


def test_lookups_are_counted_beside_hashes(budgets: Budgets) -> None:
    for _ in range(3):
        spend(budgets)
    with pytest.raises(RateLimitedError, match="more than 3 lookups in a minute; again in 1 s"):
        spend(budgets, at=NOW + MINUTE_MS - 1)
    spend(budgets, lookups=0)


def test_a_day_ends_at_midnight(budgets: Budgets) -> None:
    for minute in range(5):
        spend(budgets, at=NOW + minute * MINUTE_MS)
    with pytest.raises(RateLimitedError, match="more than 5 lookups in a day"):
        spend(budgets, at=NOW + 5 * MINUTE_MS)
    spend(budgets, at=NOW + DAY_MS)


def test_a_question_larger_than_what_is_left_spends_nothing(budgets: Budgets) -> None:
    with pytest.raises(RateLimitedError):
        spend(budgets, 11)
    spend(budgets, 10)


def test_of_charges_that_come_together_each_is_paid_whole_or_not_at_all(budgets: Budgets) -> None:
    sizes = (6, 5, 4, 1)
    lanes = budgets.spend([Charge("nl", "one", LIMITS, lookups=1, hashes=size) for size in sizes], NOW)
    assert [lane if isinstance(lane, Lane) else str(lane) for lane in lanes] == [
        Lane.ORDINARY,
        "more than 10 hashes in a minute; again in 60 s",
        Lane.ORDINARY,
        "more than 10 hashes in a minute; again in 60 s",
    ]
    assert spend(budgets, 10, member="fr") is Lane.ORDINARY
    assert spend(budgets, 10, at=NOW + MINUTE_MS) is Lane.ORDINARY
    with pytest.raises(RateLimitedError, match="more than 25 hashes in a day"):
        spend(budgets, 6, at=NOW + 2 * MINUTE_MS)


def test_a_life_at_risk_is_answered_although_the_ordinary_budget_is_spent(budgets: Budgets) -> None:
    assert spend(budgets, 10, urgent=True) is Lane.ORDINARY
    assert spend(budgets, 2, urgent=True) is Lane.URGENT
    with pytest.raises(RateLimitedError):
        spend(budgets, 2)
    assert spend(budgets, 2, urgent=True) is Lane.URGENT
    with pytest.raises(RateLimitedError, match="more than 2 urgent lookups in a day"):
        spend(budgets, 1, urgent=True)


def test_without_an_urgent_budget_the_ordinary_one_is_all_there_is(budgets: Budgets) -> None:
    none = Limits(hashes_per_minute=1, urgent_lookups_per_day=0)
    with pytest.raises(RateLimitedError, match="more than 1 hashes in a minute"):
        spent(budgets, Charge("nl", "one", none, lookups=1, hashes=2, urgent=True))


def test_a_restart_forgives_nothing(budgets: Budgets, tmp_path: Path) -> None:
    spend(budgets, 10)
    budgets.close()
    again = Budgets(tmp_path / "rates.db")
    with pytest.raises(RateLimitedError):
        spend(again)
    again.close()


SPENDER = """
import sys, pathlib
from vidfed.node.policy.policy import Limits
from vidfed.node.policy.quotas import Budgets, Charge, Lane
budgets, granted = Budgets(pathlib.Path(sys.argv[1])), 0
sys.stdin.readline()
while budgets.spend([Charge("nl", "one", Limits(hashes_per_minute=100), lookups=1, hashes=1)], int(sys.argv[2])) == [Lane.ORDINARY]:
    granted += 1
print(granted)
"""


def test_several_processes_share_one_budget(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SPENDER, str(tmp_path / "rates.db"), str(NOW)]
    spenders = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sum(int(spender.communicate("go\n")[0]) for spender in spenders) == 100


def test_what_cannot_be_counted_is_not_answered(budgets: Budgets, tmp_path: Path) -> None:
    with full_disk(), pytest.raises(BudgetsError):
        spend(budgets)
    (tmp_path / "broken.db").write_bytes(b"no database" * 500)
    with pytest.raises(BudgetsError):
        Budgets(tmp_path / "broken.db")
