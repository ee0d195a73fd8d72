"""The canary: one record, nobody's picture, that self-tests search instead of the records. What it is, everybody can work out.

A self-test proves that a node reads questions, searches and signs: at an accession, from a member in quarantine that may not ask anything
yet, once a minute from a probe. So it must find something, and must not be a way to the records.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

from vidfed.index import Algorithm, Hash
from vidfed.node.records.record import Record
from vidfed.node.records.store import RecordStore
from vidfed.node.search.catalogue import Catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidfed.security.clock import Clock

CANARY = "canary"
"""The record's reference, and the name of its folder in the member's."""
_ALGORITHMS = (Algorithm.SHA256, Algorithm.PDQ)
"""One that the store answers, and one that an index answers."""


def canary_hashes(federation: str, member: str) -> tuple[Hash, ...]:
    """Return the hashes of a member's canary. They are random to look at, and no picture has them."""
    texts = {algorithm: f"vidfed canary/1 {algorithm.value} {federation} {member}" for algorithm in _ALGORITHMS}
    return tuple(Hash(algorithm, hashlib.sha256(text.encode()).digest()) for algorithm, text in texts.items())


def make_canary(folder: Path, federation: str, member: str, *, now_ms: int) -> None:
    """Make the canary's store in a folder; nothing happens where it is there.

    Raises:
        StoreError: it cannot be written.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    hashes = {each.algorithm: each.code for each in canary_hashes(federation, member)}
    with contextlib.closing(RecordStore(folder / "records.db")) as store:
        store.upsert([Record(hashes, reference=CANARY)], now_ms=now_ms)


@contextlib.contextmanager
def open_canary(folder: Path, federation: str, member: str, clock: Clock, *, keeper: bool) -> Iterator[Catalogue]:
    """Give the catalogue of a member's canary; the keeper makes it where it is missing, for there is nothing in it that could be lost.

    Raises:
        StoreError, HashError: it cannot be opened.
    """
    if keeper:
        make_canary(folder, federation, member, now_ms=clock())
    with (
        contextlib.closing(RecordStore(folder / "records.db", make=False)) as store,
        contextlib.closing(Catalogue(store, folder / "index", clock, keeper=keeper)) as catalogue,
    ):
        catalogue.catch_up()
        yield catalogue
