"""Reading a file of hashes beside writing it: a large file is read by a process of its own, so that two cores work on one import.

Reading (decoding, parsing, checking) and writing (matching, storing) take about the same time, and Python does only one thing at a time.
`python -m vidfed.node.intake.reader` is that process: it writes batches to its standard output and ends when nobody takes them any more.
"""

from __future__ import annotations

import fcntl
import gc
import itertools
import pickle
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vidfed.formats.entries import FileEntry, FormatError, Skip
from vidfed.formats.recognise import open_hash_file
from vidfed.node.records.record import to_column

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidfed.formats.recognise import HashFile

BATCH = 2_000  # entries: about 1 MB
_PIPE_BYTES = 1 << 20  # so that one batch waits in the pipe while another is made; the most that Linux gives to everybody
LARGE_BYTES = 16 << 20  # below it, starting a process takes longer than it saves


@dataclass(slots=True)
class ReadProgress:
    """How far the reading is, and what the file has told about itself so far; complete at the end."""

    read_bytes: int = 0
    sha256: bytes = b""
    label: str = ""
    tool: str = ""
    notes: list[str] = field(default_factory=list)


def read_batches(file: HashFile, region: str | None, progress: ReadProgress) -> Iterator[list[FileEntry | Skip]]:
    """Yield a file's entries in batches, keeping `progress` up to date.

    Raises:
        FormatError: the file cannot be used as a whole.
    """
    if file.source.size_bytes < LARGE_BYTES:
        yield from _read_here(file, region, progress)
        return
    arguments = (str(file.source.path), file.format, file.algorithm or "", region or "")
    # A session of its own: Ctrl-C is for the importing process, which then stops taking batches.
    with subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-m", "vidfed.node.intake.reader", *arguments], stdout=subprocess.PIPE, start_new_session=True
    ) as reader:
        try:
            if reader.stdout is not None:
                fcntl.fcntl(reader.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            yield from _received(reader, file, progress)
        finally:
            reader.kill()


def _read_here(file: HashFile, region: str | None, progress: ReadProgress) -> Iterator[list[FileEntry | Skip]]:
    entries = file.entries(region=region)
    while batch := list(itertools.islice(entries, BATCH)):
        _note_progress(file, progress)
        yield batch
    _note_progress(file, progress)
    progress.sha256 = file.source.digest.digest()


def _note_progress(file: HashFile, progress: ReadProgress) -> None:
    progress.read_bytes, progress.label, progress.tool, progress.notes = file.source.read_bytes, file.label, file.tool, file.notes


def _received(reader: subprocess.Popen[bytes], file: HashFile, progress: ReadProgress) -> Iterator[list[FileEntry | Skip]]:
    if reader.stdout is None:
        raise FormatError(f"{file.source.path}: the reading process has no output")
    while True:
        try:
            message = pickle.load(reader.stdout)  # noqa: S301 - from our own child, over a pipe that nobody else has
        except (EOFError, pickle.UnpicklingError):
            raise FormatError(f"{file.source.path}: the reading process ended before the file did") from None
        if isinstance(message, str):
            raise FormatError(message)
        rows, (progress.read_bytes, progress.sha256, progress.label, progress.tool, progress.notes) = message
        if rows is None:
            return
        yield [FileEntry(*row) if len(row) > 2 else Skip(*row) for row in rows]  # noqa: PLR2004 - a Skip has two fields


def _row(entry: FileEntry | Skip) -> tuple[object, ...]:
    """Return an entry as a plain tuple, its values as the store keeps them: that takes a fraction of the time to send."""
    if isinstance(entry, FileEntry):
        values = {name: to_column(value) for name, value in entry.values.items()}
        return (entry.number, entry.codes, values, entry.notes, entry.retracts, entry.further)
    return (entry.number, entry.reason)


def main(path: str, format_name: str, algorithm: str, region: str) -> None:
    """Read a file and write its batches, then its last progress, to standard output; a text instead of a batch says what is wrong."""
    gc.disable()  # nothing here refers to itself; looking for what does takes a tenth of the time
    out = sys.stdout.buffer
    progress = ReadProgress()

    def send(rows: list[tuple[object, ...]] | None) -> None:
        pickle.dump(
            (rows, (progress.read_bytes, progress.sha256, progress.label, progress.tool, progress.notes)), out, pickle.HIGHEST_PROTOCOL
        )
        out.flush()

    try:
        file = open_hash_file(Path(path), format_name=format_name, algorithm=algorithm or None)
        for batch in _read_here(file, region or None, progress):
            send([_row(entry) for entry in batch])
        send(None)
    except FormatError as error:
        pickle.dump(str(error), out)
        out.flush()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except BrokenPipeError:
        sys.stdout = None  # nobody listens: nothing is left to flush
