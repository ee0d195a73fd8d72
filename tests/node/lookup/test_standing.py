"""Standing questions at a node: what a mandate allows, what an epoch means, and what is kept of both."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.memory import ANSWERING, MemoryFederation, MemoryNode, columns_of
from tests.support.records import record
from vidfed.index import Algorithm, Hash
from vidfed.node.policy.policy import Policy
from vidfed.node.records import lifecycle
from vidfed.node.search import recent
from vidfed.security.clock import DAY_MS, HOUR_MS, MINUTE_MS
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.identity.credentials import Credential
from vidfed.v1.lookup_pb2 import LookupCall
from vidfed.wire.answers import read_answer
from vidfed.wire.envelope import to_message
from vidfed.wire.requests import MANDATE_TYPE, Mandate, columns_digest, sketch_digests, write_mandate, write_request
from vidfed.wire.sketches.columns import sketched
from vidfed.wire.statuses import Status
from vidfed.wire.values import EPOCH_BYTES, REQUEST_TYPE, STANDING_METHOD, LookupRequest, Standing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.memory import MemoryInvestigator
    from vidfed.wire.values import LookupAnswer

WATCHED = tuple(Hash(Algorithm.MD5, record(seed).hashes[Algorithm.MD5]) for seed in range(1, 4))


class Watch:
    """nl's gateway, and a person of nl whose mandate it has."""

    def __init__(self, node: MemoryNode, watched: tuple[Hash, ...] = WATCHED) -> None:
        self.node, self.federation, self.watched = node, node.federation, watched
        self.person: MemoryInvestigator = self.federation.investigator("nl")
        now_ms = self.federation.clock()
        request = self.federation.request(self.person, watched, "fr")
        header = request.header
        assert header.purpose is not None
        self.mandate = Mandate(
            header.federation,
            "nl",
            self.person.pseudonym,
            ("fr",),
            secrets.token_bytes(16),
            header.purpose,
            header.legal_basis,
            header.offence_type,
            header.case_reference,
            (columns_digest(request.item_count, request.columns),),
            now_ms,
            now_ms + 20 * DAY_MS,
            sketch_digests([(request.item_count, request.columns)]),
        )
        self.epoch = b""

    def ask(
        self,
        *,
        hashes: tuple[Hash, ...] | None = None,
        epoch: bytes | None = None,
        signer: object = None,
        outline: bool = False,
        **header: object,
    ) -> LookupAnswer:
        """Ask as the gateway does, with the last epoch; take the next one."""
        hashes = self.watched if hashes is None else hashes
        own = self.federation.members["nl"].signer
        mandate = Envelope(MANDATE_TYPE, write_mandate(self.mandate)).signed_by(signer or self.person.signer)  # type: ignore[arg-type]
        stated = replace(self.federation.header(self.person, "fr"), **({"method": STANDING_METHOD} | header))  # type: ignore[arg-type]
        standing = Standing(mandate.digest, self.epoch if epoch is None else epoch, outline)
        columns = sketched(columns_of(hashes)) if outline else columns_of(hashes)
        request = LookupRequest(stated, len(hashes), columns, standing=standing)
        signed = Envelope(REQUEST_TYPE, write_request(request)).signed_by(own)
        call = LookupCall(credential=to_message(self.person.credential), request=to_message(signed), mandate=to_message(mandate))
        answer = read_answer(self.node.ask(call, "nl").payload)
        self.epoch = answer.header.epoch or self.epoch
        return answer

    def later(self, hours: float = 6) -> None:
        self.federation.clock.advance(int(hours * HOUR_MS))


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    federation = MemoryFederation()
    federation.add("nl", "fr")
    with MemoryNode(federation, "fr", tmp_path) as node:
        yield Watch(node)


def found(answer: LookupAnswer) -> list[int]:
    assert answer.header.status is Status.ANSWERED, answer.header
    return sorted(hit.item for hit in answer.hits)


def test_the_first_question_is_answered_whole_and_the_next_by_what_came_since(watch: Watch) -> None:
    watch.node.hold(record(1))
    assert found(watch.ask()) == [0]
    watch.later()
    assert found(watch.ask()) == []
    watch.node.hold(record(2), record(99))
    watch.later()
    answer = watch.ask()
    assert found(answer) == [1]
    assert len(answer.header.epoch) == EPOCH_BYTES
    watch.later()
    assert found(watch.ask()) == []


def test_perceptual_hashes_are_compared_with_what_came_since(watch: Watch) -> None:
    near = bytearray(record(2).hashes[Algorithm.PDQ])
    near[0] ^= 7
    asked = (Hash(Algorithm.PDQ, bytes(near)),)
    watch.mandate = replace(watch.mandate, parts=(columns_digest(1, columns_of(asked)),))
    assert found(watch.ask(hashes=asked)) == []
    watch.node.hold(record(2))
    watch.later()
    (hit,) = watch.ask(hashes=asked).hits
    assert hit.matches[0].distance == 3


def test_withheld_record_is_not_found_by_standing_questions_either(watch: Watch) -> None:
    watch.ask()
    watch.node.hold(record(1, sharing="nobody"), record(2))
    watch.later()
    assert found(watch.ask()) == [1]


@pytest.mark.parametrize("change", ["policy", "roles", "history"])
def test_what_was_tellable_before_is_asked_anew_when_it_is_decided_otherwise(watch: Watch, change: str) -> None:
    """A record that was withheld becomes tellable without a change of its own: only a whole answer finds it."""
    watch.node.hold(record(1))
    watch.node.policy.policy = Policy((replace(ANSWERING, withheld_series=frozenset({"x"})),))
    watch.ask()
    watch.later()
    if change == "policy":
        watch.node.policy.policy = Policy((ANSWERING,))
    elif change == "roles":
        watch.person = self_with_roles(watch)
    else:
        with watch.node.store.database.writing() as connection:
            connection.exec_driver_sql("UPDATE commits SET mark = 'another'")
        watch.node.catalogue._history = watch.node.store.history()
    assert found(watch.ask()) == [0]


def self_with_roles(watch: Watch) -> MemoryInvestigator:
    """Return the same person with another credential, by which more may be told."""
    member = watch.federation.members["nl"]
    credential = watch.federation.credential("nl", watch.person.signer, watch.person.pseudonym, ("release-officer",))
    return replace(watch.person, credential=credential.to_envelope(member.signer))


def test_asking_within_15_minutes_by_the_same_epoch_is_refused(watch: Watch) -> None:
    watch.ask()
    watch.federation.clock.advance(10 * MINUTE_MS)
    assert watch.ask().header.status is Status.RATE_LIMITED
    watch.federation.clock.advance(5 * MINUTE_MS)
    assert watch.ask().header.status is Status.ANSWERED


def test_mandate_used_for_other_hashes(watch: Watch) -> None:
    other = (Hash(Algorithm.MD5, b"x" * 16),)
    assert watch.ask(hashes=other).header.status is Status.NOT_PERMITTED


@pytest.mark.parametrize("header", [{"case_reference": "another"}, {"legal_basis": "another"}, {"offence_type": "another"}])
def test_mandate_used_for_another_case_or_reason(watch: Watch, header: dict[str, Any]) -> None:
    assert watch.ask(**header).header.status is Status.NOT_PERMITTED


def test_mandate_signed_by_another_person(watch: Watch) -> None:
    other = watch.federation.investigator("nl", "inv-2")
    assert watch.ask(signer=other.signer).header.status is Status.BAD_SIGNATURE


def test_mandate_for_other_members(watch: Watch) -> None:
    watch.mandate = replace(watch.mandate, audience=("de",))
    assert watch.ask().header.status is Status.WRONG_AUDIENCE


def test_mandate_whose_time_is_over_stops_at_once(watch: Watch) -> None:
    watch.ask()
    watch.later(24 * 20)
    assert watch.ask().header.status is Status.NOT_PERMITTED


def test_mandate_lives_no_longer_than_its_person_s_credential(watch: Watch) -> None:
    member = watch.federation.members["nl"]
    credential = watch.federation.credential("nl", watch.person.signer, watch.person.pseudonym)
    shorter = replace(credential, not_after_ms=watch.federation.clock() + DAY_MS)
    watch.person = replace(watch.person, credential=shorter.to_envelope(member.signer))
    watch.ask()
    watch.later(25)
    assert watch.ask().header.status is Status.BAD_CREDENTIAL


def test_mandate_of_a_revoked_person_stops_at_once(watch: Watch) -> None:
    watch.ask()
    member = watch.federation.members["nl"]
    revoked = frozenset({Credential.read(watch.person.credential.payload).serial})
    watch.federation.members["nl"] = replace(member, entry=replace(member.entry, revoked=revoked))
    watch.later()
    assert watch.ask().header.status is Status.BAD_CREDENTIAL


def test_mandate_used_after_it_was_withdrawn_or_its_case_closed(watch: Watch) -> None:
    watch.ask()
    ended: set[tuple[str, bytes]] = {("nl", watch.mandate.serial)}
    authenticator = watch.node.pipeline._authenticator
    standing = replace(authenticator.standing, has_ended=lambda member, serial: (member, serial) in ended)
    object.__setattr__(watch.node.pipeline, "_authenticator", replace(authenticator, standing=standing))
    watch.later()
    assert watch.ask().header.status is Status.NOT_PERMITTED


@pytest.mark.parametrize("epoch", [b"x" * EPOCH_BYTES, b"\0" * EPOCH_BYTES])
def test_epoch_that_this_node_did_not_give_begins_anew(watch: Watch, epoch: bytes) -> None:
    watch.node.hold(record(1))
    watch.ask()
    watch.later()
    assert found(watch.ask(epoch=epoch)) == [0]


def test_epoch_of_another_mandate_begins_anew(watch: Watch) -> None:
    watch.node.hold(record(1))
    watch.ask()
    watch.later()
    watch.mandate = replace(watch.mandate, serial=b"s" * 16)
    assert found(watch.ask()) == [0]


def test_epochs_watched_for_how_much_the_records_change_tell_nothing(watch: Watch) -> None:
    first = watch.ask().header.epoch
    watch.node.hold(*(record(seed) for seed in range(100, 150)))
    watch.later()
    second = watch.ask().header.epoch
    watch.later()
    third = watch.ask().header.epoch
    assert {len(first), len(second), len(third)} == {EPOCH_BYTES}
    assert len({first, second, third}) == 3


def test_retracted_record_is_not_found_since(watch: Watch) -> None:
    watch.ask()
    watch.node.hold(record(1))
    (kept,) = lifecycle.stored_records(watch.node.store, lifecycle.RecordQuery())
    lifecycle.retract(watch.node.store, kept.record.reference, "wrong", now_ms=watch.federation.clock())
    watch.later()
    assert found(watch.ask()) == []


def test_node_keeps_nothing_of_what_is_watched(watch: Watch, tmp_path: Path) -> None:
    """Neither hashes nor columns nor serial nor case stay anywhere in the node's folder; the log has what every lookup leaves there."""
    watch.ask()
    watch.later()
    watch.ask()
    secret = [each.code for each in WATCHED] + [watch.mandate.serial, watch.mandate.parts[0], watch.mandate.case_reference.encode()]
    secret += [value.hex().encode() for value in secret[:5]]
    for path in tmp_path.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not [value for value in secret if value in content], path


def test_log_says_that_a_question_was_a_standing_one(watch: Watch) -> None:
    watch.ask()
    entry = watch.node.last_entry()
    assert (entry["event"], entry["details"]["standing"], entry["pseudonym"]) == ("lookup-answered", 1, watch.person.pseudonym)


# --- in outline ---


def outlined(watch: Watch) -> tuple[list[int], bool]:
    """Ask in outline; return the hits, and whether the answer says that nothing new is near."""
    answer = watch.ask(outline=True)
    return found(answer), bool(answer.header.epoch)


def test_outline_says_whether_anything_new_could_be_near_and_nothing_else(watch: Watch) -> None:
    watch.ask()
    watch.node.hold(record(50), record(51))
    watch.later()
    assert outlined(watch) == ([], True)
    watch.node.hold(record(2))
    watch.later()
    assert outlined(watch) == ([], False)  # to be asked whole, by the same epoch, at once
    assert found(watch.ask()) == [1]
    watch.later()
    assert outlined(watch) == ([], True)


def test_outline_finds_a_near_copy_too(watch: Watch) -> None:
    near = bytearray(record(2).hashes[Algorithm.PDQ])
    near[0] ^= 7
    asked = (Hash(Algorithm.PDQ, bytes(near)),)
    request = watch.federation.request(watch.person, asked, "fr")
    parts = [(request.item_count, request.columns)]
    watch.mandate = replace(watch.mandate, parts=tuple(columns_digest(*part) for part in parts), sketches=sketch_digests(parts))
    watch.ask(hashes=asked)
    watch.node.hold(record(2))
    watch.later()
    assert not watch.ask(hashes=asked, outline=True).header.epoch


def test_withheld_record_does_not_show_in_outline(watch: Watch) -> None:
    watch.ask()
    watch.node.hold(record(2, sharing="nobody"))
    watch.later()
    assert outlined(watch) == ([], True)


def test_outline_by_an_epoch_that_means_nothing_is_to_be_asked_whole(watch: Watch) -> None:
    watch.ask()
    watch.later()
    watch.epoch = b"x" * EPOCH_BYTES
    assert outlined(watch) == ([], False)


def test_more_changes_than_are_looked_through_are_to_be_asked_whole(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    watch.ask()
    watch.node.hold(record(50), record(51))
    watch.later()
    monkeypatch.setattr(recent, "MOST", 1)
    assert outlined(watch) == ([], False)


def test_mandate_used_for_other_hashes_in_outline(watch: Watch) -> None:
    other = (Hash(Algorithm.MD5, b"\x1f" * 15 + b"a"),)
    answer = watch.ask(hashes=other, outline=True)
    assert (answer.header.status, answer.header.detail) == (Status.NOT_PERMITTED, "the mandate is for other hashes")
    watch.mandate = replace(watch.mandate, sketches=())
    assert watch.ask(outline=True).header.status is Status.NOT_PERMITTED


def test_outline_is_logged_as_a_consultation_of_no_record(watch: Watch) -> None:
    watch.ask()
    watch.node.hold(record(2))
    watch.later()
    watch.ask(outline=True)
    entry = watch.node.last_entry()
    assert (entry["operation"], entry["records"], entry["details"]["standing"]) == ("consultation", [], 1)
