"""Snapshots on disk: which files one consists of, written and read back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vidfed.index.errors import HashInputError, IndexCorruptError
from vidfed.index.search.compiled import frozen
from vidfed.index.search.manifest import FileEntry, Folder
from vidfed.index.search.rows.bitmap import no_bits
from vidfed.index.search.segment import Segment
from vidfed.index.search.snapshot import OpenRows, Sealed, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from vidfed.index.algorithms import Algorithm

_FORMAT = 4


@dataclass(frozen=True, slots=True)
class Flushed:
    """A snapshot as a flush left it, and what the flush said about it."""

    snapshot: Snapshot
    generation: int = 0
    """How many flushes there were; 0 before the first."""
    source_version: int = 0
    source_mark: str = ""
    erased_version: int = 0
    """Whatever the source had erased up to this version was erased here."""
    flushed_at: float | None = None
    """Seconds since the epoch; None before the first flush."""


class Storage:
    """Writes and reads the states of one index. Its callers hold the index's lock, but for `write_segment`."""

    def __init__(self, folder: Folder, algorithm: Algorithm) -> None:
        self.folder = folder
        self._algorithm = algorithm
        self._sequence = 0
        self._unsynced: dict[str, FileEntry] = {}

    def new_name(self, kind: str) -> str:
        """Return a file name that was never used before."""
        self._sequence += 1
        return f"{kind}-{self._sequence:08d}"

    def write_segment(self, name: str, arrays: dict[str, NDArray[Any]]) -> Segment:
        """Write a segment's file and map it. Whoever puts it into a snapshot passes it to `sync_later`."""
        entry = self.folder.write_arrays(name, arrays)
        return Segment(self._algorithm, entry, self.folder.read_arrays(entry, check=False))

    def sync_later(self, parts: Iterable[Sealed]) -> None:
        """Have the next commit make the files of new segments durable."""
        self._unsynced.update((part.segment.entry.name, part.segment.entry) for part in parts)

    def written(self, snapshot: Snapshot) -> Snapshot:
        """Write the open rows and the bitmaps that have no file yet, and return the snapshot that names those files.

        Raises:
            IndexStorageError: the disk refused.
        """
        opened, sealed = snapshot.open, []
        if opened.labels.size and not opened.entry:
            opened.entry = self._write("open", {"labels": opened.labels, "codes": opened.codes})
        for part in snapshot.sealed:
            if part.removed_rows and not part.removed_entry:
                sealed.append(replace(part, removed_entry=self._write("removed", {"removed": part.removed})))
            else:
                sealed.append(part)
        return Snapshot(tuple(sealed), opened)

    def commit(self, state: Flushed) -> None:
        """Make a state, all of which is written, the one that the index is opened with from now on.

        Raises:
            IndexStorageError: the disk refused; the state before is intact.
        """
        needed = state.snapshot.file_names()
        unsynced = [entry for name, entry in self._unsynced.items() if name in needed]
        self.folder.commit(self._manifest(state), unsynced)
        self._unsynced.clear()

    def read(self, manifest: dict[str, Any], mapped: Snapshot) -> Flushed:
        """Return the state that a manifest names; every byte of what is not in `mapped` already is checked.

        Raises:
            HashInputError: the index is one of another algorithm.
            IndexCorruptError: a file is missing or damaged, or of a format this version does not read.
        """
        if manifest["format"] != _FORMAT:
            raise IndexCorruptError(f"format {manifest['format']}, this version reads {_FORMAT}: rebuild the index from the record store")
        if manifest["algorithm"] != self._algorithm.value:
            raise HashInputError(f"the index holds {manifest['algorithm']}, not {self._algorithm.value}")
        known = {part.segment.entry: part for part in mapped.sealed}
        sealed = tuple(self._read_sealed(item, known) for item in manifest["segments"])
        snapshot = Snapshot(sealed, self._read_open(manifest["open"], mapped.open))
        self._sequence = manifest["sequence"]
        return Flushed(
            snapshot,
            manifest["generation"],
            manifest["source_version"],
            manifest["source_mark"],
            manifest["erased_version"],
            manifest["flushed_at"],
        )

    def _write(self, kind: str, arrays: dict[str, NDArray[Any]]) -> FileEntry:
        name = self.new_name(kind)
        self._unsynced[name] = entry = self.folder.write_arrays(name, arrays)
        return entry

    def _manifest(self, state: Flushed) -> dict[str, Any]:
        opened = state.snapshot.open.entry
        return {
            "format": _FORMAT,
            "algorithm": self._algorithm.value,
            "generation": state.generation,
            "sequence": self._sequence,
            "source_version": state.source_version,
            "source_mark": state.source_mark,
            "erased_version": state.erased_version,
            "flushed_at": state.flushed_at,
            "open": opened and opened.to_json(),
            "segments": [
                {
                    "file": part.segment.entry.to_json(),
                    "removed": part.removed_entry and part.removed_entry.to_json(),
                    "holds_erased": part.holds_erased,
                }
                for part in state.snapshot.sealed
            ],
        }

    def _read_sealed(self, item: dict[str, Any], known: dict[FileEntry, Sealed]) -> Sealed:
        entry = FileEntry.from_json(item["file"])
        removed_entry = FileEntry.from_json(item["removed"]) if item["removed"] else None
        part = known.get(entry) or Sealed(Segment(self._algorithm, entry, self.folder.read_arrays(entry)))
        if part.removed_entry == removed_entry:
            return replace(part, holds_erased=item["holds_erased"])
        removed = frozen(self.folder.read_arrays(removed_entry)["removed"]) if removed_entry else no_bits()
        return Sealed(part.segment, removed, int(np.bitwise_count(removed).sum()), removed_entry, item["holds_erased"])

    def _read_open(self, item: dict[str, Any] | None, known: OpenRows) -> OpenRows:
        entry = FileEntry.from_json(item) if item else None
        if entry == known.entry:
            return known
        if entry is None:
            return OpenRows.none(self._algorithm)
        arrays = self.folder.read_arrays(entry)
        return OpenRows(self._algorithm, arrays["labels"], arrays["codes"].reshape(-1, self._algorithm.code_bytes), entry)


def holds_erased(folder: Folder, manifest: dict[str, Any]) -> bool:
    """Whether erased rows may still be in a file: of the state that a manifest names, or of another one that was not swept up yet."""
    parts = manifest["segments"]
    entries = (manifest["open"], *(part[kind] for part in parts for kind in ("file", "removed")))
    return any(part.get("holds_erased", True) for part in parts) or bool(folder.litter({entry["name"] for entry in entries if entry}))
