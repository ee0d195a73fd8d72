"""What there is to say about each node for one lookup. Pure.

"No hit" is said only for a node whose signed answer says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, unique
from typing import TYPE_CHECKING

from vidfed.federation.lookup.evidence import Evidence, evidence_of, in_words, matched_by
from vidfed.federation.lookup.films import enough, film_words
from vidfed.index import Algorithm
from vidfed.index.codes import kind_title
from vidfed.index.hashing.results import ORIENTATIONS, RELIABLE_PDQ_QUALITY
from vidfed.index.worth import is_plain
from vidfed.security.clock import SECOND_MS
from vidfed.wire.statuses import Status
from vidfed.wire.values import Ternary

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from vidfed.casework.news.book import RecordNews
    from vidfed.federation.lookup.question import Item
    from vidfed.security.identity.directory import Directory
    from vidfed.wire.values import FilmMatch, FramesNotSearched, IndexState, LookupAnswer, Match, RecordView


@unique
class Outcome(Enum):
    """What became of asking one node."""

    MATCH = "match"
    WEAK_MATCH = "weak match only"
    NO_MATCH = "no match"
    PARTIAL = "partial"
    REFUSED = "refused"
    RATE_LIMITED = "rate limited"
    STALE_INDEX = "stale index"
    INDEX_UNAVAILABLE = "index unavailable"
    VERSION_UNSUPPORTED = "version unsupported"
    EXPIRED = "expired"
    CLOCK = "clock differs"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    BREAKER_OPEN = "breaker open"
    PROTOCOL_ERROR = "protocol error"
    BAD_SIGNATURE = "bad signature"
    MISSING = "missing"
    NOT_ASKED = "not asked"
    NOT_CHOSEN = "not chosen"

    @property
    def answered(self) -> bool:
        """True if the node's signed answer covers the whole question."""
        return self in {Outcome.MATCH, Outcome.WEAK_MATCH, Outcome.NO_MATCH}

    @property
    def asked(self) -> bool:
        """False if nobody tried: the directory leaves the member out, or the asker did not choose it."""
        return self not in {Outcome.NOT_ASKED, Outcome.NOT_CHOSEN}

    @property
    def refused(self) -> bool:
        """True if the node said, signed, that it does not answer this."""
        return self in {Outcome.REFUSED, Outcome.RATE_LIMITED, Outcome.VERSION_UNSUPPORTED, Outcome.EXPIRED}

    @property
    def verified(self) -> bool:
        """True if it is what the node itself said: its signed answer to this question, whatever is in it."""
        return self not in _UNSIGNED


_NAMED = 3  # items in one line of detail
NOTABLE_SKEW_MS = 2_000
"""Clocks that differ by less agree, as far as a lookup can tell."""
WITHOUT_FRAMES = "asked without film frames: its programs do not say yet that they take them"
"""What is said of a member that was asked about films by their digests alone."""
_UNSIGNED = {
    Outcome.TIMEOUT,
    Outcome.UNREACHABLE,
    Outcome.BREAKER_OPEN,
    Outcome.PROTOCOL_ERROR,
    Outcome.BAD_SIGNATURE,
    Outcome.CLOCK,
    Outcome.MISSING,
    Outcome.NOT_ASKED,
    Outcome.NOT_CHOSEN,
}
_MAY_STILL_COME = {Outcome.TIMEOUT, Outcome.MISSING}
_OF_STATUS = {
    Status.RATE_LIMITED: Outcome.RATE_LIMITED,
    Status.BUSY: Outcome.RATE_LIMITED,
    Status.STALE_INDEX: Outcome.STALE_INDEX,
    Status.INDEX_UNAVAILABLE: Outcome.INDEX_UNAVAILABLE,
    Status.NOT_YET: Outcome.INDEX_UNAVAILABLE,
    Status.VERSION_UNSUPPORTED: Outcome.VERSION_UNSUPPORTED,
    Status.OUTSIDE_TIME_WINDOW: Outcome.EXPIRED,
}


@dataclass(frozen=True, slots=True)
class FoundMatch:
    """How a record matched an item.

    `orientation` tells which view of what was asked that was and how it had to be turned, `record_view` which view of the record, as in
    "over black" or "frame 3"; both are empty for the whole as it is. `quality` is the PDQ quality of the record's view, 0 to 100, where its
    owner knows it. The true distance lies between `distance - slack` and `distance`: a node may tell bands only, and where it tells no more
    than that, `compared` is by how many of the hash's bits (PhotoDNA: numbers) that is; 0: by all.
    `plain`: one of the two views is too plain for its hash to mean much.
    """

    algorithm: Algorithm
    distance: int
    orientation: str = ""
    slack: int = 0
    record_view: str = ""
    quality: int | None = None
    plain: bool = False
    compared: int = 0

    @property
    def exact(self) -> bool:
        """True if a digest agreed: the very same file."""
        return self.algorithm.is_digest

    @property
    def nearness(self) -> tuple[bool, float]:
        """Sort key: digests first, then distance as a share of what the algorithm allows."""
        return not self.exact, self.distance / max(self.algorithm.maximum_distance, 1)


@dataclass(frozen=True, slots=True)
class FoundHit:
    """One record of one member that matches one item (its position in the result's items).

    Of a film `film` says how much of it does. `news` is what its owner has said of it since; None: nothing that is known here.
    """

    item: int
    member: str
    record: RecordView
    matches: tuple[FoundMatch, ...]
    news: RecordNews | None = None
    film: FilmMatch | None = None

    @property
    def evidence(self) -> Evidence:
        """What it is worth: films of which too few frames agree are weak, unless the file is the same."""
        evidence = evidence_of(self.matches)
        return Evidence.WEAK if evidence is Evidence.NEAR and self.film is not None and not enough(self.film) else evidence

    @property
    def words(self) -> str:
        """Class of the hit and by what it matched, in one line."""
        if self.film is None or self.evidence is Evidence.EXACT:
            return in_words(self.matches)
        return f"{self.evidence.value}: {film_words(self.film)}"

    @property
    def matched_by(self) -> list[str]:
        """By what it matched, in words, the strongest first."""
        return matched_by(self.matches) if self.film is None else [*matched_by(self.matches), film_words(self.film)]

    @property
    def weak(self) -> bool:
        """True if it says nothing by itself."""
        return self.evidence is Evidence.WEAK

    @property
    def usefulness(self) -> tuple[int, int, tuple[bool, float], str]:
        """Sort key within a result: by item; identified first, with somebody to call before without; exact before near; distance."""
        nearest = min(match.nearness for match in self.matches)
        identified = 0 if self.record.victim_identified is Ternary.YES else 2
        return self.item, identified + (identified == 0 and not self.record.case_contact), nearest, self.member


@dataclass(frozen=True, slots=True)
class NodeOutcome:
    """One node's part in a result.

    Attributes:
        member: whose node.
        outcome: what became of asking it.
        detail: more about it, for people.
        index: what the node says it searched.
        hits: its records that match, weak ones included.
        truncated_items: items of which it holds more records than it tells.
        code: the status it gave with a signed refusal, as `NOT_PERMITTED`; empty otherwise.
        directory: version of the trust directory by which it answered; 0 if it did not say.
        frames_not_searched: frames of items that very many of its films share.
        ahead_ms: by how much its clock is at least ahead of the asker's, negative where it is behind; 0: they agree as far as is known.
    """

    member: str
    outcome: Outcome
    detail: str = ""
    index: IndexState | None = None
    hits: tuple[FoundHit, ...] = ()
    truncated_items: tuple[int, ...] = ()
    code: str = ""
    directory: int = 0
    frames_not_searched: tuple[FramesNotSearched, ...] = ()
    ahead_ms: int = 0

    @property
    def refused_by_policy(self) -> bool:
        """True if it said, signed, that it does not answer this asker or purpose: a decision, which asking again does not change."""
        return self.code == Status.NOT_PERMITTED.name

    @property
    def may_still_come(self) -> bool:
        """True if an answer may be on its way."""
        return self.outcome in _MAY_STILL_COME

    @property
    def said(self) -> str:
        """The outcome for people, with the code where that says more."""
        return f"{self.outcome.value}: {self.code}" if self.outcome is Outcome.REFUSED and self.code else self.outcome.value


def outcome_of_answer(
    member: str,
    answer: LookupAnswer,
    items: Sequence[Item],
    asked: Mapping[Algorithm, int],
    starts: Mapping[Algorithm, Sequence[int]] | None = None,
) -> NodeOutcome:
    """Return what a verified answer says.

    Args:
        member: who answered.
        answer: verified against the question.
        items: the question's items.
        asked: the algorithms in the question, with the distance asked for.
        starts: `first_codes(items)`, where it is known already.
    """
    header = answer.header
    if header.status is not Status.ANSWERED:
        said = " ".join(part for part in (header.detail and header.detail + ";", header.status.advice) if part)
        outcome = _OF_STATUS.get(header.status, Outcome.REFUSED)
        detail = f"{header.status.name}: {said}".rstrip(": ")
        return NodeOutcome(member, outcome, detail, header.index, code=header.status.name, directory=header.directory_version)
    if starts is None:
        starts = first_codes(items) if answer.hits else {}
    hits = tuple(
        FoundHit(
            hit.item,
            member,
            answer.records[hit.record],
            tuple(_match(items[hit.item], m, m.code - starts[m.algorithm][hit.item]) for m in hit.matches),
            film=hit.film,
        )
        for hit in answer.hits
    )
    less = "; ".join(filter(None, (_searched_less(header.index, asked), _frames_left_out(answer.frames_not_searched, items))))
    outcome = Outcome.PARTIAL if less else outcome_of_hits(hits)
    return NodeOutcome(
        member,
        outcome,
        less,
        header.index,
        hits,
        answer.truncated_items,
        directory=header.directory_version,
        frames_not_searched=answer.frames_not_searched,
    )


def clock_outcome(member: str, ahead_ms: int) -> NodeOutcome:
    """Return what there is to say of a node whose clock is not the asker's: nothing that it says of times can be checked."""
    which = "ahead of" if ahead_ms > 0 else "behind"
    detail = f"its clock is {_seconds(abs(ahead_ms))} {which} this machine's; what it said was not believed"
    return NodeOutcome(member, Outcome.CLOCK, detail, ahead_ms=ahead_ms)


def outcome_out_of_time(member: str, answer: LookupAnswer, issued_ms: int, expires_ms: int, now_ms: int) -> NodeOutcome:
    """Return why a node refused a question for its time: for its clock, or because it came too late.

    Args:
        member: who refused it.
        answer: verified against the question.
        issued_ms: when the question was written.
        expires_ms: until when it was to be answered.
        now_ms: when the answer came, by the asker's clock.
    """
    header = answer.header
    answered_ms = header.answered_ms
    if answered_ms > now_ms + NOTABLE_SKEW_MS:
        return clock_outcome(member, answered_ms - now_ms)
    if answered_ms < issued_ms - NOTABLE_SKEW_MS:
        return clock_outcome(member, answered_ms - issued_ms)
    late_ms = answered_ms - expires_ms
    said = f"arrived {_seconds(late_ms)} too late" if late_ms > 0 else f"arrived {_seconds(answered_ms - issued_ms)} after it was written"
    detail = f"{header.status.name}: the question {said}, so it was not answered; ask again, or with a longer deadline"
    return NodeOutcome(member, Outcome.EXPIRED, detail, code=header.status.name, directory=header.directory_version)


def _seconds(span_ms: int) -> str:
    return f"{max(1, round(span_ms / SECOND_MS)):,} s"


def asked_without_frames(node: NodeOutcome) -> NodeOutcome:
    """Return what a member said that was asked about films by their digests alone: of changed copies it says nothing."""
    if not node.outcome.answered and node.outcome is not Outcome.PARTIAL:
        return node
    return replace(node, outcome=Outcome.PARTIAL, detail="; ".join(filter(None, (node.detail, WITHOUT_FRAMES))))


def outcome_of_hits(hits: Sequence[FoundHit]) -> Outcome:
    """Return what a whole answer with these hits is."""
    if not hits:
        return Outcome.NO_MATCH
    return Outcome.WEAK_MATCH if all(hit.weak for hit in hits) else Outcome.MATCH


def _searched_less(index: IndexState | None, asked: Mapping[Algorithm, int]) -> str:
    """Say what the node left out of the question; nothing if it searched all of it."""
    reached = {each.algorithm: each.max_distance for each in index.searched} if index else {}
    left_out = [algorithm for algorithm in Algorithm if algorithm in asked and reached.get(algorithm, -1) < asked[algorithm]]
    missing = [algorithm.label for algorithm in left_out if algorithm not in reached]
    nearer = [f"{each.label} only up to {reached[each]} of {asked[each]}" for each in left_out if each in reached]
    return "; ".join(([f"not searched: {', '.join(missing)}"] if missing else []) + nearer)


def _frames_left_out(left_out: Sequence[FramesNotSearched], items: Sequence[Item]) -> str:
    """Say of which items nothing was searched by PDQ among films; of a film that has other frames a note is enough."""
    whole = [items[each.item] for each in left_out if each.frames >= max(1, len({first for first, _ in items[each.item].times}))]
    return f"by PDQ not searched among its films, as very many share it: {_some(whole)}" if whole else ""


def _some(items: Sequence[Item]) -> str:
    names = ", ".join(item.label for item in items[:_NAMED])
    return f"{names} and {len(items) - _NAMED} more" if len(items) > _NAMED else names


def not_asked(directory: Directory, asked: Collection[str], *, chosen: bool) -> tuple[NodeOutcome, ...]:
    """Return every member that the directory delegates to and that was not asked, with why.

    Args:
        directory: that said whom to ask.
        asked: the members asked.
        chosen: the asker named them; otherwise all that may be asked were.
    """
    left = {member: f"its entry in the trust directory cannot be used: it {reason}" for member, reason in directory.left_out.items()}
    left |= {member.id: "in quarantine" for member in directory.members.values() if member.quarantined}
    names = sorted({*directory.members, *directory.left_out} - set(asked))
    outcomes = {member: Outcome.NOT_CHOSEN if chosen and member not in left else Outcome.NOT_ASKED for member in names}
    return tuple(NodeOutcome(member, outcome, left.get(member, _since_then(chosen=chosen))) for member, outcome in outcomes.items())


def _since_then(*, chosen: bool) -> str:
    return "not among the members chosen with --ask" if chosen else "in the trust directory only since this was asked"


def first_codes(items: Sequence[Item]) -> dict[Algorithm, list[int]]:
    """Return for each algorithm the position in its column of each item's first code."""
    starts: dict[Algorithm, list[int]] = {}
    for algorithm in {algorithm for item in items for algorithm in item.codes}:
        position, positions = 0, []
        for item in items:
            positions.append(position)
            position += len(item.codes.get(algorithm, ()))
        starts[algorithm] = positions
    return starts


def _match(item: Item, match: Match, code: int) -> FoundMatch:
    """Return a match as people read it; `code` is the position in the item's own codes of its algorithm."""
    asked_plain = match.algorithm is Algorithm.PDQ and code in item.plain
    asked_plain = asked_plain or is_plain(match.algorithm, item.codes[match.algorithm][code])
    plain = asked_plain or (match.quality is not None and match.quality < RELIABLE_PDQ_QUALITY)
    turned = _orientation(item, match.algorithm, code)
    return FoundMatch(match.algorithm, match.distance, turned, match.slack, kind_title(match.kind), match.quality, plain, match.compared)


def _orientation(item: Item, algorithm: Algorithm, code: int) -> str:
    """Name how the picture was turned or seen for this code; empty for the picture as it is."""
    names = item.views.get(algorithm, ())
    name = names[code] if code < len(names) else ""
    return "" if name == ORIENTATIONS[0] else name
