"""What a node tells about a record, between its message and its value."""

from __future__ import annotations

from vidfed.v1 import lookup_pb2 as pb
from vidfed.wire.strict import check_texts, enum
from vidfed.wire.values import MAX_TEXT, HandlingCode, RecordView, Ternary


def write_record(record: RecordView) -> pb.RecordView:
    """Write a record."""
    return pb.RecordView(
        reference=record.reference,
        series=record.series,
        tags=record.tags,
        victim_identified=record.victim_identified.value,
        offender_identified=record.offender_identified.value,
        distributed=record.distributed.value,
        case_reference=record.case_reference,
        case_contact=record.case_contact,
        handling_code=record.handling_code.value,
        handling_note=record.handling_note,
        category=record.category,
        category_scale=record.category_scale,
        category_region=record.category_region,
        source_grading=record.source_grading,
        information_grading=record.information_grading,
    )


def read_record(record: pb.RecordView) -> RecordView:
    """Read a record.

    Raises:
        MalformedError: a text is too long or holds control characters.
        VersionError: an enum number is not known here.
    """
    view = RecordView(
        reference=record.reference,
        series=record.series,
        tags=tuple(record.tags),
        victim_identified=enum(Ternary, record.victim_identified),
        offender_identified=enum(Ternary, record.offender_identified),
        distributed=enum(Ternary, record.distributed),
        case_reference=record.case_reference,
        case_contact=record.case_contact,
        handling_code=enum(HandlingCode, record.handling_code),
        handling_note=record.handling_note,
        category=record.category,
        category_scale=record.category_scale,
        category_region=record.category_region,
        source_grading=record.source_grading,
        information_grading=record.information_grading,
    )
    check_texts((view.reference, view.series, *view.tags, view.case_reference, view.case_contact, view.handling_note), MAX_TEXT)
    check_texts((view.category, view.category_scale, view.category_region, view.source_grading, view.information_grading), MAX_TEXT)
    return view
