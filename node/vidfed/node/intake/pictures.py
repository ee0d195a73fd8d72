"""From files to records: hashed, without those that are known good, into the store a batch at a time. No picture is kept."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vidfed.formats.entries import FileEntry
from vidfed.index import Code
from vidfed.index.codes import WHOLE
from vidfed.index.find import find_files
from vidfed.index.hashing.results import FileHashes
from vidfed.index.hashing.workers import hash_files
from vidfed.node.records.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from vidfed.index.hashing.results import HashingResult
    from vidfed.node.intake.known_good import KnownGood
    from vidfed.node.intake.ledger import Ledger
    from vidfed.node.records.store import RecordStore

BATCH = 200
"""Files taken in by one transaction: what is hashed again after a kill, and what is held in memory."""


@dataclass(frozen=True, slots=True)
class Intake:
    """Where files are taken in to, and how.

    Attributes:
        store: gets the records.
        template: what is said of every record.
        ledger: of this command; what is in it is passed over.
        known_good: what must not become a record.
        full_size: decode every JPEG at its full size.
    """

    store: RecordStore
    template: Record
    ledger: Ledger
    known_good: KnownGood
    full_size: bool = False

    def take(
        self,
        paths: Sequence[Path],
        *,
        clock: Callable[[], int],
        on_file: Callable[[HashingResult, str], None],
        on_done: Callable[[int], None],
    ) -> None:
        """Take files in.

        Args:
            paths: files and folders.
            clock: gives the time, in ms.
            on_file: called with each file's result and with the set on which it is known good, empty for one that is taken in; a file
                that could not be hashed among them.
            on_done: called with the number of files passed over or done.

        Raises:
            StoreError: what was taken in before stays, and is not taken in again.
        """
        passed_over = 0

        def wanted() -> Iterator[Path]:
            nonlocal passed_over
            for path in find_files(paths):
                if self.ledger.has(path):
                    passed_over += 1
                else:
                    yield path

        batch: list[HashingResult] = []
        with closing(hash_files(wanted(), full_size=self.full_size)) as results:
            for done, result in enumerate(results, 1):
                batch.append(result)
                on_done(passed_over + done)
                if len(batch) == BATCH:
                    self._write(batch, clock(), on_file)
                    batch.clear()
        self._write(batch, clock(), on_file)
        on_done(passed_over)

    def _write(self, batch: Sequence[HashingResult], now_ms: int, on_file: Callable[[HashingResult, str], None]) -> None:
        hashed = [each for each in batch if isinstance(each, FileHashes)]
        good = self.known_good.among(_digests_of(hashed)) if self.known_good else {}
        taken = [each for number, each in enumerate(hashed) if number not in good]
        report = self.store.upsert((record_of_file(each, self.template) for each in taken), now_ms=now_ms)
        self.ledger.add(
            (each.path for each in hashed),  # what could not be hashed is tried again
            report,
            exact_only=sum(not is_found_by_picture(each) for each in taken),
            known_good=len(good),
        )
        names = {id(each): good.get(number, "") for number, each in enumerate(hashed)}
        for each in batch:
            on_file(each, names.get(id(each), ""))


def is_found_by_picture(file: FileHashes) -> bool:
    """Return whether a file has a perceptual hash that lookups find it by."""
    return any(code.reliable for code in file.codes if not code.is_cut)


def _digests_of(files: Iterable[FileHashes]) -> Iterator[FileEntry]:
    for number, file in enumerate(files):
        yield FileEntry(number, {each.algorithm.value: each.code for each in file.digests}, {})


def record_of_file(file: FileHashes, template: Record) -> Record:
    """Return `template` with a file's hashes: what is known of the case, and what was measured on the file.

    A view too plain for perceptual hashes gives none, so that a plain picture, and what is no picture, is known by its digests alone.
    """
    codes = tuple(Code(each.algorithm, each.code, each.kind, each.quality) for each in file.codes if each.reliable)
    own = {each.algorithm: each.code for each in codes if each.kind == WHOLE}
    return replace(
        template,
        hashes={each.algorithm: each.code for each in file.digests} | own,
        further=tuple(each for each in codes if each.kind != WHOLE),
        pdq_quality=file.pdq_quality if own else None,
        size_bytes=file.size_bytes,
        mime_type=file.media_type,
        method=file.method if own else "",
        reference=Record(hashes={}).reference,
    )
