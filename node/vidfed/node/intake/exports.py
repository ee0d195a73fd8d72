"""What one owns, out again: VICS 2.0 as other tools accept it (`Default`, `#Media`), or CSV. Streaming, written whole or not at all.

Fields that VICS has no place for go under one extra key of each media object, which other tools pass over; ours reads it back.
"""

from __future__ import annotations

import csv
from dataclasses import fields
from typing import IO, TYPE_CHECKING, Any

from vidfed.formats.values import RECORD_FIELDS, code_text, dumps, field_text
from vidfed.formats.vics_media import EXTENSION
from vidfed.index import Algorithm
from vidfed.node.records.record import Record
from vidfed.wire.values import Ternary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

VICS_CONTEXT = "http://github.com/VICSDATAMODEL/ProjectVic/DataModels/2.0.xml/Default/$metadata#Media"
_FLAG = {Ternary.YES: True, Ternary.NO: False, Ternary.UNKNOWN: None}
_IN_VICS = ("md5", "sha1", "photodna")
_DEFAULTS = {each.name: each.default for each in fields(Record) if each.name in RECORD_FIELDS}
_NATIVE = {"series", "tags", "size_bytes", "mime_type", "victim_identified", "offender_identified", "distributed"}
_REPORT_EVERY = 1_000
CSV_COLUMNS = (*(algorithm.value for algorithm in Algorithm), *RECORD_FIELDS)


def write_vics(records: Iterable[Record], file: IO[str], on_record: Callable[[int], None]) -> int:
    """Write records as a VICS 2.0 hash set and return how many."""
    file.write(f'{{"@odata.context":{dumps(VICS_CONTEXT)},"value":[')
    count = 0
    for count, record in enumerate(records, 1):
        file.write("\n" if count == 1 else ",\n")
        file.write(dumps(vics_media(record, count)))
        if not count % _REPORT_EVERY:
            on_record(count)
    file.write("\n]}\n")
    return count


def vics_media(record: Record, number: int) -> dict[str, Any]:
    """Return one record as a VICS 2.0 media object."""
    codes = {algorithm.value: code for algorithm, code in record.hashes.items()}
    texts = {name: code_text(name, code, upper=name in _IN_VICS) for name, code in codes.items()}
    media: dict[str, Any] = {"MediaID": number, "Category": int(record.category) if _is_number(record.category) else None}
    media |= {"MD5": texts.get("md5", ""), "SHA1": texts.get("sha1"), "PhotoDNA": texts.get("photodna")}
    media |= {"MediaSize": record.size_bytes, "MimeType": record.mime_type or None, "Series": record.series or None}
    media |= {"Tags": ",".join(record.tags) or None, "VictimIdentified": _FLAG[record.victim_identified]}
    media |= {"OffenderIdentified": _FLAG[record.offender_identified], "IsDistributed": _FLAG[record.distributed]}
    alternatives = [(Algorithm(name).label, text) for name, text in texts.items() if name not in _IN_VICS]
    if alternatives:
        md5 = texts.get("md5", "")
        media["AlternativeHashes"] = [{"MD5": md5, "HashName": name.replace("-", ""), "HashValue": text} for name, text in alternatives]
    extension = {
        name: field_text(name, value)
        for name, default in _DEFAULTS.items()
        if name not in _NATIVE and (value := getattr(record, name)) != default
    }
    if record.tags and any("," in tag for tag in record.tags):
        extension["tags"] = list(record.tags)  # type: ignore[assignment]  # the one field that is a list
    if record.category:  # or the context's region would be taken for the record's
        extension |= {"category_scale": record.category_scale, "category_region": record.category_region}
    if extension:
        media[EXTENSION] = extension
    return media


def write_csv(records: Iterable[Record], file: IO[str], on_record: Callable[[int], None]) -> int:
    """Write records as CSV with a header that `vidfed node import` reads, and return how many."""
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(CSV_COLUMNS)
    count = 0
    for count, record in enumerate(records, 1):
        codes = {algorithm.value: code for algorithm, code in record.hashes.items()}
        hashes = [code_text(name, codes[name]) if name in codes else "" for name in CSV_COLUMNS[: len(Algorithm)]]
        rows.writerow(hashes + [field_text(name, getattr(record, name)) for name in RECORD_FIELDS])
        if not count % _REPORT_EVERY:
            on_record(count)
    return count


def _is_number(category: str) -> bool:
    return category.isdecimal() and category.isascii() and str(int(category)) == category
