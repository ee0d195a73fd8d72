"""Hash types, hashing of pictures, exact range search. Knows no database and no network."""

from typing import TYPE_CHECKING, Any

from vidfed.index.algorithms import Algorithm, DistanceKind, Hash
from vidfed.index.codes import Code
from vidfed.index.errors import (
    DistanceError,
    HashError,
    HashingError,
    HashInputError,
    HashTextError,
    IndexClosedError,
    IndexCorruptError,
    IndexLockedError,
    IndexStorageError,
)

if TYPE_CHECKING:
    from vidfed.index.search.hash_index import HashIndex, IndexStats
    from vidfed.index.search.hits import SearchResult

__all__ = [
    "Algorithm",
    "Code",
    "DistanceError",
    "DistanceKind",
    "Hash",
    "HashError",
    "HashIndex",
    "HashInputError",
    "HashTextError",
    "HashingError",
    "IndexClosedError",
    "IndexCorruptError",
    "IndexLockedError",
    "IndexStats",
    "IndexStorageError",
    "SearchResult",
]

# Searching needs NumPy, and later FAISS and Numba; naming an algorithm needs none of them. They are imported when first asked for.
_LATE = {"HashIndex": "search.hash_index", "IndexStats": "search.hash_index", "SearchResult": "search.hits"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attributes are of any type
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    value = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    globals()[name] = value
    return value
