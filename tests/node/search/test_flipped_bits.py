"""A bit that the disk turned over is never the reason for "no match": what is searched is found whole first, or nothing is answered."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.brute_force import TINY
from tests.support.memory import columns_of
from vidfed.index import Algorithm, Hash
from vidfed.index.errors import HashError
from vidfed.index.search import hash_index
from vidfed.node.errors import NodeError
from vidfed.node.records.record import Record
from vidfed.node.records.store import RecordStore
from vidfed.node.search.catalogue import Catalogue
from vidfed.node.search.checked import last_check, refused_for
from vidfed.node.search.query import SearchQuery

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = 1_800_000_000_000
RECORDS = 1_000
TOGETHER = 100
PAGE = 4_096
INDEX_PAGES = (2, 10)  # types of SQLite's B-tree pages of an index: inner and leaf
ALGORITHMS = (Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA256, Algorithm.PDQ)


def code(algorithm: Algorithm, number: int) -> bytes:
    """Something spread over all values, so that it is spread over an index's pages."""
    return (number * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big") * 4 if algorithm is Algorithm.PDQ else _digest(algorithm, number)


def _digest(algorithm: Algorithm, number: int) -> bytes:
    return hashlib.sha256(f"{algorithm.value} {number}".encode()).digest()[: algorithm.code_bytes]


def fill(location: Path | str, folder: Path) -> None:
    with closing(RecordStore(location)) as store:
        store.upsert((Record({each: code(each, number) for each in ALGORITHMS}) for number in range(RECORDS)), now_ms=NOW)
        with closing(Catalogue(store, folder, lambda: NOW)) as catalogue:
            catalogue.catch_up()


def lost(location: Path | str, folder: Path) -> dict[Algorithm, int]:
    """Open the store as a node does, ask for every code, and return how many are answered with "no match"; 0 where nothing is answered."""
    try:
        with closing(RecordStore(location, make=False)) as store, closing(Catalogue(store, folder, lambda: NOW)) as catalogue:
            catalogue.start()
            catalogue.catch_up()
            return {each: _lost(catalogue, each) for each in ALGORITHMS}
    except (NodeError, HashError):
        return {}


def _lost(catalogue: Catalogue, algorithm: Algorithm) -> int:
    """Asked for a few at a time: of many PostgreSQL would read the table instead of its index."""
    count = 0
    for first in range(0, RECORDS, TOGETHER):
        asked = [Hash(algorithm, code(algorithm, number)) for number in range(first, first + TOGETHER)]
        (found,) = catalogue.search([SearchQuery(columns_of(asked, 0), 5)])
        count += TOGETHER - len({hit.item for hit in found.hits})
    return count


@pytest.fixture(scope="module", autouse=True)
def segments() -> Iterator[None]:
    """Indexes with segments, as large ones have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hash_index, "Sizes", lambda: TINY)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    fill(folder / "records.db", folder / "index")
    return folder


def flips(folder: Path, step: int) -> Iterator[tuple[Path, int]]:
    """Places (file, byte) of one bit in each page of the database's indexes, and in each of the files of the search indexes."""
    database = folder / "records.db"
    content = database.read_bytes()
    pages = [start for start in range(PAGE, len(content), PAGE) if content[start] in INDEX_PAGES]
    yield from ((database, start + PAGE - 40) for start in pages[::step])
    files = sorted(path for path in (folder / "index").rglob("*") if path.is_file() and path.stat().st_size)
    yield from ((path, path.stat().st_size // 2) for path in files[::step])


@pytest.mark.parametrize("step", [13, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_flipped_bit_in_any_index_is_never_a_no_match(whole: Path, tmp_path: Path, step: int) -> None:
    assert lost(whole / "records.db", whole / "index") == dict.fromkeys(ALGORITHMS, 0)
    answered = []
    for number, (path, at) in enumerate(flips(whole, step)):
        copy = tmp_path / str(number)
        shutil.copytree(whole, copy)
        with (copy / path.relative_to(whole)).open("r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 4]))
        said = lost(copy / "records.db", copy / "index")
        assert not any(said.values()), (path.name, at, said)
        answered.append(bool(said))
        shutil.rmtree(copy)
    assert not all(answered)  # or the bits were where nobody looks


PLACES = (("records_md5", 0.5), ("records_md5", 0.95), ("records_version_key", 0.6), ("records_pkey", 0.8))
"""Indexes, also those by which changes are followed and records fetched, and how far into their files."""


def test_a_flipped_bit_in_an_index_on_postgresql_is_never_a_no_match(postgresql_url: str, tmp_path: Path) -> None:
    fill(postgresql_url, tmp_path / "index")
    server, _, name = postgresql_url.rpartition("/")
    refused = 0
    with psycopg.connect(f"{server}/postgres", autocommit=True) as administrator:
        (data,) = administrator.execute("SHOW data_directory").fetchone() or ("",)
        for number, (index, share) in enumerate(PLACES):
            damaged = f"{name}_{number}"
            administrator.execute(f"CREATE DATABASE {damaged} TEMPLATE {name} STRATEGY FILE_COPY")
            with psycopg.connect(f"{server}/{damaged}") as connection:
                (file,) = connection.execute("SELECT pg_relation_filepath(%s)", (index,)).fetchone() or ("",)
            path = Path(data) / file
            content = bytearray(path.read_bytes())
            at = next(at for at in range(int(len(content) * share), len(content)) if content[at] not in {0, 255})
            content[at] ^= 4
            path.write_bytes(content)
            said = lost(f"{server}/{damaged}", tmp_path / "index")
            assert not any(said.values()), (at, said)
            refused += not said
            administrator.execute(f"DROP DATABASE {damaged} WITH (FORCE)")
    assert refused


def test_what_is_damaged_while_the_node_serves_is_found_by_the_next_check(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    path, folder = tmp_path / "copy/records.db", tmp_path / "copy/index"
    with closing(RecordStore(path, make=False)) as store, closing(Catalogue(store, folder, lambda: NOW)) as catalogue:
        catalogue.start()
        catalogue.catch_up()
        assert _lost(catalogue, Algorithm.MD5) == 0
        content = bytearray(path.read_bytes())
        starts = [start for start in range(PAGE, len(content), PAGE) if content[start] == INDEX_PAGES[1]]
        start = starts[len(starts) // 2]  # the first ones are of tables without a row
        content[start + PAGE - 40] ^= 4
        path.write_bytes(content)
        catalogue.check_all()  # as the keeper's thread does every AGAIN_S
        assert "damaged" in last_check(folder).found
        assert "damaged" in refused_for(folder)
        with pytest.raises(NodeError, match=r"damaged.*restore a backup"):
            _lost(catalogue, Algorithm.MD5)


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_bit_turned_over_in_an_index_while_the_node_serves_is_found_by_the_next_check(whole: Path, tmp_path: Path, every: int) -> None:
    """In any file: the index is made anew from the records, nothing is answered meanwhile, and status says what was found."""
    for path in sorted((whole / "index/pdq").iterdir())[::every]:
        if not path.stat().st_size:
            continue
        copy = tmp_path / path.name
        shutil.copytree(whole, copy)
        folder = copy / "index"
        with closing(RecordStore(copy / "records.db", make=False)) as store, closing(Catalogue(store, folder, lambda: NOW)) as catalogue:
            catalogue.catch_up()
            catalogue.check_all()
            assert last_check(folder).found == ""
            with (folder / "pdq" / path.name).open("r+b") as file:
                file.seek(path.stat().st_size // 2)
                byte = file.read(1)[0]
                file.seek(path.stat().st_size // 2)
                file.write(bytes([byte ^ 4]))
            catalogue.check_all()
            assert "the PDQ index was damaged" in last_check(folder).found, path.name
            assert "may have missed records" in last_check(folder).found
            catalogue.catch_up()
            assert _lost(catalogue, Algorithm.PDQ) == 0
            assert catalogue._follower.renewals() == 1
            catalogue.check_all()
            assert last_check(folder).whole_ms >= last_check(folder).found_ms
