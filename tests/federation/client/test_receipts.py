"""The receipts a kit keeps: one file, a year of them, on disk before the answer is believed to be kept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.disk import full_disk
from vidfed.federation.client.receipt_store import RECEIPT_DAYS, ReceiptStore, ReceiptWriter
from vidfed.federation.lookup.errors import MailboxError
from vidfed.federation.lookup.receipts import Receipt
from vidfed.security.clock import DAY_MS
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import SigningKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

NOON_MS = 1_700_000_000_000
KEY = SigningKey(b"k" * 32)


def receipt(asked_ms: int, content: bytes = b"x") -> Receipt:
    return Receipt("test", "fr", asked_ms, "2026-17", Envelope("text/plain", content).signed_by(KEY))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReceiptStore]:
    with ReceiptStore(tmp_path / "receipts.db") as made:
        yield made


def test_receipts_are_private_and_read_back_oldest_first(store: ReceiptStore) -> None:
    late, early = receipt(NOON_MS + 1), receipt(NOON_MS)
    store.keep([late])
    store.keep([early, late])
    assert list(store.all()) == [early, late]
    assert store.named(late.name) == late
    for path in store.path.parent.iterdir():  # also what SQLite keeps beside it
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_more_receipts_than_are_read_at_a_time_all_come(store: ReceiptStore) -> None:
    kept = [receipt(NOON_MS, number.to_bytes(2)) for number in range(1_000)]
    store.keep(kept)
    assert sorted(store.all(), key=lambda each: each.name) == sorted(kept, key=lambda each: each.name)


def test_a_kit_without_receipts_has_no_file(store: ReceiptStore) -> None:
    assert list(store.all()) == []
    with pytest.raises(MailboxError, match="no receipt 'x'"):
        store.named("x")
    assert not store.path.exists()


def test_receipts_of_more_than_a_year_ago_are_dropped(store: ReceiptStore) -> None:
    old, kept = receipt(NOON_MS), receipt(NOON_MS + 2 * DAY_MS)
    store.keep([old, kept])
    new = receipt(NOON_MS + (RECEIPT_DAYS + 1) * DAY_MS)
    store.keep([new])
    assert list(store.all()) == [kept, new]


def test_a_receipt_as_a_file_is_private_and_says_the_same(tmp_path: Path) -> None:
    path = receipt(NOON_MS).save(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.name == f"{receipt(NOON_MS).name}.json"
    assert Receipt.load(path) == receipt(NOON_MS)


def test_a_damaged_file_is_named(store: ReceiptStore) -> None:
    store.path.write_bytes(b"no database" * 1_000)
    with pytest.raises(MailboxError, match=r"receipts\.db: file is not a database"):
        store.keep([receipt(NOON_MS)])
    with pytest.raises(MailboxError, match=r"receipts\.db: file is not a database"):
        list(store.all())


_KEEP_AND_SAY = """
import sys
from pathlib import Path
from tests.federation.client.test_receipts import NOON_MS, receipt
from vidfed.federation.client.receipt_store import ReceiptStore

first = int(sys.argv[2])
store = ReceiptStore(Path(sys.argv[1]))
for number in range(first, first + int(sys.argv[3])):
    store.keep([receipt(NOON_MS + number)])
    print(number, flush=True)
"""


def keeper(store: ReceiptStore, first: int, count: int) -> subprocess.Popen[str]:
    """Another program with the same kit, that says each receipt it has kept."""
    command = [sys.executable, "-c", _KEEP_AND_SAY, str(store.path), str(first), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_kill_9_loses_no_receipt_that_was_said_to_be_kept(store: ReceiptStore) -> None:
    with keeper(store, 0, 1_000_000) as process:
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(20)]
        os.kill(process.pid, signal.SIGKILL)
        said += [int(line) for line in process.stdout]
    kept = [each.asked_ms - NOON_MS for each in store.all()]
    assert said == kept[: len(said)]
    assert len(kept) - len(said) <= 1  # the last may have been written and not said
    store.keep([receipt(NOON_MS - 1)])  # and the file is whole


def test_several_programs_with_one_kit_begin_it_at_the_same_time(store: ReceiptStore) -> None:
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(keeper(store, 1_000 * number, 20)) for number in range(3)]
        assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(list(store.all())) == 60


class Telling(ReceiptStore):
    """A store that tells how many receipts each write had."""

    def __init__(self, path: Path, told: Callable[[int], object]) -> None:
        super().__init__(path)
        self._told = told

    def keep(self, receipts: Sequence[Receipt]) -> None:
        super().keep(receipts)
        self._told(len(receipts))


async def test_what_comes_in_a_moment_is_written_together_and_is_there_on_leaving(store: ReceiptStore) -> None:
    written: list[int] = []
    with Telling(store.path, written.append) as telling:
        async with ReceiptWriter(telling) as keeping:
            for number in range(194):
                keeping.add(receipt(NOON_MS + number))
    assert written == [194]
    assert len(list(store.all())) == 194


async def test_receipts_are_written_while_other_answers_are_still_due(store: ReceiptStore) -> None:
    written, loop = asyncio.Event(), asyncio.get_running_loop()
    with Telling(store.path, lambda _: loop.call_soon_threadsafe(written.set)) as telling:
        async with ReceiptWriter(telling) as keeping:
            keeping.add(receipt(NOON_MS))
            await written.wait()
            assert len(list(store.all())) == 1
            keeping.add(receipt(NOON_MS + 1))
    assert len(list(store.all())) == 2


async def test_a_full_disk_is_said_and_takes_nothing_from_the_answer(store: ReceiptStore, caplog: pytest.LogCaptureFixture) -> None:
    store.keep([receipt(NOON_MS)])
    with caplog.at_level(logging.WARNING), full_disk():
        async with ReceiptWriter(store) as keeping:
            keeping.add(replace(receipt(NOON_MS + 1), case_reference="c" * 10_000))
    assert "1 receipts could not be kept" in caplog.text
    store.keep([receipt(NOON_MS + 2)])
    assert [each.asked_ms - NOON_MS for each in store.all()] == [0, 2]
