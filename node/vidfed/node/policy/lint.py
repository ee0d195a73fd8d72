"""What a policy says and perhaps does not mean: rules that never decide, words that no live record has. Warnings, not errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.node.records.lifecycle import words_in_use

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidfed.node.policy.policy import Policy, Rule
    from vidfed.node.records.lifecycle import WordsInUse
    from vidfed.node.records.store import RecordStore


def lint(store: RecordStore, policy: Policy) -> Iterator[str]:
    """Yield a sentence for the operator about each likely mistake.

    Raises:
        StoreError: the store cannot be read.
    """
    for rule, earlier in policy.unreachable():
        yield f"rule {rule.name} never decides: rule {earlier.name} above it is for everybody and everything it is for"
    if policy.rules:
        in_use = words_in_use(store, tags=any(rule.withheld_tags for rule in policy.rules))
        for rule in policy.rules:
            yield from _unknown_words(rule, in_use)


def _unknown_words(rule: Rule, in_use: WordsInUse) -> Iterator[str]:
    """Yield what a rule names that no live record has: perhaps a typo."""
    for name in sorted(rule.withheld_series - in_use.series):
        yield f"rule {rule.name}: withheld_series: no record is of the series {name!r}"
    for name in sorted(rule.withheld_tags - in_use.tags):
        yield f"rule {rule.name}: withheld_tags: no record has the tag {name!r}"
    for name in sorted({category.scale for category in rule.categories or ()} - in_use.scales):
        yield f"rule {rule.name}: categories: no record has a category of the scale {name!r}"
