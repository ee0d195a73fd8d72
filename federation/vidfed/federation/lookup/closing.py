"""The closing line of every lookup, and whether it is complete. Pure, and the only place where either is decided.

The grammar, in this order; a clause with nothing to say is left out:

    line    = verdict {"; " clause} "."
    verdict = "COMPLETE" | "COMPLETE for " N " of " M " " noun | "COMPLETE for what was asked" | "INCOMPLETE" | "NOTHING ASKED"
    clause  = N " not asked"                                                      files or entries that no member was asked about
            | "broken off after " N " " noun
            | "nobody was asked"
            | "only " names " asked; " N " members were not (" names ")"           chosen by who asked
            | "left out " N " (" name ": " why {", " ...} ")"                      by the trust directory
            | "answered " N ", refused by policy " N [" (" names ")"] ", no answer " N [" (" name ": " why {", " ...} ")"]
            | "what they hold is not known"                                       where a member was left out, refused or silent
            | N " of " M " " noun " not answered by every member"                  in bulk
            | N " by exact copies only" | N " without their further frames" | N " in part"
            | algorithm ": few of the records of " names                           what cannot be found by it
            | names " answered by a newer trust directory: members may be missing here"
            | "answered on " time | "answered from " time " to " time
            | "every answer verified"

A result is *complete* if everything named was asked about in full, every member the directory delegates to was asked, and each gave a
signed answer to the whole question. *Limited*: every member asked gave one, and less was asked than that. Else it is *incomplete*.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import TYPE_CHECKING

from vidfed.federation.lookup.outcome import Outcome
from vidfed.federation.lookup.question import Shortfall
from vidfed.index import Algorithm
from vidfed.security.clock import DAY_MS, as_text
from vidfed.wire.values import Share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from vidfed.federation.lookup.outcome import NodeOutcome

    Say = Callable[..., str]

OLD_ANSWER_MS = DAY_MS
"""Answers older than this limit a result: the members' records have changed since."""
MAX_NAMES = 12
"""So many members are named in one clause; the table and the result files name all."""


@unique
class Verdict(Enum):
    """What a lookup came to; its value is the name for scripts."""

    COMPLETE = "complete"
    LIMITED = "limited"
    INCOMPLETE = "incomplete"
    REFUSED = "refused"
    NOTHING_ASKED = "nothing-asked"


@unique
class Limit(Enum):
    """Why a result is not complete although every member that was asked answered; its value is the name for scripts."""

    NOT_ASKED = "not-asked"
    EXACT_ONLY = "exact-only"
    FRAMES_CUT = "frames-cut"
    PARTLY_DECODED = "partly-decoded"
    MEMBERS_CHOSEN = "members-chosen"
    COVERAGE = "coverage"
    EARLIER = "answered-earlier"


@dataclass(frozen=True, slots=True)
class Subject:
    """What a lookup was about.

    Attributes:
        asked: items, files or entries asked about.
        not_asked: those that could not be asked about.
        noun: what they are called, in the plural.
        shortfalls: how many of those asked were asked about less than they could have been, and how.
        bare_digests: how many of those asked are digests and nothing else.
        unanswered: how many some member did not answer, where that is known for each; 0 elsewhere.
        whole: False if asking was broken off.
    """

    asked: int
    not_asked: int = 0
    noun: str = "items"
    shortfalls: Mapping[Shortfall, int] | None = None
    bare_digests: int = 0
    unanswered: int = 0
    whole: bool = True

    def count(self, shortfall: Shortfall) -> int:
        """Return how many were asked about less in this way."""
        return (self.shortfalls or {}).get(shortfall, 0)


@dataclass(frozen=True, slots=True)
class Answered:
    """When the answers of a result were given, in ms since the epoch, and whether that is to be told.

    Attributes:
        first_ms, last_ms: the oldest and the newest.
        earlier: True if some are of an earlier run.
        limits: True if that is more than a remark: none is of this run, or some are older than OLD_ANSWER_MS.
    """

    first_ms: int
    last_ms: int
    earlier: bool = True
    limits: bool = True

    @classmethod
    def between(cls, first_ms: int, last_ms: int, *, begun_ms: int, now_ms: int) -> Answered:
        """Judge the times of all answers by when this run began."""
        old = now_ms - first_ms > OLD_ANSWER_MS
        return cls(first_ms, last_ms, first_ms < begun_ms, old or last_ms < begun_ms)


@dataclass(frozen=True, slots=True)
class Closing:
    """What there is to say at the end. Make it with `close`."""

    subject: Subject
    nodes: tuple[NodeOutcome, ...]
    answered_at: Answered | None = None
    newer: tuple[str, ...] = ()

    @property
    def asked(self) -> list[NodeOutcome]:
        """The members that were asked."""
        return [node for node in self.nodes if node.outcome.asked]

    @property
    def answered(self) -> list[NodeOutcome]:
        """Those that gave a signed answer to the whole question."""
        return [node for node in self.nodes if node.outcome.answered]

    @property
    def refused_by_policy(self) -> list[NodeOutcome]:
        """Those that said, signed, that they do not answer this."""
        return [node for node in self.nodes if node.refused_by_policy and not node.outcome.answered]

    @property
    def silent(self) -> list[NodeOutcome]:
        """Those that were asked and gave no whole answer, for whatever other reason."""
        return [node for node in self.asked if not node.outcome.answered and not node.refused_by_policy]

    @property
    def left_out(self) -> list[NodeOutcome]:
        """Those that the directory leaves out."""
        return [node for node in self.nodes if node.outcome is Outcome.NOT_ASKED]

    @property
    def not_tried(self) -> list[NodeOutcome]:
        """Those that were not asked, for whichever of the two reasons."""
        return [node for node in self.nodes if not node.outcome.asked]

    @property
    def not_chosen(self) -> list[NodeOutcome]:
        """Those that the asker did not choose."""
        return [node for node in self.nodes if node.outcome is Outcome.NOT_CHOSEN]

    @property
    def may_still_come(self) -> bool:
        """True if an answer may be on its way, so that it is worth fetching later."""
        return any(node.may_still_come for node in self.silent)

    @property
    def worth_asking_again(self) -> bool:
        """True if asking again may bring what is missing: somebody was silent, or not everything was asked."""
        return bool(self.silent) or not self.subject.whole

    @property
    def few(self) -> dict[Algorithm, list[str]]:
        """Members of whose records few can be found by an algorithm by which they were searched."""
        found: dict[Algorithm, list[str]] = {}
        for node in self.answered:
            for each in node.index.searched if node.index else ():
                if each.share is Share.FEW and each.algorithm.is_perceptual:
                    found.setdefault(each.algorithm, []).append(node.member)
        return {algorithm: found[algorithm] for algorithm in Algorithm if algorithm in found}

    @property
    def verdict(self) -> Verdict:
        """What the lookup came to."""
        if not self.subject.asked:
            return Verdict.NOTHING_ASKED
        if self.asked and all(node.outcome.refused for node in self.asked):
            return Verdict.REFUSED
        if not self.subject.whole or not self.asked or self.silent or self.refused_by_policy or self.left_out or self.newer:
            return Verdict.INCOMPLETE
        if self.subject.unanswered:
            return Verdict.INCOMPLETE
        return Verdict.LIMITED if self.limits else Verdict.COMPLETE

    @property
    def complete(self) -> bool:
        """True only if "no hit" may be said of everything named, of every member, by everything that was compared."""
        return self.verdict is Verdict.COMPLETE

    @property
    def limits(self) -> tuple[Limit, ...]:
        """By what it is less than complete, apart from members that did not answer."""
        subject = self.subject
        holds = {
            Limit.NOT_ASKED: subject.not_asked,
            Limit.EXACT_ONLY: subject.count(Shortfall.EXACT_ONLY),
            Limit.FRAMES_CUT: subject.count(Shortfall.FRAMES),
            Limit.PARTLY_DECODED: subject.count(Shortfall.PART),
            Limit.MEMBERS_CHOSEN: self.not_chosen,
            Limit.COVERAGE: self.few,
            Limit.EARLIER: self.answered_at is not None and self.answered_at.limits,
        }
        return tuple(limit for limit, there in holds.items() if there)

    @property
    def line(self) -> str:
        """The line for people."""
        return self.said(in_english)

    def said(self, say: Say) -> str:
        """Return the line in a language: `say` gives a text of it with its values filled in. Names and reasons stay as they came."""
        return "; ".join([self._head(say), *self._clauses(say)]) + "."

    def _head(self, say: Say) -> str:
        subject, verdict = self.subject, self.verdict
        if verdict is Verdict.NOTHING_ASKED:
            return say("NOTHING ASKED")
        if verdict is Verdict.COMPLETE:
            return say("COMPLETE")
        if verdict is not Verdict.LIMITED:
            return say("INCOMPLETE")
        if subject.not_asked:
            whole = subject.asked + subject.not_asked
            return say("COMPLETE for %(count)s of %(all)s %(noun)s", count=subject.asked, all=whole, noun=say(subject.noun))
        return say("COMPLETE for what was asked")

    def _clauses(self, say: Say) -> Iterable[str]:
        subject = self.subject
        of = {"all": subject.asked, "noun": say(subject.noun)}
        if subject.not_asked:
            yield say("%(count)s not asked", count=subject.not_asked)
        if not subject.asked:
            return
        if not subject.whole:
            yield say("broken off after %(all)s %(noun)s: ask again about the rest", **of)
        yield from self._members(say)
        if subject.unanswered:
            yield say("%(count)s of %(all)s %(noun)s not answered by every member", count=subject.unanswered, **of)
        if exact := subject.count(Shortfall.EXACT_ONLY) + subject.bare_digests:
            yield say("%(count)s of %(all)s %(noun)s by exact copies only", count=exact, **of)
        if cut := subject.count(Shortfall.FRAMES):
            yield say("%(count)s without their further frames", count=cut)
        if parts := subject.count(Shortfall.PART):
            yield say("%(count)s in part, being damaged", count=parts)
        for algorithm, members in self.few.items():
            yield say("%(algorithm)s: few of the records of %(names)s", algorithm=algorithm.label, names=_names(members))
        if self.newer:
            yield say("%(names)s answered by a newer trust directory: members may be missing here", names=_names(self.newer))
        if self.answered_at is not None and self.answered_at.earlier:
            first, last = as_text(self.answered_at.first_ms), as_text(self.answered_at.last_ms)
            once = first == last
            yield say("answered on %(first)s", first=first) if once else say("answered from %(first)s to %(last)s", first=first, last=last)
        if self.verdict in {Verdict.COMPLETE, Verdict.LIMITED}:
            yield say("every answer verified")

    def _members(self, say: Say) -> Iterable[str]:
        chosen = [node.member for node in self.asked]
        if self.not_chosen:
            others = [node.member for node in self.not_chosen]
            values = {"names": _names(chosen), "count": len(others), "others": _names(others)}
            if not chosen:
                yield say("only nobody was asked; %(count)s members were not (%(others)s)", **values)
            elif len(chosen) == 1 and len(others) == 1:
                yield say("only %(names)s was asked; 1 member was not (%(others)s)", **values)
            elif len(chosen) == 1:
                yield say("only %(names)s was asked; %(count)s members were not (%(others)s)", **values)
            elif len(others) == 1:
                yield say("only %(names)s were asked; 1 member was not (%(others)s)", **values)
            else:
                yield say("only %(names)s were asked; %(count)s members were not (%(others)s)", **values)
        elif not chosen:
            yield say("nobody was asked")
        if self.left_out:
            yield say("left out %(count)s (%(names)s)", count=len(self.left_out), names=_with_why(self.left_out))
        if chosen:
            refused, silent = self.refused_by_policy, self.silent
            yield say(
                "answered %(answered)s, refused by policy %(refused)s%(who)s, no answer %(silent)s%(why)s",
                answered=len(self.answered),
                refused=len(refused),
                who=f" ({_names([node.member for node in refused])})" if refused else "",
                silent=len(silent),
                why=f" ({_with_why(silent)})" if silent else "",
            )
        if self.left_out or not chosen or len(self.answered) < len(chosen):
            yield say("what they hold is not known")


def in_english(text: str, **values: object) -> str:
    """Return a text with its values: what the code is written in."""
    return text % values if values else text


def close(
    subject: Subject,
    nodes: Iterable[NodeOutcome],
    *,
    answered_at: Answered | None = None,
    directory: int = 0,
) -> Closing:
    """Return what there is to say.

    Args:
        subject: what it was about.
        nodes: every member that the directory delegates to, asked or not.
        answered_at: when the answers were given; None if just now.
        directory: version of the asker's trust directory; 0 if it is not to be compared with the nodes'.
    """
    known = tuple(nodes)
    newer = tuple(node.member for node in known if directory and node.directory > directory)
    return Closing(subject, known, answered_at, newer)


def _names(members: Sequence[str]) -> str:
    more = [f"and {len(members) - MAX_NAMES} more"] if len(members) > MAX_NAMES else []
    return ", ".join([*members[:MAX_NAMES], *more])


def _with_why(nodes: Sequence[NodeOutcome]) -> str:
    return _names([f"{node.member}: {node.detail if node.outcome is Outcome.NOT_ASKED and node.detail else node.said}" for node in nodes])
