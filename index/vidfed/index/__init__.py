"""Hash types, hashing of pictures, exact range search. Knows no database and no network."""

from vidfed.index.algorithms import Algorithm, DistanceKind, Hash
from vidfed.index.errors import (
    DistanceError,
    HashError,
    HashInputError,
    HashTextError,
    IndexCorruptError,
    PictureError,
)

__all__ = [
    "Algorithm",
    "DistanceError",
    "DistanceKind",
    "Hash",
    "HashError",
    "HashInputError",
    "HashTextError",
    "IndexCorruptError",
    "PictureError",
]
