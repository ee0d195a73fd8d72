"""Columns in outline: what is sent comes back, nothing within a distance is missed, and it is small."""

from __future__ import annotations

import zlib

import numpy as np
import pdqhash
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vidfed.index import Algorithm
from vidfed.synthetic.pictures import picture
from vidfed.v1 import lookup_pb2 as pb
from vidfed.wire.sketches.columns import can_be_sketched, mask, read_sketch, sketched, write_sketch
from vidfed.wire.statuses import WireError
from vidfed.wire.values import HashColumn

ITEMS = 4


@st.composite
def columns(draw: st.DrawFn) -> HashColumn:
    """Return a column of one algorithm, by rising item, some items without a code and some with many."""
    algorithm = draw(st.sampled_from(list(Algorithm)))
    counts = draw(st.lists(st.integers(0, 18), min_size=ITEMS, max_size=ITEMS).filter(any))
    codes = draw(arrays.arrays(np.uint8, (sum(counts), algorithm.code_bytes)))
    items = np.repeat(np.arange(ITEMS, dtype=np.uint32), counts)
    return HashColumn(algorithm, codes, items, draw(st.integers(0, 31)))


def distance(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


@given(columns())
def test_what_is_sent_in_outline_comes_back_and_the_rest_is_zero(column: HashColumn) -> None:
    (expected,) = sketched([column])
    (read,) = read_sketch(write_sketch(ITEMS, [column]), ITEMS)
    assert (read.algorithm, read.max_distance) == (column.algorithm, column.max_distance)
    assert np.array_equal(read.codes, expected.codes)
    assert np.array_equal(read.items, expected.items)


@given(st.sampled_from([each for each in Algorithm if each is not Algorithm.PHOTODNA]), st.data())
def test_masked_codes_are_never_farther_apart(algorithm: Algorithm, data: st.DataObject) -> None:
    one, other = (data.draw(st.binary(min_size=algorithm.code_bytes, max_size=algorithm.code_bytes)) for _ in range(2))
    masked = [bytes(np.frombuffer(each, np.uint8) & mask(algorithm)) for each in (one, other)]
    assert distance(*masked) <= distance(one, other)


def test_photodna_is_sent_whole() -> None:
    assert mask(Algorithm.PHOTODNA).all()


def test_a_picture_turned_and_mirrored_takes_little_more_than_once() -> None:
    """8 PDQ hashes of 32 bytes: 16 of the first, and less than 4 of each of the others."""
    codes = []
    for seed in range(1, 21):
        codes += [np.packbits(vector) for vector in pdqhash.compute_dihedral(np.asarray(picture(seed).convert("RGB")))[0]]
    column = HashColumn(Algorithm.PDQ, np.array(codes), np.repeat(np.arange(20, dtype=np.uint32), 8), 31)
    (written,) = write_sketch(20, [column])
    assert written.ByteSize() < 20 * (16 + 7 * 4)


def test_columns_without_an_outline() -> None:
    codes = np.zeros((300, 16), np.uint8)
    assert not can_be_sketched([HashColumn(Algorithm.MD5, codes, np.zeros(300, np.uint32), 0)])
    assert not can_be_sketched([HashColumn(Algorithm.MD5, codes[:2], np.array([1, 0], np.uint32), 0)])


def _whole() -> pb.SketchColumn:
    codes = np.arange(16 * 32, dtype=np.uint8).reshape(16, 32)
    return write_sketch(2, [HashColumn(Algorithm.PDQ, codes, np.repeat(np.arange(2, dtype=np.uint32), 8), 31)])[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("counts", b""),
        ("counts", b"no zlib"),
        ("counts", zlib.compress(bytes(1_000_000))),
        ("counts", zlib.compress(bytes(2))),
        ("counts", zlib.compress(bytes([8, 8])) + b"more"),
        ("codes", b"x" * 33),
        ("differences", zlib.compress(b"\xff" * 40 + b"\x01")),
        ("differences", zlib.compress(b"\xff")),
        ("differences", zlib.compress(bytes(10_000_000))),
        ("algorithm", pb.HASH_ALGORITHM_UNSPECIFIED),
    ],
    ids=lambda value: str(value)[:24] if isinstance(value, str) else str(zlib.crc32(value)) if isinstance(value, bytes) else str(value),
)
def test_malformed_outline_is_refused(field: str, value: object) -> None:
    codes = np.arange(16 * 32, dtype=np.uint8).reshape(16, 32)
    (column,) = write_sketch(2, [HashColumn(Algorithm.PDQ, codes, np.repeat(np.arange(2, dtype=np.uint32), 8), 31)])
    setattr(column, field, value)
    with pytest.raises(WireError):
        read_sketch([column], 2)
