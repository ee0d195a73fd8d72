"""What a hit is worth as evidence that two pictures are the same: exact, near or weak. Decided here and nowhere else. Pure.

Measured on photographs that have nothing to do with each other: no pair is within PDQ's default distance, while one 64-bit hash alone
brings unrelated pictures together now and then (docs/adr/0060). So a hit by one of those alone is a hint to look at, not an identification.
"""

from __future__ import annotations

from enum import Enum, unique
from typing import TYPE_CHECKING, Protocol

from vidfed.index import Algorithm

if TYPE_CHECKING:
    from collections.abc import Iterable


class Matched(Protocol):
    """One way in which a record matched: `outcome.FoundMatch`, which stands above this."""

    @property
    def algorithm(self) -> Algorithm:
        """By which hash."""

    @property
    def distance(self) -> int:
        """At most so far."""

    @property
    def slack(self) -> int:
        """So much less it may be."""

    @property
    def compared(self) -> int:
        """By so many of the hash's bits only (PhotoDNA: numbers); 0: by all."""

    @property
    def orientation(self) -> str:
        """Which view of what was asked."""

    @property
    def record_view(self) -> str:
        """Which view of the record."""

    @property
    def plain(self) -> bool:
        """One of the views is too plain."""

    @property
    def exact(self) -> bool:
        """By a digest."""

    @property
    def nearness(self) -> tuple[bool, float]:
        """Sort key, the nearest first."""


@unique
class Evidence(Enum):
    """The class of a hit; its value is the word that officers and scripts read."""

    EXACT = "exact"
    NEAR = "near"
    WEAK = "weak"

    @property
    def rank(self) -> int:
        """0 for the strongest."""
        return tuple(Evidence).index(self)

    @property
    def meaning(self) -> str:
        """What it says, for people."""
        return _MEANINGS[self]


_MEANINGS = {
    Evidence.EXACT: "a digest agrees: the very same file",
    Evidence.NEAR: "PDQ, PhotoDNA or two different perceptual hashes agree: looks the same",
    Evidence.WEAK: "one 64-bit hash alone agrees, or the picture is too plain for its hashes: unrelated pictures do so by chance",
}
_NO_FINER = "told no finer since your member asked by many hashes"
_STRONG = frozenset({Algorithm.PDQ, Algorithm.PHOTODNA})
# What a 64-bit hash looks at. aHash and wHash both compare brightness with its mean: they agree, and err, together, and count as one.
_LOOKS_AT = {Algorithm.PHASH: "frequencies", Algorithm.DHASH: "gradients", Algorithm.AHASH: "brightness", Algorithm.WHASH: "brightness"}


def evidence_of(matches: Iterable[Matched]) -> Evidence:
    """Return the class of a hit.

    Args:
        matches: all ways in which the record matched the item; of none, nothing is said that is more than weak.
    """
    looked_at = set()
    near = False
    for match in matches:
        if match.algorithm.is_digest:
            return Evidence.EXACT
        if match.plain:
            continue  # blank and dark pictures resemble each other
        near = near or match.algorithm in _STRONG
        looked_at.add(_LOOKS_AT.get(match.algorithm))
    return Evidence.NEAR if near or len(looked_at) > 1 else Evidence.WEAK


def matched_by(matches: Iterable[Matched]) -> list[str]:
    """Say for people by what a record matched: the digests that agree, or of each perceptual algorithm the nearest match."""
    found = sorted(matches, key=lambda match: match.nearness)
    if digests := [algorithm.label for algorithm in Algorithm if any(m.exact and m.algorithm is algorithm for m in found)]:
        return [", ".join(digests)]
    nearest: dict[Algorithm, Matched] = {}
    for match in found:
        nearest.setdefault(match.algorithm, match)
    return [_words(nearest[algorithm]) for algorithm in Algorithm if algorithm in nearest]


def in_words(matches: Iterable[Matched]) -> str:
    """Return class, algorithms and distances of a hit in one line, as `near: PDQ 14, flipped left to right + pHash 3`."""
    found = tuple(matches)
    evidence = evidence_of(found)
    said = " + ".join(matched_by(found))
    return f"{evidence.value} ({said})" if evidence is Evidence.EXACT else f"{evidence.value}: {said}"


def _words(match: Matched) -> str:
    band = f"{match.distance - match.slack} to " if match.slack else ""
    turned = f", {match.orientation}" if match.orientation else ""
    view = f" to the record's {match.record_view}" if match.record_view else ""
    plain = ", too plain to tell" if match.plain else ""
    of = "bits" if match.algorithm.parts != match.algorithm.code_bytes else "numbers"
    part = f" by {match.compared} of its {match.algorithm.parts} {of}, {_NO_FINER}" if match.compared else ""
    return f"{match.algorithm.label} {band}{match.distance}{view}{part}{turned}{plain}"
