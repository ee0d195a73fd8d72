"""Hashes that are kept as they come, exported and never searched: those of TMK+PDQF, of whole films."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vidfed.formats.entries import FileEntry

MAX_CHARACTERS: Final = 400_000
"""Of one hash: TMK+PDQF's full features are 262,148 bytes, in base64 349,532 characters."""
MAX_HASHES: Final = 4
"""Of one item."""
FIELD: Final = "other_hashes"
KEPT: Final = "kept as it came, and exported; lookups do not search it"

_VALUE: Final = re.compile(r"[A-Za-z0-9+/=_.,|-]+")
_TMK: Final = frozenset(("tmk", "tmkpdqf", "tmkpdqfhash", "tmkhash"))


def is_unsearched(text: str) -> bool:
    """Return whether a file calls such a hash this: `TMK`, `tmk_pdqf`, `TMK+PDQF`."""
    return "".join(c for c in text.casefold() if c.isalnum()) in _TMK


def other_hashes(value: object) -> tuple[str, ...]:
    """Read such hashes: a list or one text with `;` between them, each `TMK:VALUE` or the value alone.

    Raises:
        ValueError: too many, too long, or with characters that no such hash has.
    """
    parts = value if isinstance(value, list | tuple) else str(value).split(";")
    found = tuple(dict.fromkeys(_checked(part.strip()) for part in parts if isinstance(part, str) and part.strip()))
    if len(found) > MAX_HASHES:
        raise ValueError(f"{len(found)} hashes that are not searched, at most {MAX_HASHES} are kept")
    return found


def take_unsearched(entry: FileEntry, name: str, value: str) -> bool:
    """Keep a hash with an entry, and say so; False if the name is that of another hash.

    Raises:
        ValueError: as `other_hashes`.
    """
    if not is_unsearched(name):
        return False
    before = entry.values.get(FIELD, ())
    entry.values[FIELD] = other_hashes([*(before if isinstance(before, tuple) else ()), value])
    entry.notes.append(f"{name:.20}: {KEPT}")
    return True


def _checked(said: str) -> str:
    value = said.removeprefix("TMK:")
    if len(value) > MAX_CHARACTERS:
        raise ValueError(f"TMK: {len(value):,} characters, at most {MAX_CHARACTERS:,}")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"TMK: {value!r:.40} is neither hex nor base64")
    return f"TMK:{value}"
