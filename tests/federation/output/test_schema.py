"""The JSON Schema of results is a valid schema, and whatever the program writes as a result holds to it, with no field it does not name."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidfed.federation.lookup.outcome import FoundHit, FoundMatch, NodeOutcome, Outcome
from vidfed.federation.lookup.question import Item
from vidfed.federation.lookup.result import LookupResult, merge
from vidfed.federation.output.json import SCHEMA, schema, to_document
from vidfed.index import Algorithm
from vidfed.wire.statuses import Status
from vidfed.wire.values import RECORD_BANDS, HandlingCode, IndexState, RecordView, Searched, Share, Ternary


def strict(part: object) -> Any:  # noqa: ANN401 - JSON, of any kind
    """Return the schema with every field it does not name forbidden: so that a new field cannot be written without being described."""
    if isinstance(part, list):
        return [strict(entry) for entry in part]
    if not isinstance(part, dict):
        return part
    closed = {name: strict(entry) for name, entry in part.items()}
    if closed.get("type") == "object" and "properties" in closed:
        closed["additionalProperties"] = False
    return closed


STRICT = jsonschema.Draft202012Validator(strict(schema()))
TEXTS = st.text(max_size=10)
MATCHES = st.builds(FoundMatch, st.sampled_from(Algorithm), st.integers(0, 31), st.sampled_from(["", "mirrored"]))
RECORDS = st.builds(
    RecordView,
    reference=TEXTS,
    series=st.sampled_from(["", "Tulip", "Rose"]),
    tags=st.lists(TEXTS, max_size=2).map(tuple),
    victim_identified=st.sampled_from(Ternary),
    offender_identified=st.sampled_from(Ternary),
    distributed=st.sampled_from(Ternary),
    case_contact=TEXTS,
    handling_code=st.sampled_from(HandlingCode),
)
SEARCHED = st.builds(Searched, st.sampled_from(Algorithm), st.integers(0, 64), st.sampled_from(Share))
INDEXES = st.none() | st.builds(
    IndexState,
    st.integers(0, 2**64 - 1),
    st.integers(),
    st.integers(),
    st.lists(SEARCHED, max_size=3).map(tuple),
    st.sampled_from(RECORD_BANDS),
)
ITEMS = (Item("a.jpg", {}, notes=("too plain",)), Item("b.jpg", {}))


@st.composite
def nodes(draw: st.DrawFn, member: str) -> NodeOutcome:
    outcome = draw(st.sampled_from(Outcome))
    hits = st.builds(FoundHit, st.integers(0, 1), st.just(member), RECORDS, st.lists(MATCHES, min_size=1, max_size=2).map(tuple))
    found = draw(st.lists(hits, max_size=3)) if outcome in {Outcome.MATCH, Outcome.WEAK_MATCH, Outcome.PARTIAL} else []
    code = draw(st.sampled_from(Status)).name if outcome.refused else ""
    cut = draw(st.lists(st.integers(0, 1), max_size=1))
    return NodeOutcome(member, outcome, draw(TEXTS), draw(INDEXES), tuple(found), tuple(cut), code)


RESULTS = st.tuples(*(nodes(member) for member in ("br", "fr", "se"))).map(lambda said: LookupResult(ITEMS, said))


def test_the_schema_itself_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert schema()["properties"]["schema"] == {"const": SCHEMA}


@given(RESULTS, st.dictionaries(TEXTS, TEXTS, max_size=2))
def test_every_result_holds_to_the_schema(result: LookupResult, failures: dict[str, str]) -> None:
    STRICT.validate(json.loads(json.dumps(to_document(result, failures))))


@given(st.lists(RESULTS, max_size=3))
def test_every_result_in_parts_holds_to_the_schema(results: list[LookupResult]) -> None:
    STRICT.validate(json.loads(json.dumps(to_document(merge(results)))))


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_is_in_the_schema(outcome: Outcome) -> None:
    STRICT.validate(to_document(LookupResult(ITEMS, (NodeOutcome("fr", outcome),))))
    assert outcome.name in schema()["$defs"]["outcome"]["enum"]


def whole() -> dict[str, Any]:
    hits = tuple(
        FoundHit(0, member, RecordView("r", "Tulip", victim_identified=victim), (FoundMatch(Algorithm.PDQ, 3),))
        for member, victim in (("fr", Ternary.NO), ("se", Ternary.YES))
    )
    weak = FoundHit(1, "se", RecordView("w"), (FoundMatch(Algorithm.DHASH, 3),))
    said = tuple(NodeOutcome(hit.member, Outcome.MATCH, "", IndexState(1, 2, 3), (hit, weak)) for hit in hits)
    document = to_document(LookupResult(ITEMS, said), {"x.jpg": "truncated"})
    return copy.deepcopy(document)


@pytest.mark.parametrize("where", ["hits", "weak_hits", "nodes", "items", "series", "conflicts", "failures"])
def test_the_schema_notices_a_missing_field_everywhere(where: str) -> None:
    for name in whole()[where][0]:
        document = whole()
        del document[where][0][name]
        assert not jsonschema.Draft202012Validator(schema()).is_valid(document)


def test_the_schema_notices_silence_that_is_called_an_answer() -> None:
    document = to_document(LookupResult(ITEMS, (NodeOutcome("fr", Outcome.TIMEOUT),)))
    document["nodes"][0]["answered"] = True
    assert not jsonschema.Draft202012Validator(schema()).is_valid(document)


def test_a_reader_may_meet_fields_that_came_later() -> None:
    document = whole()
    document["later"] = document["nodes"][0]["later"] = 1
    jsonschema.Draft202012Validator(schema()).validate(document)
