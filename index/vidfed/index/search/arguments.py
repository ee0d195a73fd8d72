"""What callers give an index, checked. Everything here raises HashInputError, with what was wrong and what is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from vidfed.index.errors import HashInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vidfed.index.algorithms import Algorithm


def checked_rows(
    algorithm: Algorithm, labels: NDArray[np.int64] | Sequence[int], codes: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return labels, int64[n], none twice, and their codes, uint8[n, bytes] without gaps."""
    labels, codes = checked_labels(labels), checked_codes(algorithm, codes)
    if len(labels) != len(codes):
        raise HashInputError(f"{len(labels)} labels for {len(codes)} codes")
    ordered = labels if ascending(labels) else np.sort(labels)
    if (twice := ordered[1:][ordered[1:] == ordered[:-1]]).size:
        raise HashInputError(f"label {twice[0]} is given twice")
    return labels, codes


def checked_codes(algorithm: Algorithm, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return codes as uint8[n, bytes] of the algorithm, without gaps."""
    length = algorithm.code_bytes
    if not isinstance(codes, np.ndarray):
        raise HashInputError(f"codes must be a NumPy array of uint8, got {type(codes).__name__}")
    if codes.dtype != np.uint8:
        raise HashInputError(f"codes must be uint8, got {codes.dtype}")
    if codes.ndim != 2 or codes.shape[1] != length:  # noqa: PLR2004 - rows and bytes
        raise HashInputError(f"codes must be of shape (n, {length}) for {algorithm.label}, got {codes.shape}")
    return np.ascontiguousarray(codes)


def checked_labels(labels: NDArray[np.int64] | Sequence[int]) -> NDArray[np.int64]:
    """Return labels as int64[n], none of them negative; a list of integers will do."""
    array = labels if isinstance(labels, np.ndarray) else np.asarray(labels)
    if array.size == 0 and not isinstance(labels, np.ndarray):
        array = array.astype(np.int64)
    if array.dtype != np.int64:
        raise HashInputError(f"labels must be int64, got {array.dtype}")
    if array.ndim != 1:
        raise HashInputError(f"labels must be of one dimension, got shape {array.shape}")
    if array.size and (lowest := array.min()) < 0:
        raise HashInputError(f"labels cannot be negative, got {lowest}")
    return cast("NDArray[np.int64]", array)


def ascending(labels: NDArray[np.int64]) -> bool:
    """Whether each label is above the one before."""
    return bool((labels[1:] > labels[:-1]).all())


def checked_integer(value: int, name: str) -> int:
    """Return an integer, Python's or NumPy's; `name` is what the error calls it."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise HashInputError(f"{name} must be an integer, got {type(value).__name__}")
    return int(value)


def checked_bands(bands: Sequence[int] | None) -> NDArray[np.int64] | None:
    """Return the largest distances of the bands, rising."""
    if bands is None:
        return None
    edges = np.array([checked_integer(edge, "bands") for edge in bands], np.int64)
    if not ascending(edges):
        raise HashInputError("bands must rise")
    return edges
