"""The count of codes by which members were told of records."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.support.disk import full_disk
from vidfed.index import Algorithm
from vidfed.node.errors import QuotasError
from vidfed.node.lookup import told
from vidfed.node.lookup.told import KEPT_MS, MOST_CODES, MOST_FILMS, ToldCodes
from vidfed.node.search.coarse import compared_parts
from vidfed.node.search.query import FILM, Telling
from vidfed.security.clock import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = 1_800_000_000_000
PERCEPTUAL = [algorithm for algorithm in Algorithm if algorithm.is_perceptual]


@pytest.fixture
def codes(tmp_path: Path) -> Iterator[ToldCodes]:
    made = ToldCodes(tmp_path / "told.db")
    yield made
    made.close()


def tell(codes: ToldCodes, *numbers: int, record: str = "r", kind: str = "pdq", member: str = "nl", at: int = NOW) -> frozenset[str]:
    return codes.count(member, [Telling(record, kind, bytes([number])) for number in numbers], at)


def test_a_record_is_coarse_for_a_member_once_it_was_told_of_it_by_more_than_a_few_codes(codes: ToldCodes) -> None:
    assert tell(codes, *range(MOST_CODES), *range(MOST_CODES)) == frozenset()
    assert tell(codes, 0, 1) == frozenset()
    assert tell(codes, MOST_CODES) == tell(codes, 0) == codes.coarse("nl", NOW) == {"r"}


def test_each_member_record_and_algorithm_is_counted_by_itself_and_films_apart(codes: ToldCodes) -> None:
    tell(codes, *range(MOST_CODES))
    for other in ({"record": "other"}, {"kind": "phash"}, {"member": "fr"}):
        assert tell(codes, *range(10, 10 + MOST_CODES), **other) == frozenset()  # type: ignore[arg-type]  # texts all
    assert tell(codes, *range(MOST_FILMS), kind=FILM) == frozenset()
    assert tell(codes, MOST_FILMS, kind=FILM) == {"r"}
    assert codes.coarse("fr", NOW) == frozenset()


def test_a_restart_forgets_neither_the_count_nor_which_part_is_secret(codes: ToldCodes, tmp_path: Path) -> None:
    tell(codes, *range(MOST_CODES))
    before = codes.compared(Algorithm.PDQ, bytes(range(32)))
    codes.close()
    again = ToldCodes(tmp_path / "told.db")
    assert tell(again, MOST_CODES) == {"r"}
    assert np.array_equal(before, again.compared(Algorithm.PDQ, bytes(range(32))))
    again.close()


def test_what_was_not_told_for_three_months_is_forgotten_and_what_was_told_meanwhile_is_not(codes: ToldCodes) -> None:
    tell(codes, *range(MOST_CODES), record="fine")
    tell(codes, *range(MOST_CODES + 1))
    assert tell(codes, 99, at=NOW + KEPT_MS - DAY_MS) == {"r"}
    assert codes.coarse("nl", NOW + KEPT_MS) == {"r"}
    assert tell(codes, 99, record="fine", at=NOW + KEPT_MS) == frozenset()
    assert codes.coarse("nl", NOW + 2 * KEPT_MS) == frozenset()


def test_one_member_s_rows_are_bounded_and_push_out_nobody_else_s(codes: ToldCodes, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOST_ROWS", "MOST_COARSE", "_TIDY_EVERY"):
        monkeypatch.setattr(told, name, 10)
    tell(codes, *range(MOST_CODES + 1), record="theirs", member="fr")
    for number in range(40):
        tell(codes, *range(MOST_CODES + 1), record=f"r{number}", at=NOW + number)
        tell(codes, number, record=f"fine{number}", at=NOW + number)
    coarse = codes.coarse("nl", NOW + 40)
    assert 10 <= len(coarse) <= 20
    assert "r39" in coarse
    assert "r0" not in coarse
    assert codes.coarse("fr", NOW + 40) == {"theirs"}


@pytest.mark.parametrize("algorithm", PERCEPTUAL, ids=lambda algorithm: algorithm.value)
def test_what_is_compared_is_a_fixed_share_of_each_hash_and_another_part_of_another(codes: ToldCodes, algorithm: Algorithm) -> None:
    code = bytes(algorithm.code_bytes)
    mask = codes.compared(algorithm, code)
    bits = np.unpackbits(mask) if algorithm.parts != algorithm.code_bytes else mask == 255
    assert (mask.shape, int(bits.sum())) == ((algorithm.code_bytes,), compared_parts(algorithm))
    assert np.array_equal(mask, codes.compared(algorithm, code))
    assert not np.array_equal(mask, codes.compared(algorithm, b"\x01" + code[1:]))


TELLER = """
import pathlib, sys
from vidfed.index import Algorithm
from vidfed.node.lookup.told import ToldCodes
from vidfed.node.search.query import Telling
codes = ToldCodes(pathlib.Path(sys.argv[1]))
sys.stdin.readline()
fine = [number for number in range(50) if not codes.count("nl", [Telling("r", "pdq", f"{sys.argv[2]}-{number}".encode())], 1)]
print(len(fine), codes.compared(Algorithm.PDQ, bytes(range(32))).tobytes().hex())
"""


def test_several_processes_share_one_count_and_one_secret(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TELLER, str(tmp_path / "told.db")]
    tellers = [subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in ("one", "two")]
    said = [teller.communicate("go\n")[0].split() for teller in tellers]
    assert sum(int(fine) for fine, _ in said) == MOST_CODES
    assert len({key for _, key in said}) == 1


def test_what_cannot_be_counted_is_an_error(codes: ToldCodes, tmp_path: Path) -> None:
    with full_disk(), pytest.raises(QuotasError, match="codes told"):
        tell(codes, 1)
    (tmp_path / "broken.db").write_bytes(b"no database" * 500)
    with pytest.raises(QuotasError, match="broken"):
        ToldCodes(tmp_path / "broken.db")
