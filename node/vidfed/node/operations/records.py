"""Records as operators see and change them: every look and every change is logged first. What the commands and the desk share."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from vidfed.formats.fields import FIELDS, field_text
from vidfed.formats.values import code_text
from vidfed.node.operations.operator_audit import log_operation
from vidfed.node.records.known import open_store
from vidfed.node.records.lifecycle import stored_record, stored_records
from vidfed.security.audit import Operation
from vidfed.security.clock import as_text, system_clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.node.records.lifecycle import RecordQuery, StoredRecord
    from vidfed.security.member.home import MemberHome


def consult_record(home: MemberHome, reference: str) -> StoredRecord:
    """Return one record, and log that it was looked at.

    Raises:
        NodeError: there is none, or the store cannot be read.
        AuditError: it cannot be logged.
    """
    with open_store(home) as store:  # logged first: that there is no such record is an answer too
        log_operation(home, Operation.CONSULTATION, "READ", records=1, reference=reference, now_ms=system_clock())
        return stored_record(store, reference)


def consult_page(home: MemberHome, wanted: RecordQuery, *, after: int, limit: int) -> tuple[list[StoredRecord], bool]:
    """Return a page of records and whether there are more, and log that they were looked at.

    Args:
        home: the member's folder.
        wanted: which.
        after: number of the last record of the page before.
        limit: records a page.

    Raises:
        NodeError: the store cannot be read.
        AuditError: it cannot be logged.
    """
    with open_store(home) as store:
        page = list(itertools.islice(stored_records(store, wanted, after=after), limit + 1))
    log_operation(home, Operation.CONSULTATION, "READ", records=min(len(page), limit), now_ms=system_clock())
    return page[:limit], len(page) > limit


def change_record(
    home: MemberHome, reference: str, operation: Operation, outcome: str, change: Callable[..., StoredRecord], *arguments: object
) -> StoredRecord:
    """Log a change of a record, then make it.

    Args:
        home: the member's folder.
        reference: of the record.
        operation: as `log_operation` takes it.
        outcome: the same.
        change: a function of `vidfed.node.records.lifecycle`.
        arguments: what it takes beside store, reference and time.

    Raises:
        NodeError: there is no such record, or it cannot be changed so.
        AuditError: it cannot be logged; nothing was changed.
    """
    now_ms = system_clock()
    with open_store(home) as store:
        stored_record(store, reference)  # what does not exist is not logged as changed
        log_operation(home, operation, outcome, records=1, reference=reference, now_ms=now_ms)
        return change(store, reference, *arguments, now_ms=now_ms)


def record_fields(kept: StoredRecord, *, hashes: bool) -> dict[str, object]:
    """Return a record for people and scripts, by field name; perceptual hashes only if asked for, because they are sensitive."""
    record = kept.record
    fields: dict[str, object] = {"number": kept.number, "reference": record.reference, "state": kept.state}
    fields["hashes"] = [
        f"{algorithm.value}:{code_text(algorithm.value, code)}" if hashes else algorithm.value for algorithm, code in record.hashes.items()
    ]
    for name in FIELDS:
        value = getattr(record, name)
        label = "review" if name == "review_ms" else name
        fields[label] = (
            list(value)
            if isinstance(value, tuple)
            else value
            if isinstance(value, int) and name != "review_ms"
            else field_text(name, value)
        )
    fields |= {"source": kept.source, "origin": kept.origin, "created": as_text(kept.created_ms), "changed": as_text(kept.changed_ms)}
    if kept.retracted_ms:
        fields |= {"retracted": as_text(kept.retracted_ms), "retraction_reason": kept.retraction_reason}
    if kept.erased_ms:
        fields["erased"] = as_text(kept.erased_ms)
    return fields
