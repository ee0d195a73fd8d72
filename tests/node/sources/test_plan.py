"""What a run's statements mean, when it is looked at next, and what is too much to be believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidfed.node.sources.comparison.plan import ALWAYS_LOST, Comparison, Known, RunReport, Seen, check_losses
from vidfed.node.sources.errors import SuspiciousError
from vidfed.node.sources.rows.statement import Kind, Statement
from vidfed.node.sources.schedule.times import FIRST_RETRY_S, Run, is_full_due, next_ms, pause_s


def live(key: str, what: int = 1) -> Statement:
    return Statement(key, codes={"md5": bytes([what]) * 16}, fingerprint=bytes([what]) * 16)


def compared(statements: list[Statement], known: dict[str, Known]) -> tuple[list[str], RunReport]:
    report = RunReport()
    comparison = Comparison(report, Seen(100))
    return [each.key for each in comparison.changes(statements, known)], report


def test_only_what_is_new_or_differs_is_to_be_done() -> None:
    known = {"a": Known(1, b"\x01" * 16, is_live=True), "b": Known(2, b"\x09" * 16, is_live=True)}
    done, report = compared([live("a"), live("b"), live("c")], known)
    assert done == ["b", "c"]
    assert (report.unchanged, report.changed, report.new) == (1, 1, 1)


def test_a_record_that_was_retracted_comes_back_though_its_statement_is_the_same() -> None:
    done, report = compared([live("a")], {"a": Known(1, b"\x01" * 16, is_live=False)})
    assert done == ["a"]
    assert (report.changed, report.back) == (1, 1)


def test_a_record_that_was_erased_here_is_never_taken_in_again() -> None:
    done, report = compared([live("a")], {"a": Known(1, b"", is_live=False, is_erased=True)})
    assert not done
    assert report.erased == 1


def test_a_row_that_lost_its_hash_takes_its_record_back_and_counts_as_lost() -> None:
    broken = Statement("a", Kind.UNUSABLE, notes=["no usable hash"])
    done, report = compared([broken], {"a": Known(1, b"\x01" * 16, is_live=True)})
    assert done == ["a"]
    assert (report.lost_hashes, report.passed_over, report.lost) == (1, 1, 1)


def test_a_deletion_that_matches_nothing_is_counted() -> None:
    done, report = compared([Statement("a", Kind.DELETED)], {})
    assert not done
    assert report.unmatched_deletions == 1


def test_a_key_that_occurs_twice_keeps_the_first_rows_word() -> None:
    done, report = compared([live("a", 1), live("a", 2)], {})
    assert done == ["a"]
    assert report.repeated == 1


def test_a_known_key_far_away_from_its_first_row_is_found_too() -> None:
    report = RunReport()
    comparison = Comparison(report, Seen(100))
    known = {"a": Known(1, b"\x01" * 16, is_live=True)}
    assert not list(comparison.changes([live("a")], known))
    for number in range(3):
        list(comparison.changes([live(f"b{number}")], {}))
    assert not list(comparison.changes([live("a", 2)], known))
    assert report.repeated == 1


def lost(count: int) -> RunReport:
    return RunReport(vanished=count)


def test_a_few_records_may_always_go() -> None:
    check_losses(lost(ALWAYS_LOST), 100)


@pytest.mark.parametrize(("count", "total"), [(1, 1), (20, 20), (21, 400), (51, 1000), (1000, 1000)])
def test_all_of_them_or_many_at_once_are_asked_about(count: int, total: int) -> None:
    with pytest.raises(SuspiciousError, match=f"{count} of {total} records"):
        check_losses(lost(count), total)
    check_losses(lost(count), total, accepted=True)


def test_exactly_the_share_is_believed() -> None:
    check_losses(lost(50), 1000)


def test_every_kind_of_loss_counts_together() -> None:
    with pytest.raises(SuspiciousError, match="8 vanished, 7 deleted, 6 without a usable hash"):
        check_losses(RunReport(vanished=8, deleted=7, lost_hashes=6), 100)


@given(st.floats(0, 1), st.integers(0, 60), st.floats(30, 10**6))
def test_a_pause_is_never_nothing_and_never_for_ever(chance: float, failures: int, every_s: float) -> None:
    pause = pause_s(every_s, failures, chance)
    assert 0.9 * min(every_s, FIRST_RETRY_S) <= pause <= 1.1 * max(every_s, 3600.0) + 1e-6


def test_failures_make_the_pauses_longer() -> None:
    pauses = [pause_s(900.0, failures, 0.5) for failures in range(1, 9)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (60.0, 3600.0)


def test_a_source_that_asked_to_be_left_alone_is() -> None:
    assert next_ms(Run(1_000, failures=1, not_before_ms=10**9), 900.0, 0.5) == 10**9


def test_a_source_never_looked_at_is_due_at_once() -> None:
    assert next_ms(Run(), 900.0, 0.5) == 0


def test_a_full_comparison_is_due_after_its_time_and_when_the_clock_was_put_back() -> None:
    assert is_full_due(0, 100.0, 1)
    assert not is_full_due(1_000, 100.0, 100_999)
    assert is_full_due(1_000, 100.0, 101_000)
    assert is_full_due(5_000, 100.0, 4_000)
