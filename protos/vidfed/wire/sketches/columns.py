"""Columns of hashes in outline: half of each PDQ hash, heads of the others; enough to say that nothing new can be near.

A standing question that finds nothing new, which is nearly every one, needs no whole hashes. Of a PDQ hash every second bit is sent, as the
white squares of a chessboard over its 16 x 16 frequencies, of the other 64-bit hashes the first 48 bits, of digests 4 bytes; what is not
sent is zero on both sides. Masked codes are never farther apart than whole ones, so nothing within a distance is missed; what only looks
near is asked about in whole afterwards. The PDQ hashes of a picture turned and mirrored follow from the first one but for a few bits: the
squares stay, transposed, and those of odd frequencies change their sign. Only the bits in which that fails are sent.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from vidfed.index import Algorithm
from vidfed.v1 import lookup_pb2 as pb
from vidfed.wire.algorithms import ALGORITHM_NUMBERS, read_algorithm
from vidfed.wire.statuses import MalformedError, TooLargeError
from vidfed.wire.values import HashColumn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

_SIDE = 16
_TURNS = ((0, 0, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 0, 0), (1, 1, 1))
"""Of each view that `pdqhash.compute_dihedral` lists: whether transposed, and whether odd rows and odd columns change their sign."""
_HEAD_BYTES = {8: 6, 16: 4, 20: 4, 32: 4}  # of codes of so many bytes that are no PDQ
_MOST_OF_ITEM = 255
_ESCAPE = 255  # in gaps between set bits: that many without one
_MOST_CODES = 1_000_000  # far above what one lookup takes


@cache
def mask(algorithm: Algorithm) -> NDArray[np.uint8]:
    """Return the bits of a code that are sent, as bytes of a code; all of them where no part can be left out."""
    if algorithm is Algorithm.PDQ:
        rows, columns = np.indices((_SIDE, _SIDE))
        found = np.packbits((rows + columns) % 2 == 0)
    else:
        found = np.zeros(algorithm.code_bytes, np.uint8)
        found[: _head_bytes(algorithm)] = 255
    found.flags.writeable = False
    return found


def _head_bytes(algorithm: Algorithm) -> int:
    return _HEAD_BYTES.get(algorithm.code_bytes, algorithm.code_bytes)


def sketched(columns: Iterable[HashColumn]) -> tuple[HashColumn, ...]:
    """Return columns with everything zero that a sketch does not send."""
    return tuple(HashColumn(each.algorithm, each.codes & mask(each.algorithm), each.items, each.max_distance) for each in columns)


def can_be_sketched(columns: Iterable[HashColumn]) -> bool:
    """Tell whether columns are of the form that a sketch has: by rising item, not very many codes of one."""
    return all((np.diff(each.items.astype(np.int64)) >= 0).all() and np.bincount(each.items).max() <= _MOST_OF_ITEM for each in columns)


def write_sketch(item_count: int, columns: Sequence[HashColumn]) -> list[pb.SketchColumn]:
    """Write the outline of columns for which `can_be_sketched` holds."""
    return [_write(item_count, column) for column in columns]


def read_sketch(columns: Iterable[pb.SketchColumn], item_count: int) -> tuple[HashColumn, ...]:
    """Read it: columns as `sketched` returns them.

    Raises:
        TooLargeError: more codes than any lookup takes.
        MalformedError: not of the stated form.
    """
    return tuple(_read(column, item_count) for column in columns)


def _write(item_count: int, column: HashColumn) -> pb.SketchColumn:
    counts = np.bincount(column.items, minlength=item_count).astype(np.uint8)
    written = pb.SketchColumn(
        algorithm=ALGORITHM_NUMBERS[column.algorithm],
        max_distance=column.max_distance,
        counts=zlib.compress(counts.tobytes(), 9),
    )
    if column.algorithm is not Algorithm.PDQ:
        written.codes = column.codes[:, : _head_bytes(column.algorithm)].tobytes()
        return written
    kept = np.flatnonzero(np.unpackbits(mask(column.algorithm)))
    bits = np.unpackbits(column.codes & mask(column.algorithm), axis=1).view(bool)
    first = _firsts(counts)
    written.codes = np.packbits(bits[first][:, kept]).tobytes()
    written.differences = zlib.compress(_gaps((bits ^ _foretold(bits, counts))[~first][:, kept]), 9)
    return written


def _read(column: pb.SketchColumn, item_count: int) -> HashColumn:
    algorithm = read_algorithm(column.algorithm)
    counts = np.frombuffer(_inflated(column.counts, item_count), np.uint8)
    total = int(counts.sum())
    if len(counts) != item_count or not total:
        raise MalformedError(f"{algorithm.label}: counts of {len(counts)} items, expected {item_count}")
    if total > _MOST_CODES:
        raise TooLargeError(f"{algorithm.label}: {total} codes")
    items = np.repeat(np.arange(item_count, dtype=np.uint32), counts)
    if algorithm is not Algorithm.PDQ:
        codes = np.zeros((total, algorithm.code_bytes), np.uint8)
        codes[:, : _head_bytes(algorithm)] = _bytes(column.codes, total, _head_bytes(algorithm), algorithm)
        if column.differences:
            raise MalformedError(f"{algorithm.label}: differences, which only PDQ has")
        return HashColumn(algorithm, codes, items, column.max_distance)
    kept = np.flatnonzero(np.unpackbits(mask(algorithm)))
    width, first = len(kept), _firsts(counts)
    others = total - int(first.sum())
    own = np.zeros((total, width), bool)
    own[first] = np.unpackbits(_bytes(column.codes, total - others, width // 8, algorithm), axis=1).view(bool)
    own[~first] = _from_gaps(_inflated(column.differences, others * width), others, width)
    bits = np.zeros((total, algorithm.code_bytes * 8), bool)
    bits[:, kept] = own
    return HashColumn(algorithm, np.packbits(bits ^ _foretold(bits, counts), axis=1), items, column.max_distance)


def _places(counts: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the place of each code within its item."""
    ends = np.cumsum(counts, dtype=np.int64)
    return np.arange(int(ends[-1]), dtype=np.int64) - np.repeat(ends - counts, counts)


def _firsts(counts: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell of each code whether it begins a group of views turned and mirrored."""
    found: NDArray[np.bool_] = _places(counts) % len(_TURNS) == 0
    return found


def _foretold(bits: NDArray[np.bool_], counts: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return what each masked code must be if it is the first one of its group turned; of first ones zero."""
    places, numbers = _places(counts) % len(_TURNS), np.arange(len(bits))
    found = np.zeros_like(bits)
    rows, columns = np.indices((_SIDE, _SIDE)) % 2
    shown = np.unpackbits(mask(Algorithm.PDQ)).astype(bool)
    for turn, (transposed, odd_rows, odd_columns) in enumerate(_TURNS):
        here = np.flatnonzero(places == turn)
        if turn and len(here):
            whole = bits[numbers[here] - turn].reshape(-1, _SIDE, _SIDE)
            turned = whole.transpose(0, 2, 1) if transposed else whole
            signs = ((rows & odd_rows) ^ (columns & odd_columns)).astype(bool)
            found[here] = (turned ^ signs).reshape(len(here), -1) & shown
    return found


def _gaps(bits: NDArray[np.bool_]) -> bytes:
    """Write sparse bits as the numbers of those that are not set between those that are."""
    gaps = np.diff(np.flatnonzero(bits.ravel()), prepend=-1) - 1
    ends = np.cumsum(gaps // _ESCAPE + 1) - 1
    written = np.full(int(ends[-1]) + 1 if len(ends) else 0, _ESCAPE, np.uint8)
    written[ends] = gaps % _ESCAPE
    return written.tobytes()


def _from_gaps(written: bytes, count: int, width: int) -> NDArray[np.bool_]:
    bits = np.zeros(count * width, bool)
    values = np.frombuffer(written, np.uint8).astype(np.int64)
    if len(values) and values[-1] == _ESCAPE:
        raise MalformedError("differences that end without a bit")
    ends = values != _ESCAPE
    at = np.cumsum(values + ends)[ends] - 1
    if len(at) and at[-1] >= len(bits):
        raise MalformedError("differences beyond the last code")
    bits[at] = True
    return bits.reshape(count, width)


def _bytes(written: bytes, count: int, width: int, algorithm: Algorithm) -> NDArray[np.uint8]:
    if len(written) != count * width:
        raise MalformedError(f"{algorithm.label}: {len(written)} bytes for {count} codes in outline")
    return np.frombuffer(written, np.uint8).reshape(count, width)


def _inflated(written: bytes, most: int) -> bytes:
    if not written:
        return b""
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(written, most + 1)
    except zlib.error:
        raise MalformedError("a sketch that cannot be unpacked") from None
    if len(found) > most or not stream.eof or stream.unused_data:
        raise MalformedError("a sketch that unpacks into more, or less, than it says")
    return found
