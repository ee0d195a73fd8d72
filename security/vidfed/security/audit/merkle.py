"""The Merkle tree of RFC 6962, section 2.1, with the verification algorithms of RFC 9162, sections 2.1.3.2 and 2.1.4.2. Pure.

Hashes are kept in tiles, 256 wide: level 0 holds the leaf hashes, level k the roots of complete subtrees of 256**k leaves. Whoever
stores them hands this module a `ReadHashes`; any root or proof costs a few reads of at most 256 hashes each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vidfed.security.errors import ProofError

HASH_BYTES = 32
TILE_BITS = 8
TILE_WIDTH = 1 << TILE_BITS
MAX_PROOF_HASHES = 63  # C2SP tlog-witness: a longer proof is of a tree that cannot exist
EMPTY_ROOT = hashlib.sha256(b"").digest()

# (level, first, count) -> that many hashes of 32 bytes, in order.
ReadHashes = Callable[[int, int, int], Sequence[bytes]]


def leaf_hash(leaf: bytes) -> bytes:
    """Return SHA-256(0x00 || leaf)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(slots=True)
class Frontier:
    """The right edge of a growing tree: the roots of its complete subtrees, largest first. All that appending needs.

    Attributes:
        size: number of leaves.
        roots: one hash for each bit set in `size`, from the highest bit down.
    """

    size: int = 0
    roots: list[bytes] = field(default_factory=list)

    def copy(self) -> Frontier:
        """Return an independent copy."""
        return Frontier(self.size, list(self.roots))

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add one leaf hash; return the hashes to store above level 0, as (level, position, hash)."""
        sha256 = hashlib.sha256
        position, height, current = self.size, 0, leaf
        stored = []
        while position & 1:
            current = sha256(b"\x01" + self.roots.pop() + current).digest()
            position >>= 1
            height += 1
            if not height % TILE_BITS:
                stored.append((height // TILE_BITS, position, current))
        self.roots.append(current)
        self.size += 1
        return stored

    def append_complete(self, root: bytes, height: int) -> None:
        """Add a complete subtree of 2**height leaves, which must begin at a multiple of its size."""
        position, current = self.size >> height, root
        while position & 1:
            current = node_hash(self.roots.pop(), current)
            position >>= 1
        self.roots.append(current)
        self.size += 1 << height

    def root(self) -> bytes:
        """Return the tree's root."""
        if not self.roots:
            return EMPTY_ROOT
        result = self.roots[-1]
        for left in reversed(self.roots[:-1]):
            result = node_hash(left, result)
        return result


def read_frontier(read: ReadHashes, size: int) -> Frontier:
    """Return the frontier of the first `size` leaves from stored hashes."""
    roots, start = [], 0
    for height in reversed(range(size.bit_length())):
        if size >> height & 1:
            roots.append(_complete(read, start, height))
            start += 1 << height
    return Frontier(size, roots)


def complete_after(read: ReadHashes, start: int, size: int) -> list[bytes]:
    """Return the roots of the complete subtrees that follow the first `start` leaves up to `size`, as `heights_after` lists them."""
    roots = []
    for height in heights_after(start, size):
        roots.append(_complete(read, start, height))
        start += 1 << height
    return roots


def heights_after(start: int, size: int) -> list[int]:
    """Return the heights of the largest aligned complete subtrees that fill [start, size), left to right."""
    heights = []
    while start < size:
        height = (size - start).bit_length() - 1
        if start:
            height = min(height, (start & -start).bit_length() - 1)
        heights.append(height)
        start += 1 << height
    return heights


def tree_root(read: ReadHashes, size: int) -> bytes:
    """Return MTH(D[0:size])."""
    return _range_root(read, 0, size) if size else EMPTY_ROOT


def inclusion_proof(read: ReadHashes, index: int, size: int) -> list[bytes]:
    """Return PATH(index, D[0:size]), RFC 6962 section 2.1.1.

    Args:
        read: gives stored hashes.
        index: of the leaf, from 0.
        size: of the tree.

    Raises:
        ProofError: there is no such leaf in a tree of that size.
    """
    if not 0 <= index < size:
        raise ProofError(f"entry {index} is not in a log of {size} entries")
    proof = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(_range_root(read, middle, end))
            end = middle
        else:
            proof.append(_range_root(read, start, middle))
            start = middle
    return proof[::-1]


def consistency_proof(read: ReadHashes, old: int, new: int) -> list[bytes]:
    """Return PROOF(old, D[0:new]), RFC 6962 section 2.1.2; empty from size 0.

    Raises:
        ProofError: `old` is larger than `new`.
    """
    if not 0 <= old <= new:
        raise ProofError(f"a log of {new} entries has no earlier state of {old}")
    if old in {0, new}:
        return []
    proof = []
    start, end, whole = 0, new, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(_range_root(read, middle, end))
            end = middle
        else:
            proof.append(_range_root(read, start, middle))
            start, whole = middle, False
    if not whole:
        proof.append(_range_root(read, start, end))
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Return if the proof shows this leaf hash at `index` of the tree of `size` leaves with this root (RFC 9162, 2.1.3.2).

    Raises:
        ProofError: it does not.
    """
    if not 0 <= index < size:
        raise ProofError(f"entry {index} is not in a log of {size} entries")
    _check_hashes(proof)
    position, last, result = index, size - 1, leaf
    for sibling in proof:
        if not last:
            raise ProofError("inclusion proof: too long")
        if position & 1 or position == last:
            result = node_hash(sibling, result)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            result = node_hash(result, sibling)
        position >>= 1
        last >>= 1
    if last:
        raise ProofError("inclusion proof: too short")
    if result != root:
        raise ProofError("inclusion proof: does not lead to the root")


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Return if the proof shows that the tree of `new` leaves only adds to the tree of `old` leaves (RFC 9162, 2.1.4.2).

    From size 0 the proof is empty and the old root must be the empty tree's; equal sizes need equal roots and an empty proof.

    Raises:
        ProofError: it does not.
    """
    if not 0 <= old <= new:
        raise ProofError(f"a log of {new} entries cannot continue one of {old}")
    _check_hashes(proof)
    if old == new:
        if proof or old_root != new_root:
            raise ProofError("same size, other root")
        return
    if not old:
        if proof or old_root != EMPTY_ROOT:
            raise ProofError("an empty log has one root only, and needs no proof")
        return
    before, after = _consistent_roots(old, new, old_root, proof)
    if before != old_root or after != new_root:
        raise ProofError("consistency proof: does not lead from the old root to the new one")


def _consistent_roots(old: int, new: int, old_root: bytes, proof: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return the old and the new root that the proof leads to, for 0 < old < new."""
    path = list(proof)
    if not old & (old - 1):
        path.insert(0, old_root)
    position, last = old - 1, new - 1
    while position & 1:
        position >>= 1
        last >>= 1
    if not path:
        raise ProofError("consistency proof: too short")
    before = after = path[0]
    for sibling in path[1:]:
        if not last:
            raise ProofError("consistency proof: too long")
        if position & 1 or position == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            after = node_hash(after, sibling)
        position >>= 1
        last >>= 1
    if last:
        raise ProofError("consistency proof: too short")
    return before, after


def _check_hashes(proof: Sequence[bytes]) -> None:
    if len(proof) > MAX_PROOF_HASHES:
        raise ProofError(f"proof of {len(proof)} hashes, at most {MAX_PROOF_HASHES}")
    if any(len(entry) != HASH_BYTES for entry in proof):
        raise ProofError(f"a hash in a proof that is not of {HASH_BYTES} bytes")


def _split(count: int) -> int:
    """Return the largest power of two below `count`, which is at least 2."""
    return 1 << (count - 1).bit_length() - 1


def _range_root(read: ReadHashes, start: int, end: int) -> bytes:
    """Return MTH(D[start:end]); `start` is a multiple of the largest power of two not above the range's length."""
    pieces = []
    while start < end:
        height = (end - start).bit_length() - 1
        pieces.append(_complete(read, start, height))
        start += 1 << height
    result = pieces.pop()
    while pieces:
        result = node_hash(pieces.pop(), result)
    return result


def _complete(read: ReadHashes, start: int, height: int) -> bytes:
    """Return the root of the complete subtree of 2**height leaves from `start`, read from the highest tile level below it."""
    level = height // TILE_BITS
    hashes = list(read(level, start >> level * TILE_BITS, 1 << height - level * TILE_BITS))
    while len(hashes) > 1:
        hashes = [node_hash(hashes[i], hashes[i + 1]) for i in range(0, len(hashes), 2)]
    return hashes[0]
