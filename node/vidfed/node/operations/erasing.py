"""Erasing a record out of every file of the member's folder, and saying truly where something of it is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.formats.entries import FileEntry
from vidfed.index import HashError
from vidfed.node.errors import JournalBusyError
from vidfed.node.intake.known_good import FOLDER, KnownGood
from vidfed.node.operations.records import change_record, consult_record
from vidfed.node.operations.whole_backup import drop_left_copies
from vidfed.node.records.known import open_store
from vidfed.node.records.lifecycle import StoredRecord, erase, finish_erasures, stored_record
from vidfed.node.search.erasure import PATIENCE_S, erase_from_indexes
from vidfed.node.sources.folder import DONE, FAILED
from vidfed.node.sources.settings import FolderSection, read_sources
from vidfed.security.audit import Operation
from vidfed.security.clock import system_clock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidfed.node.records.store import RecordStore
    from vidfed.security.member.home import MemberHome


@dataclass(frozen=True, slots=True)
class Erasure:
    """What came of erasing a record.

    Attributes:
        kept: what stays of it: reference and times.
        left: where its codes still are, each with when they go or what to do; empty: in no file of the member's folder.
    """

    kept: StoredRecord
    left: tuple[str, ...]


def erase_record(home: MemberHome, reference: str, *, patience_s: float = PATIENCE_S) -> Erasure:
    """Log that a record is erased, then take its codes and all that is known of it out of every file of the member's folder.

    The record store is done at once. The files of the search index are rewritten by the node if it runs, which is waited for, and here
    otherwise. Interrupted at any moment, what is left is done when the node starts; or by this function, of a record erased before too.

    Args:
        home: the member's folder.
        reference: of the record.
        patience_s: how long to wait for a running node.

    Raises:
        NodeError: there is no such record, or the store cannot be written.
        AuditError: it cannot be logged; nothing was changed.
    """
    with open_store(home, reads_only=True) as store:
        before = stored_record(store, reference)
    left = [*_known_good(home, before), *_read_files(home, before)]
    try:
        if before.state == "erased":
            kept = consult_record(home, reference)
            with open_store(home) as store:
                finish_erasures(store, now_ms=system_clock())
        else:
            kept = change_record(home, reference, Operation.ERASURE, "ERASED", erase)
    except JournalBusyError as error:
        left.append(str(error))
        with open_store(home, reads_only=True) as store:
            kept = stored_record(store, reference)
    with open_store(home, reads_only=True) as store:
        left += _indexes(home, store, patience_s)
        if not store.database.is_sqlite:
            left.append(
                "PostgreSQL: vacuumed, so no query reads it and its place is written over by what comes next; until then its bytes may "
                "be in the server's files, and in its write-ahead log and archive for as long as these are kept (docs/recovery.md)"
            )
    if drop_left_copies(home):
        left.append("the copies for a backup that is being made now, until it has ended")
    return Erasure(kept, tuple(left))


def _indexes(home: MemberHome, store: RecordStore, patience_s: float) -> Iterator[str]:
    try:
        indexes = erase_from_indexes(store, home.folder / "index", patience_s=patience_s)
    except HashError as error:
        yield f"the search index: {error}; the node tries again when it runs, and vidfed node status says when it is done"
        return
    if indexes:
        names = ", ".join(algorithm.label for algorithm in indexes)
        yield f"the search index ({names}), whose files the node is rewriting; vidfed node status says when it is done"


def _known_good(home: MemberHome, kept: StoredRecord) -> Iterator[str]:
    """Say on which list of harmless files it is: that is another statement than the record, and its publisher's."""
    with KnownGood(lists=home.folder / FOLDER) as known:
        codes = {algorithm.value: code for algorithm, code in kept.record.hashes.items()}
        for title in known.among([FileEntry(1, codes, {})]).values():
            yield f"{title} of known-good files, which calls its file harmless and stays: vidfed node known-good remove"


def _read_files(home: MemberHome, kept: StoredRecord) -> Iterator[str]:
    """Name the file that it was taken in from, where a watched folder still has it."""
    for settings in read_sources(home).values():
        if isinstance(settings.section, FolderSection):
            folder: Path = home.folder / settings.section.path
            for path in (folder / DONE / kept.file_name, folder / FAILED / kept.file_name):
                if kept.file_name and path.is_file():
                    yield f"{path}, the file that it was read from, which is yours to delete"
