"""From rows of somebody else's database to statements."""

from __future__ import annotations

import base64
import datetime as dt
import json
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidfed.node.sources.errors import SourceReadError, SourceSettingsError
from vidfed.node.sources.rows.mapping import Reader, RowMapping, key_text
from vidfed.node.sources.rows.statement import Kind, Statement, from_wire
from vidfed.wire.values import HandlingCode, Ternary

MD5 = "0123456789abcdeffedcba9876543210"
PDNA = bytes(range(1, 145))


def said(row: dict[str, Any], **settings: Any) -> Statement:  # noqa: ANN401 - settings of any type
    mapping = RowMapping(**{"columns": {"md5": ("md5",)}, "key": ("id",)} | settings)
    statement = Reader(mapping).statement([row.get(name) for name in mapping.needed])
    assert isinstance(statement, Statement)
    return statement


@pytest.mark.parametrize(
    "raw",
    [
        MD5,
        MD5.upper(),
        f" {MD5} ",
        bytes.fromhex(MD5),
        memoryview(bytes.fromhex(MD5)),
        MD5.encode(),
        uuid.UUID(MD5),
        base64.b64encode(bytes.fromhex(MD5)).decode(),
    ],
    ids=["hex", "upper", "padded", "binary", "memoryview", "text in a binary column", "uuid", "base64"],
)
def test_a_digest_is_read_in_every_form_databases_keep_it_in(raw: object) -> None:
    assert said({"id": 1, "md5": raw}).codes == {"md5": bytes.fromhex(MD5)}


@pytest.mark.parametrize("raw", [PDNA, PDNA.hex(), base64.b64encode(PDNA).decode(), ",".join(map(str, PDNA))])
def test_photodna_is_read_in_every_form(raw: object) -> None:
    assert said({"id": 1, "p": raw}, columns={"photodna": ("p",)}).codes == {"photodna": PDNA}


@pytest.mark.parametrize("raw", [None, "", "   "])
def test_a_row_without_a_hash_cannot_be_used_and_says_so(raw: object) -> None:
    statement = said({"id": 1, "md5": raw})
    assert (statement.kind, statement.notes) == (Kind.UNUSABLE, ["no usable hash"])


@pytest.mark.parametrize("raw", [0, 12, 3.5, True, dt.date(2026, 1, 1), b"123", "xyz", "0" * 32, Decimal(7)])
def test_what_is_no_hash_is_named_and_left_out(raw: object) -> None:
    statement = said({"id": 1, "md5": raw, "sha1": "a1" * 20}, columns={"md5": ("md5",), "sha1": ("sha1",)})
    assert statement.kind is Kind.LIVE
    assert set(statement.codes) == {"sha1"}
    assert "md5" in statement.notes[0]


def test_the_digest_of_an_empty_file_makes_a_row_worthless() -> None:
    assert (
        said({"id": 1, "md5": "d41d8cd98f00b204e9800998ecf8427e", "sha1": "a1" * 20}, columns={"md5": ("md5",), "sha1": ("sha1",)}).kind
        is Kind.UNUSABLE
    )


def test_yes_no_and_unknown_are_read_by_the_sources_own_words() -> None:
    columns = {"md5": ("md5",), "victim_identified": ("v",), "distributed": ("d",)}
    values = {"victim_identified": {"J": "yes", "N": "no", "?": "unknown"}}
    statement = said({"id": 1, "md5": MD5, "v": "j", "d": 1}, columns=columns, values=values)
    assert statement.values == {"victim_identified": Ternary.YES.value, "distributed": Ternary.YES.value}
    assert said({"id": 1, "md5": MD5, "v": "N", "d": False}, columns=columns, values=values).values["victim_identified"] == Ternary.NO.value
    assert said({"id": 1, "md5": MD5, "v": "?", "d": None}, columns=columns, values=values).values == {}


def test_a_word_that_is_not_in_the_value_table_is_named_and_not_guessed() -> None:
    statement = said({"id": 1, "md5": MD5, "c": "99"}, columns={"md5": ("md5",), "category": ("c",)}, values={"category": {"1": "A"}})
    assert statement.values == {}
    assert statement.notes == ["c: '99' is not in the value table of category; left out"]


def test_a_number_and_a_bool_in_the_value_table_do_not_share_a_meaning() -> None:
    mapping = RowMapping(columns={"md5": ("md5",), "category": ("c",)}, key=("id",), values={"category": {"1": "one", "true": "truth"}})
    reader = Reader(mapping)
    read = [reader.statement([1, MD5, raw]) for raw in (1, True, 1, True)]
    assert [each.values["category"] for each in read if isinstance(each, Statement)] == ["one", "truth", "one", "truth"]


def test_constants_hold_where_a_column_says_nothing() -> None:
    columns = {"md5": ("md5",), "handling_code": ("h",)}
    constants = {"handling_code": "H2", "category_scale": "national"}
    assert said({"id": 1, "md5": MD5}, columns=columns, constants=constants).values == {
        "handling_code": HandlingCode.H2.value,
        "category_scale": "national",
    }
    assert said({"id": 1, "md5": MD5, "h": "H1"}, columns=columns, constants=constants).values["handling_code"] == HandlingCode.H1.value


@pytest.mark.parametrize(("column", "raw"), [("sharing", "only them"), ("handling_code", "H9")])
def test_what_limits_sharing_and_cannot_be_read_is_shared_with_nobody(column: str, raw: str) -> None:
    columns = {"md5": ("md5",), column: ("x",), "sharing": ("s",)} if column != "sharing" else {"md5": ("md5",), "sharing": ("x",)}
    statement = said({"id": 1, "md5": MD5, "x": raw, "s": "only:fr"}, columns=columns)
    assert statement.values["sharing"] == "nobody"
    assert "shared with nobody" in statement.notes[-1]


@pytest.mark.parametrize(
    ("raw", "deleted"),
    [
        (None, False),
        (0, False),
        ("N", False),
        (1, True),
        ("yes", True),
        (dt.datetime.fromisoformat("2026-01-01T10:00"), True),
        ("2026-01-01 10:00", True),
    ],
)
def test_a_flag_of_deletion_may_be_a_flag_or_a_time(raw: object, deleted: bool) -> None:
    assert (said({"id": 1, "md5": MD5, "gone": raw}, deleted="gone").kind is Kind.DELETED) is deleted


def test_a_flag_of_deletion_that_cannot_be_read_makes_the_row_unusable() -> None:
    statement = said({"id": 1, "md5": MD5, "gone": "perhaps"}, deleted="gone")
    assert statement.kind is Kind.UNUSABLE
    assert "flag of deletion" in statement.notes[0]


def test_a_deleted_row_needs_no_hash() -> None:
    assert said({"id": 1, "md5": None, "gone": "x"}, deleted="gone", values={"deleted": {"x": "yes"}}).kind is Kind.DELETED


def test_the_first_usable_of_several_columns_is_the_code() -> None:
    statement = said({"id": 1, "a": "broken", "b": "22" * 32}, columns={"pdq": ("a", "b")})
    assert statement.codes == {"pdq": b"\x22" * 32}


def test_tags_of_several_columns_are_put_together() -> None:
    statement = said({"id": 1, "md5": MD5, "t": "a, b", "u": ["b", "c"]}, columns={"md5": ("md5",), "tags": ("t", "u")})
    assert json.loads(statement.values["tags"]) == ["a", "b", "c"]


def test_a_time_of_review_is_read_from_a_date_column() -> None:
    statement = said({"id": 1, "md5": MD5, "r": dt.date(2027, 1, 1)}, columns={"md5": ("md5",), "review_ms": ("r",)})
    assert statement.values["review_ms"] == 1_798_761_600_000


def test_parts_of_a_key_cannot_be_confused() -> None:
    assert key_text(["a/b", "c"]) != key_text(["a", "b/c"])
    assert key_text([Decimal("7.0")]) == key_text([7]) == "7"


@pytest.mark.parametrize("parts", [[None], [""], ["x" * 201], ["a\nb"], [3, None]])
def test_a_key_that_names_nothing_is_refused(parts: list[object]) -> None:
    mapping = RowMapping(columns={"md5": ("md5",)}, key=tuple(f"k{number}" for number in range(len(parts))))
    assert isinstance(Reader(mapping).statement([*parts, MD5]), str)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"columns": {"md6": ("x",)}}, "no field of a record"),
        ({"columns": {"series": ("x",)}}, "none of them is a hash"),
        ({"key": ()}, "key"),
        ({"columns": {"md5": ()}}, "names no column"),
        ({"columns": {"md5": ("x",), "series": ("a", "b")}}, "only one column"),
        ({"constants": {"md5": MD5}}, "no constant"),
        ({"constants": {"handling_code": "H7"}}, "H0"),
        ({"constants": {"sharing": "only:"}}, "sharing"),
        ({"values": {"category": {"1": "2"}}}, "no column is mapped"),
        ({"columns": {"md5": ("x",), "distributed": ("d",)}, "values": {"distributed": {"J": "perhaps"}}}, "not yes, no or unknown"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused_by_name(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SourceSettingsError, match=words):
        RowMapping(**{"columns": {"md5": ("md5",)}, "key": ("id",)} | settings)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.datetimes()
    | st.decimals(allow_nan=True)
    | st.uuids(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(anything, min_size=8, max_size=8))
def test_no_value_of_any_type_breaks_the_reading_of_a_row(row: list[Any]) -> None:
    columns = {"md5": ("a",), "pdq": ("b",), "series": ("c",), "tags": ("d",), "size_bytes": ("e",), "review_ms": ("f",)}
    reader = Reader(RowMapping(columns=columns, key=("id",), deleted="gone"))
    statement = reader.statement(row)
    if isinstance(statement, Statement):
        wire = json.loads(json.dumps(statement.to_wire()))
        assert from_wire(wire).codes == statement.codes
        assert from_wire(wire).kind is statement.kind


@given(anything | st.lists(anything, min_size=6, max_size=6))
def test_a_reading_process_that_was_taken_over_cannot_send_what_is_no_statement(row: object) -> None:
    with pytest.raises(SourceReadError):
        from_wire(row)


@pytest.mark.parametrize(
    "change",
    [
        {0: ""},
        {0: "a\x00"},
        {1: "00"},
        {2: 9},
        {3: {}},
        {3: {"md5": "00" * 16}},
        {3: {"md5": "11"}},
        {4: {"series": "x" * 501}},
        {4: {"series": "a\x1bb"}},
        {4: {"victim_identified": 99}},
        {4: {"reference": "x"}},
        {4: {"source_id": "x"}},
        {4: {"tags": "{}"}},
        {5: ["x" * 501]},
        {5: ["x"] * 21},
    ],
    ids=str,
)
def test_each_part_of_a_statement_is_checked(change: dict[int, object]) -> None:
    row = Statement("1", codes={"md5": b"\x01" * 16}, values={"series": "x"}).to_wire()
    assert from_wire(row).key == "1"
    for place, value in change.items():
        row[place] = value
    with pytest.raises(SourceReadError):
        from_wire(row)


def test_a_fingerprint_tells_any_change_and_nothing_else() -> None:
    base = said({"id": 1, "md5": MD5, "c": "x"}, columns={"md5": ("md5",), "category": ("c",)})
    same = said({"id": 1, "md5": MD5.upper(), "c": " x "}, columns={"md5": ("md5",), "category": ("c",)})
    other = said({"id": 1, "md5": MD5, "c": "y"}, columns={"md5": ("md5",), "category": ("c",)})
    assert base.to_wire()[1] == same.to_wire()[1] != other.to_wire()[1]
