"""Indexes that follow a store shared by several processes, and what a record's owner lets others see."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from tests.support.records import NOW, code, record
from vidfed.index import Algorithm
from vidfed.node.records.lifecycle import erase
from vidfed.node.records.store import RecordStore
from vidfed.node.search.catalogue import Catalogue
from vidfed.node.search.query import SearchQuery
from vidfed.wire.values import HashColumn

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.node.search.query import Found


def search(catalogue: Catalogue, seed: int, member: str = "fr") -> Found:
    codes = np.frombuffer(code(Algorithm.PDQ, seed), dtype=np.uint8).reshape(1, -1)
    column = HashColumn(Algorithm.PDQ, codes, np.zeros(1, np.uint32), 31)
    (found,) = catalogue.search([SearchQuery([column], 1, visible=lambda known: known.visible_to(member))])
    return found


def test_two_nodes_on_one_store_both_find_what_either_took_in_and_lose_what_either_erased(location: Path | str, tmp_path: Path) -> None:
    with (
        closing(RecordStore(location)) as first_store,
        closing(RecordStore(location)) as second_store,
        closing(Catalogue(first_store, tmp_path / "first", lambda: NOW)) as first,
        closing(Catalogue(second_store, tmp_path / "second", lambda: NOW)) as second,
    ):
        first.start()
        second.start()
        taken = [record(1), record(2)]
        first_store.upsert(taken[:1], now_ms=NOW)
        second_store.upsert(taken[1:], now_ms=NOW)
        for catalogue in (first, second):
            assert [found.reference for seed in (1, 2) for found in search(catalogue, seed).records] == [each.reference for each in taken]
        erase(second_store, taken[0].reference, now_ms=NOW)
        assert search(first, 1).hits == ()


def test_a_record_a_member_may_not_see_is_as_if_it_did_not_exist(tmp_path: Path) -> None:
    with closing(RecordStore(tmp_path / "records.db")) as store:
        hidden = [record(1, sharing="not:fr", series=str(number)) for number in range(2)]
        hidden[1] = record(1, (Algorithm.PDQ,), sharing="nobody")
        store.upsert([*hidden, record(2)], now_ms=NOW)
        with closing(Catalogue(store, tmp_path / "index", lambda: NOW)) as catalogue:
            catalogue.start()
            assert (search(catalogue, 1).hits, search(catalogue, 1).truncated_items) == ((), ())
            assert len(search(catalogue, 1, member="nl").hits) == 1
            assert len(search(catalogue, 2).hits) == 1
