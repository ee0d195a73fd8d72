"""Codes that say nothing about a picture, whichever door they come through: one rule for files, pictures, bare hashes and sources."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from vidfed.index.algorithms import Algorithm, DistanceKind

if TYPE_CHECKING:
    from collections.abc import Callable

EMPTY_FILE_DIGESTS: Final = frozenset(
    bytes.fromhex(digest)
    for digest in (
        "d41d8cd98f00b204e9800998ecf8427e",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    )
)
"""MD5, SHA-1 and SHA-256 of no bytes, which some sets list."""

_BLANK_SUM: Final = 2_400
"""Of a PhotoDNA's 144 bytes: with a larger sum the sum of squares is beyond 40,000, whatever the bytes are."""


def is_plain(algorithm: Algorithm, code: bytes) -> bool:
    """Return whether a perceptual code is so near to that of a blank picture that it matches what has nothing in common with it.

    Of PDQ half the bits of any picture are set, by its definition; with fewer than twice its distance, 62, set or unset, two such codes
    match for having nothing in them. A 64-bit hash within its distance of no bits or of all of them, and a PhotoDNA within its distance of
    zero, match a blank picture.
    """
    rule = plain_rule(algorithm)
    return rule is not None and rule(code)


@cache
def plain_rule(algorithm: Algorithm) -> Callable[[bytes], bool] | None:
    """Return `is_plain` for one algorithm, None for digests: whoever reads millions of codes asks once which rule holds."""
    near = algorithm.default_distance
    if algorithm.distance_kind is DistanceKind.EQUALITY:
        return None
    if algorithm.distance_kind is DistanceKind.SQUARED_EUCLIDEAN:
        return lambda code: sum(code) <= _BLANK_SUM and sum(byte * byte for byte in code) <= near
    least = near * (2 if algorithm is Algorithm.PDQ else 1)
    most = 8 * algorithm.code_bytes - least
    return lambda code: not least < int.from_bytes(code).bit_count() < most


def why_worthless(algorithm: Algorithm, code: bytes) -> str:
    """Return why a code is refused at every door; empty if it is not."""
    if not any(code):
        return f"{algorithm.value}: all zeros: a tool's placeholder"
    if code in EMPTY_FILE_DIGESTS:
        return "the digest of an empty file says nothing about a picture"
    return ""


def why_plain(algorithm: Algorithm) -> str:
    """Return in words why a code for which `is_plain` holds is left out."""
    return f"{algorithm.value}: too plain: nearly that of a blank picture, and so of anything"
