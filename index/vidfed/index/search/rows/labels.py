"""A segment's labels in four bytes each: they ascend, so that within a short block of rows all are near the block's first.

A caller may leave gaps between its labels, as for the several codes of one record. Where the gaps are so wide that a block does not fit,
which is to say that the rows are few, the labels take eight bytes each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_BLOCK_BITS: Final = 8
_BLOCK_ROWS: Final = 1 << _BLOCK_BITS
"""Rows of a block: short, so that labels with gaps of up to 2^24 fit; its first label costs each of them 8 / 256 of a byte."""
_WIDEST: Final = np.iinfo(np.uint32).max


def compact(labels: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the arrays that keep some labels: int64[rows], ascending, none twice, at least one."""
    bases = labels[::_BLOCK_ROWS]
    last = labels[np.minimum(np.arange(1, len(bases) + 1) * _BLOCK_ROWS, len(labels)) - 1]
    if int((last - bases).max()) > _WIDEST:
        return {"label_bases": np.empty(0, np.int64), "label_offsets": labels}
    # A block at a time: the offsets of a large segment as int64 would take as much memory again as its labels.
    offsets = np.empty(len(labels), np.uint32)
    whole = len(labels) // _BLOCK_ROWS * _BLOCK_ROWS
    blocks = labels[:whole].reshape(-1, _BLOCK_ROWS)
    np.subtract(blocks, blocks[:, :1], out=offsets[:whole].reshape(-1, _BLOCK_ROWS), casting="unsafe")
    offsets[whole:] = labels[whole:] - bases[-1]
    return {"label_bases": np.ascontiguousarray(bases), "label_offsets": offsets}


class CompactLabels:
    """Reads the arrays of `compact`."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._bases: NDArray[np.int64] = arrays["label_bases"]
        self._offsets: NDArray[Any] = arrays["label_offsets"]
        self._rows = len(self._offsets)
        self.lowest: int
        self.highest: int
        self.lowest, self.highest = self.of(np.array([0, self._rows - 1])).tolist()

    def all(self) -> NDArray[np.int64]:
        """int64[rows], ascending."""
        if not self._bases.size:
            wide: NDArray[np.int64] = self._offsets
            return wide
        labels = np.repeat(self._bases, _BLOCK_ROWS)[: self._rows]
        labels += self._offsets
        return labels

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The labels of some rows."""
        if not self._bases.size:
            wide: NDArray[np.int64] = self._offsets[rows]
            return wide
        labels: NDArray[np.int64] = self._bases[rows >> _BLOCK_BITS]
        labels += self._offsets[rows]
        return labels

    def find(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of some labels, -1 where there is none."""
        # Most callers' labels rise, and new ones lie beyond those of every segment: looking each up in all of them would make filling an
        # index quadratic.
        inside = (labels >= self.lowest) & (labels <= self.highest)
        if inside.all():
            return self._rows_of(labels)
        rows = np.full(labels.shape, -1)
        if inside.any():
            rows[inside] = self._rows_of(labels[inside])
        return rows

    def _rows_of(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        if not self._bases.size:
            rows = np.minimum(np.searchsorted(self._offsets, labels), self._rows - 1)
            return np.where(self._offsets[rows] == labels, rows, -1)
        block = np.maximum(np.searchsorted(self._bases, labels, side="right") - 1, 0)
        # A binary search in all blocks at once: for each label the last row of its block that is not beyond it.
        rows = block << _BLOCK_BITS
        for step in (1 << bit for bit in reversed(range(_BLOCK_BITS))):
            beyond = np.minimum(rows + step, self._rows - 1)
            rows = np.where((beyond == rows + step) & (self.of(beyond) <= labels), beyond, rows)
        return np.where(self.of(rows) == labels, rows, -1)
