"""The table of a record's fields, and all that must agree with it."""

from __future__ import annotations

from dataclasses import fields

import pytest

from tests.support.records import full_record, record
from vidfed.formats.fields import FIELDS, Kind, field_text, field_value
from vidfed.formats.vics_write import media_object
from vidfed.node.records import schema
from vidfed.node.records.record import Record
from vidfed.v1 import lookup_pb2 as pb
from vidfed.wire.values import RecordView

TOLD = {name for name, field in FIELDS.items() if field.is_told}
WIRE_TYPES = {Kind.TEXT: "string", Kind.TEXTS: "string", Kind.TERNARY: "Ternary", Kind.HANDLING: "HandlingCode"}


def test_a_record_has_the_fields_of_the_table_in_its_order() -> None:
    assert [each.name for each in fields(Record) if each.name not in {"hashes", "further", "reference"}] == list(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_what_a_record_says_of_nothing_is_what_the_table_says(name: str) -> None:
    assert getattr(Record({}), name) == FIELDS[name].kind.absent


def test_what_other_members_are_told_is_what_the_message_on_the_wire_holds() -> None:
    on_wire = pb.RecordView.DESCRIPTOR.fields_by_name
    assert set(on_wire) == {each.name for each in fields(RecordView)} == TOLD | {"reference"}
    for name in TOLD:
        kind, found = FIELDS[name].kind, on_wire[name]
        assert (found.enum_type.name if found.enum_type else "string") == WIRE_TYPES[kind]
        assert found.is_repeated == (kind is Kind.TEXTS)


def test_every_field_has_its_column() -> None:
    assert set(FIELDS) <= set(schema.records.c.keys())


def test_every_field_is_read_back_from_its_text() -> None:
    full = full_record()
    for name in FIELDS:
        value = getattr(full, name)
        assert field_value(name, field_text(name, value)) == value


def test_a_media_object_says_everything_once() -> None:
    bare, full = ({name: getattr(each, name) for name in FIELDS} for each in (record(1), full_record()))
    assert "vidfedRecord" not in media_object(1, {}, bare)
    media = media_object(1, {}, full)
    native = {name for name, field in FIELDS.items() if field.vics}
    assert {field.vics for field in FIELDS.values() if field.vics} <= media.keys()
    assert native.isdisjoint(media["vidfedRecord"])
