"""Why a member would or would not be told of a record, step by step, by the same decisions as the lookup pipeline takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from vidfed.index import Algorithm
from vidfed.node.policy.policy import Check

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from vidfed.node.policy.policy import Policy, Requester, Rule
    from vidfed.node.records.lifecycle import StoredRecord

SCHEMA = "vidfed.policy-explanation/1"


@dataclass(frozen=True, slots=True)
class Explanation:
    """All steps for one asker and one record; the record is told if every step passes."""

    member: str
    roles: tuple[str, ...]
    purpose: str
    reference: str
    rule: str | None
    steps: tuple[Check, ...]

    @property
    def told(self) -> bool:
        """Tell whether the member would be told of the record if it asked about it."""
        return all(step.passed for step in self.steps)

    @property
    def verdict(self) -> str:
        """Say what the member would get."""
        if self.told:
            return f"{self.member} is told of {self.reference}"
        if self.rule is None:
            return f"{self.member} is refused whatever it asks for this purpose"
        failed = next(step.name for step in self.steps if not step.passed)
        return f"to {self.member} it looks like no hit ({failed})"

    def to_fields(self) -> dict[str, object]:
        """Return the JSON form."""
        steps = [step._asdict() for step in self.steps]
        return {"schema": SCHEMA} | asdict(self) | {"steps": steps, "told": self.told, "verdict": self.verdict}

    def lines(self) -> Iterator[str]:
        """Yield the explanation for people."""
        who = f"{self.member}, {', '.join(self.roles) or 'no role'}, {self.purpose}"
        yield f"{who}: record {self.reference}"
        for step in self.steps:
            yield f"  {'yes' if step.passed else 'NO':<4} {step.name:<12} {step.said}"
        yield f"  => {self.verdict}"


def explain(policy: Policy, asker: Requester, kept: StoredRecord, members: Collection[str] | None) -> Explanation:
    """Take every step for one asker and one record.

    Args:
        policy: in force.
        asker: who would ask.
        kept: the record, whatever its state.
        members: ids in the trust directory; None where it cannot be read.
    """
    steps = []
    if members is not None:
        listed = asker.member in members
        steps.append(Check("directory", listed, "in the trust directory" if listed else f"not in the trust directory: {asker.member}"))
    rule = policy.decide(asker)
    if rule is None:
        reasons = "; ".join(f"{each.name}: {each.mismatch(asker)}" for each in policy.rules)
        steps.append(Check("rule", passed=False, said=reasons or "the policy has no rule"))
    else:
        passed_over = "".join(f"; not {each.name}: {each.mismatch(asker)}" for each in policy.rules[: policy.rules.index(rule)])
        steps += [
            Check("rule", passed=True, said=rule.name + passed_over),
            Check("state", kept.state == "live", kept.state),
            _search(rule, kept),
        ]
        steps += rule.checks(asker.member, kept.record)
    return Explanation(
        asker.member,
        tuple(sorted(asker.roles)),
        asker.purpose.code,
        kept.record.reference,
        rule.name if rule else None,
        tuple(steps),
    )


def _search(rule: Rule, kept: StoredRecord) -> Check:
    """Say by which of the record's hashes it can be found at all, and how far off."""
    reached = {each: rule.reach(each, each.maximum_distance) for each in Algorithm if each in kept.record.hashes}
    ways = [f"{each.label}{f' up to {reach}' if reach else ''}" for each, reach in reached.items() if reach is not None]
    not_allowed = [each.label for each, reach in reached.items() if reach is None]
    said = f"found by {', '.join(ways) or 'nothing'}" + (f"; not allowed: {', '.join(not_allowed)}" if not_allowed else "")
    return Check("search", bool(ways), said)
