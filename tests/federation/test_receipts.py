"""The receipts a kit keeps: one folder a day, a year of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.federation.receipts import RECEIPT_DAYS, Receipt, receipts_in
from vidfed.security.clock import DAY_MS
from vidfed.security.envelope import Envelope
from vidfed.security.keys import SigningKey

if TYPE_CHECKING:
    from pathlib import Path

NOON_MS = 1_700_000_000_000


def receipt(asked_ms: int) -> Receipt:
    return Receipt("test", "fr", asked_ms, "2026-17", Envelope("text/plain", b"x").signed_by(SigningKey(b"k" * 32)))


def test_a_receipt_is_private_and_read_back(tmp_path: Path) -> None:
    path = receipt(NOON_MS).save(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Receipt.load(path) == receipt(NOON_MS)
    assert path.parent.name == "2023-11-14"


def test_receipts_of_more_than_a_year_ago_are_dropped_and_nothing_else_is(tmp_path: Path) -> None:
    old, kept = receipt(NOON_MS).save(tmp_path), receipt(NOON_MS + 2 * DAY_MS).save(tmp_path)
    foreign = old.with_name("notes.txt")
    foreign.write_text("mine")
    new = receipt(NOON_MS + (RECEIPT_DAYS + 1) * DAY_MS).save(tmp_path)
    assert receipts_in(tmp_path) == (kept, new)
    assert foreign.exists()
