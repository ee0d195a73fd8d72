"""The tree against published vectors, against RFC 6962's definition written out, and against forged proofs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidfed.security.audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    read_frontier,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from vidfed.security.errors import ProofError

if TYPE_CHECKING:
    from collections.abc import Sequence

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "rfc6962_vectors.json").read_text())
KNOWN_LEAVES = [bytes.fromhex(text) for text in VECTORS["leaves"]]


class Tree:
    """Stored hashes of a tree, grown leaf by leaf."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.leaves = list(leaves)
        self.levels: dict[int, list[bytes]] = {0: []}
        self.edge = Frontier()
        self.roots = [EMPTY_ROOT]
        for leaf in leaves:
            self.levels[0].append(leaf_hash(leaf))
            for level, position, found in self.edge.append(leaf_hash(leaf)):
                assert len(self.levels.setdefault(level, [])) == position
                self.levels[level].append(found)
            self.roots.append(self.edge.root())

    def read(self, level: int, first: int, count: int) -> list[bytes]:
        found = self.levels[level][first : first + count]
        assert len(found) == count <= 256
        return found


def mth(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word: the oracle."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """RFC 6962, section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return [*path(m, leaves[:k]), mth(leaves[k:])] if m < k else [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: Sequence[bytes], *, whole: bool) -> list[bytes]:
    """RFC 6962, section 2.1.2."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return [*subproof(m, leaves[:k], whole=whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], whole=False), mth(leaves[:k])]


LARGE = Tree([number.to_bytes(3, "big") for number in range(1_300)])  # five full tiles and a part; grown once


@pytest.mark.parametrize("size", range(9))
def test_roots_are_the_published_ones(size: int) -> None:
    expected = [VECTORS["empty_root"], *VECTORS["roots"]][size]
    tree = Tree(KNOWN_LEAVES[:size])
    assert tree.edge.root().hex() == expected
    assert tree_root(tree.read, size).hex() == expected


@pytest.mark.parametrize("case", VECTORS["inclusion"])
def test_inclusion_proofs_are_the_published_ones(case: dict[str, Any]) -> None:
    tree = Tree(KNOWN_LEAVES[: case["size"]])
    proof = inclusion_proof(tree.read, case["index"], case["size"])
    assert [entry.hex() for entry in proof] == case["proof"]
    verify_inclusion(leaf_hash(KNOWN_LEAVES[case["index"]]), case["index"], case["size"], tree.edge.root(), proof)


@pytest.mark.parametrize("case", VECTORS["consistency"])
def test_consistency_proofs_are_the_published_ones(case: dict[str, Any]) -> None:
    tree = Tree(KNOWN_LEAVES)
    proof = consistency_proof(tree.read, case["old"], case["new"])
    assert [entry.hex() for entry in proof] == case["proof"]
    verify_consistency(case["old"], case["new"], tree.roots[case["old"]], tree.roots[case["new"]], proof)


@given(size=st.integers(1, 40), data=st.data())
def test_every_proof_is_that_of_the_definition(size: int, data: st.DataObject) -> None:
    leaves = LARGE.leaves[:size]
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    assert tree_root(LARGE.read, size) == mth(leaves)
    assert inclusion_proof(LARGE.read, index, size) == path(index, leaves)
    assert consistency_proof(LARGE.read, old, size) == subproof(old, leaves, whole=True)


@given(size=st.integers(1, 1_300), data=st.data())
def test_proofs_hold_at_every_size_across_tiles(size: int, data: st.DataObject) -> None:
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
    verify_inclusion(leaf_hash(LARGE.leaves[index]), index, size, LARGE.roots[size], inclusion_proof(LARGE.read, index, size))
    verify_consistency(old, size, LARGE.roots[old], LARGE.roots[size], consistency_proof(LARGE.read, old, size))
    assert read_frontier(LARGE.read, size).root() == LARGE.roots[size]


@given(size=st.integers(2, 1_300), data=st.data())
def test_a_changed_inclusion_proof_never_holds(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof, leaf = inclusion_proof(LARGE.read, index, size), leaf_hash(LARGE.leaves[index])
    position = data.draw(st.integers(0, len(proof) - 1))
    flipped = [*proof[:position], bytes([proof[position][0] ^ 1, *proof[position][1:]]), *proof[position + 1 :]]
    forged: list[tuple[bytes, int, int, list[bytes]]] = [
        (leaf, index, size, flipped),
        (leaf, index, size, [*proof, bytes(32)]),
        (leaf, index, size, proof[:-1]),
        (leaf, index, size, [LARGE.roots[size], *proof]),
        (leaf_hash(b"other"), index, size, proof),
    ]
    if index != size - 1:
        forged.append((leaf, index ^ 1 if index ^ 1 < size else index - 1, size, proof))
    for candidate, place, claimed, hashes in forged:
        with pytest.raises(ProofError):
            verify_inclusion(candidate, place, claimed, LARGE.roots[size], hashes)


@given(size=st.integers(2, 1_300), data=st.data())
def test_a_changed_consistency_proof_never_holds(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size - 1))
    proof, before, after = consistency_proof(LARGE.read, old, size), LARGE.roots[old], LARGE.roots[size]
    for first, second, hashes in (
        (before, after, [*proof, bytes(32)]),
        (before, after, proof[:-1]),
        (before, after, [bytes([proof[0][0] ^ 1, *proof[0][1:]]), *proof[1:]]),
        (after, before, proof),
        (bytes(32), after, proof),
        (before, bytes(32), proof),
    ):
        with pytest.raises(ProofError):
            verify_consistency(old, size, first, second, hashes)


def test_trailing_junk_in_a_proof_is_refused() -> None:
    for junk in (b"", b"x", bytes(31), bytes(33)):
        with pytest.raises(ProofError, match="32 bytes"):
            verify_inclusion(leaf_hash(KNOWN_LEAVES[0]), 0, 8, LARGE.roots[8], [*inclusion_proof(LARGE.read, 0, 8), junk])


def test_a_proof_of_endless_length_is_refused_unread() -> None:
    with pytest.raises(ProofError, match="at most 63"):
        verify_consistency(1, 2, bytes(32), bytes(32), [bytes(32)] * 64)


def test_from_nothing_to_nothing_with_another_root_is_refused() -> None:
    verify_consistency(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])
    with pytest.raises(ProofError):
        verify_consistency(0, 0, EMPTY_ROOT, bytes(32), [])
    with pytest.raises(ProofError):
        verify_consistency(0, 5, bytes(32), LARGE.roots[5], [])
    with pytest.raises(ProofError):
        verify_consistency(0, 5, EMPTY_ROOT, LARGE.roots[5], [bytes(32)])


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_an_entry_outside_the_tree_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ProofError):
        inclusion_proof(LARGE.read, index, size)
    with pytest.raises(ProofError):
        verify_inclusion(bytes(32), index, size, bytes(32), [])


def test_an_inclusion_proof_for_a_smaller_tree_is_too_short() -> None:
    """Leaf 0 of two is proven by one hash; in a tree of four it needs two, whatever the root is said to be."""
    leaves = [leaf_hash(bytes([number])) for number in range(2)]
    root = node_hash(*leaves)
    verify_inclusion(leaves[0], 0, 2, root, [leaves[1]])
    for size in (3, 4, 8):
        with pytest.raises(ProofError, match="too short"):
            verify_inclusion(leaves[0], 0, size, root, [leaves[1]])
