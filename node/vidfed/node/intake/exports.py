"""What one owns, out again: VICS 2.0, CSV or vPDQ, as `vidfed node import` reads them. Streaming: memory does not grow with the records."""

from __future__ import annotations

import csv
from typing import IO, TYPE_CHECKING

from vidfed.formats.fields import FIELDS, field_text
from vidfed.formats.values import code_text, dumps, further_text, guarded
from vidfed.formats.vics_write import media_object, write_hash_set
from vidfed.formats.vpdq import hma_object
from vidfed.index import Algorithm
from vidfed.index.codes import frame_times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vidfed.node.records.record import Record

_REPORT_EVERY = 1_000  # records between two reports of progress
CSV_COLUMNS = (*(algorithm.value for algorithm in Algorithm), "further", *FIELDS)


def write_vics(records: Iterable[Record], file: IO[str], on_record: Callable[[int], None]) -> int:
    """Write records as a VICS 2.0 hash set and return how many."""

    def numbered() -> Iterator[tuple[int, Record]]:
        for number, record in enumerate(records, 1):
            yield number, record
            if not number % _REPORT_EVERY:
                on_record(number)

    return write_hash_set(
        file,
        (
            media_object(number, record.hashes, {name: getattr(record, name) for name in FIELDS}, record.further)
            for number, record in numbered()
        ),
    )


def write_vpdq(records: Iterable[Record], file: IO[str], on_record: Callable[[int], None]) -> int:
    """Write the films among records as a list of HMA's objects, digests and vPDQ, and return how many; nothing else of them is in it."""
    count = 0
    file.write("[")
    for number, record in enumerate(records, 1):
        if any(frame_times(each.kind) is not None for each in record.further):
            said = hma_object({algorithm.value: code for algorithm, code in record.hashes.items()}, record.further)
            file.write(("\n" if not count else ",\n") + dumps(said))
            count += 1
        if not number % _REPORT_EVERY:
            on_record(number)
    file.write("\n]\n")
    return count


def write_csv(records: Iterable[Record], file: IO[str], on_record: Callable[[int], None]) -> int:
    """Write records as CSV with a header that `vidfed node import` reads, and return how many.

    Every cell is quoted, and none is a formula to a spreadsheet, whatever it splits by; an import takes the guard off again.
    """
    rows = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    rows.writerow(CSV_COLUMNS)
    count = 0
    for count, record in enumerate(records, 1):
        codes = {algorithm.value: code for algorithm, code in record.hashes.items()}
        hashes = [code_text(name, codes[name]) if name in codes else "" for name in CSV_COLUMNS[: len(Algorithm)]]
        texts = [guarded(field_text(name, getattr(record, name))) for name in FIELDS]
        rows.writerow([*hashes, further_text(record.further), *texts])
        if not count % _REPORT_EVERY:
            on_record(count)
    return count
