"""Fingerprints as words to read over the telephone.

Proquints (Wilkerson 2009, https://arxiv.org/html/0901.4016): 16 bits are one word of five letters, consonants and vowels in turn, all of
them told apart by ear in most languages. Six words are 96 bits, too many to search for a second file with the same words.
"""

from __future__ import annotations

import hashlib

_CONSONANTS = "bdfghjklmnprstvz"
_VOWELS = "aiou"
WORDS = 6


def fingerprint(content: bytes) -> str:
    """Return the six words of `content`, e.g. `lusab-babad-gutih-tugad-mudof-sakat`."""
    digest = hashlib.sha256(content).digest()
    return "-".join(_word(int.from_bytes(digest[2 * n : 2 * n + 2], "big")) for n in range(WORDS))


def _word(bits: int) -> str:
    """Spell 16 bits: consonants stand for four, vowels for two."""
    first, second, third = bits >> 12, bits >> 6 & 0xF, bits & 0xF
    return _CONSONANTS[first] + _VOWELS[bits >> 10 & 3] + _CONSONANTS[second] + _VOWELS[bits >> 4 & 3] + _CONSONANTS[third]
