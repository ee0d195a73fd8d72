"""Quotas: each member's own, for each rule, over restarts and for all processes of a node together."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.disk import full_disk
from vidfed.node.errors import QuotasError, RateLimitedError
from vidfed.node.policy.policy import Limits
from vidfed.node.policy.quotas import Budget, Charge, Quotas
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
def quotas(tmp_path: Path) -> Iterator[Quotas]:
    made = Quotas(tmp_path / "quotas.db")
    yield made
    made.close()


def spend(
    quotas: Quotas, hashes: int = 1, *, lookups: int = 1, at: int = NOW, member: str = "nl", rule: str = "one", urgent: bool = False
) -> Budget:
    return spent(quotas, Charge(member, rule, LIMITS, lookups, hashes, urgent), at)


def spent(quotas: Quotas, charge: Charge, at: int = NOW) -> Budget:
    """Spend one charge; raise why it is refused."""
    (budget,) = quotas.spend([charge], at)
    if isinstance(budget, RateLimitedError):
        raise budget
    return budget


def test_a_member_s_minute_is_its_own_and_ends(quotas: Quotas) -> None:
    spend(quotas, 10)
    with pytest.raises(RateLimitedError, match="more than 10 hashes in a minute; again in 60 s"):
        spend(quotas)
    spend(quotas, 10, member="fr")
    spend(quotas, 10, rule="two")
    spend(quotas, 10, at=NOW + MINUTE_MS)


def test_lookups_are_counted_beside_hashes(quotas: Quotas) -> None:
    for _ in range(3):
        spend(quotas)
    with pytest.raises(RateLimitedError, match="more than 3 lookups in a minute; again in 1 s"):
        spend(quotas, at=NOW + MINUTE_MS - 1)
    spend(quotas, lookups=0)


def test_a_day_ends_at_midnight(quotas: Quotas) -> None:
    for minute in range(5):
        spend(quotas, at=NOW + minute * MINUTE_MS)
    with pytest.raises(RateLimitedError, match="more than 5 lookups in a day"):
        spend(quotas, at=NOW + 5 * MINUTE_MS)
    spend(quotas, at=NOW + DAY_MS)


def test_a_question_larger_than_what_is_left_spends_nothing(quotas: Quotas) -> None:
    with pytest.raises(RateLimitedError):
        spend(quotas, 11)
    spend(quotas, 10)


def test_of_charges_that_come_together_each_is_paid_whole_or_not_at_all(quotas: Quotas) -> None:
    sizes = (6, 5, 4, 1)
    paid_by = quotas.spend([Charge("nl", "one", LIMITS, lookups=1, hashes=size) for size in sizes], NOW)
    assert [budget if isinstance(budget, Budget) else str(budget) for budget in paid_by] == [
        Budget.ORDINARY,
        "more than 10 hashes in a minute; again in 60 s",
        Budget.ORDINARY,
        "more than 10 hashes in a minute; again in 60 s",
    ]
    assert spend(quotas, 10, member="fr") is Budget.ORDINARY
    assert spend(quotas, 10, at=NOW + MINUTE_MS) is Budget.ORDINARY
    with pytest.raises(RateLimitedError, match="more than 25 hashes in a day"):
        spend(quotas, 6, at=NOW + 2 * MINUTE_MS)


def test_a_life_at_risk_is_answered_although_the_ordinary_budget_is_spent(quotas: Quotas) -> None:
    assert spend(quotas, 10, urgent=True) is Budget.ORDINARY
    assert spend(quotas, 2, urgent=True) is Budget.URGENT
    with pytest.raises(RateLimitedError):
        spend(quotas, 2)
    assert spend(quotas, 2, urgent=True) is Budget.URGENT
    with pytest.raises(RateLimitedError, match="more than 2 urgent lookups in a day"):
        spend(quotas, 1, urgent=True)


def test_without_an_urgent_budget_the_ordinary_one_is_all_there_is(quotas: Quotas) -> None:
    none = Limits(hashes_per_minute=1, urgent_lookups_per_day=0)
    with pytest.raises(RateLimitedError, match="more than 1 hashes in a minute"):
        spent(quotas, Charge("nl", "one", none, lookups=1, hashes=2, urgent=True))


def test_a_restart_forgives_nothing(quotas: Quotas, tmp_path: Path) -> None:
    spend(quotas, 10)
    quotas.close()
    again = Quotas(tmp_path / "quotas.db")
    with pytest.raises(RateLimitedError):
        spend(again)
    again.close()


SPENDER = """
import sys, pathlib
from vidfed.node.policy.policy import Limits
from vidfed.node.policy.quotas import Budget, Charge, Quotas
quotas, granted = Quotas(pathlib.Path(sys.argv[1])), 0
sys.stdin.readline()
while quotas.spend([Charge("nl", "one", Limits(hashes_per_minute=100), lookups=1, hashes=1)], int(sys.argv[2])) == [Budget.ORDINARY]:
    granted += 1
print(granted)
"""


def test_several_processes_share_one_budget(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SPENDER, str(tmp_path / "quotas.db"), str(NOW)]
    spenders = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sum(int(spender.communicate("go\n")[0]) for spender in spenders) == 100


def test_what_cannot_be_counted_is_not_answered(quotas: Quotas, tmp_path: Path) -> None:
    with full_disk(), pytest.raises(QuotasError):
        spend(quotas)
    (tmp_path / "broken.db").write_bytes(b"no database" * 500)
    with pytest.raises(QuotasError):
        Quotas(tmp_path / "broken.db")


def test_a_day_s_refusal_leaves_the_minute_untouched(quotas: Quotas) -> None:
    spend(quotas, 10)
    spend(quotas, 10, at=NOW + MINUTE_MS)
    with pytest.raises(RateLimitedError, match="more than 25 hashes in a day"):
        spend(quotas, 8, at=NOW + 2 * MINUTE_MS)
    spend(quotas, 5, at=NOW + 2 * MINUTE_MS)  # with the eight counted it would be more than ten in a minute


def test_urgent_hashes_have_their_own_bound(quotas: Quotas) -> None:
    spend(quotas, 10)
    assert spend(quotas, 4, urgent=True) is Budget.URGENT
    with pytest.raises(RateLimitedError, match="more than 4 urgent hashes in a day"):
        spend(quotas, 1, urgent=True)
