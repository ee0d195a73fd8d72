"""Attacks on answers, by name: what a lying gateway or node can send, and that none of it is believed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, cast

import pytest

from tests.support.memory import MemoryFederation, MemoryNode, answer_to, call_of, sign_answer
from vidfed.federation.cli.audit import _check
from vidfed.federation.client.replies import LookupReplies, StreamReplies
from vidfed.federation.lookup.errors import AnswerError
from vidfed.federation.lookup.outcome import NodeOutcome, Outcome
from vidfed.federation.lookup.question import Item, split
from vidfed.federation.lookup.receipts import NothingLoggedError, Receipt
from vidfed.federation.lookup.verification import ReplyVerifier, SignedPart
from vidfed.index import Algorithm, Hash
from vidfed.node.records.record import Record
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.errors import ReceiptError
from vidfed.security.identity.replay import WINDOW_MS
from vidfed.v1 import gateway_pb2 as pb
from vidfed.wire.answers import read_answer, write_answer
from vidfed.wire.envelope import to_message
from vidfed.wire.statuses import Status
from vidfed.wire.values import (
    ANSWER_TYPE,
    REQUEST_TYPE,
    STREAM_ID_BYTES,
    STREAM_METHOD,
    Hit,
    LookupAnswer,
    LookupRequest,
    Match,
    RecordView,
    StreamPosition,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.memory import MemoryInvestigator
    from vidfed.federation.lookup.question import Part
    from vidfed.security.identity.directory import Directory
    from vidfed.security.member.kit import Kit

ASKED = [Hash(Algorithm.PDQ, bytes(range(32))), Hash(Algorithm.SHA256, bytes(32))]
(PART,) = split([Item(str(each), {each.algorithm: (each.code,)}) for each in ASKED], {})


class Scene:
    """A lookup by nl at fr and br, signed; and the means to judge any answer to it, by itself or as a chunk of a stream."""

    def __init__(self, way: str, federation: MemoryFederation | None = None) -> None:
        self.way = way
        self.federation = federation or MemoryFederation()
        if federation is None:
            self.federation.add("nl", "fr", "br")
        self.asker: MemoryInvestigator = self.federation.investigator("nl")
        self.ask(ASKED)

    def ask(self, hashes: list[Hash]) -> None:
        request = self.federation.request(self.asker, hashes)
        if self.way == "stream":
            request = replace(
                request,
                header=replace(request.header, method=STREAM_METHOD),
                stream=StreamPosition(bytes(STREAM_ID_BYTES), 0, last=True, previous_digest=b""),
            )
        self.request: LookupRequest = request
        self.envelope = self.federation.sign(request, self.asker)

    def judge(self, envelope: Envelope, member: str = "fr") -> NodeOutcome:
        """Return what the client makes of it; raise what it says of an answer that it does not believe."""
        reply = pb.NodeReply(member=member, answer=to_message(envelope))
        asked = SignedPart(PART, self.request, self.envelope.digest)
        receipts: list[Receipt] = []
        found = self._by_stream(reply, asked, receipts) if self.way == "stream" else self._by_lookup(reply, asked, receipts)
        if found.outcome in {Outcome.BAD_SIGNATURE, Outcome.CLOCK}:
            assert not receipts
            if found.outcome is Outcome.CLOCK:
                return found
            raise AnswerError(found.detail)
        assert [receipt.answer for receipt in receipts] == ([envelope] if read_answer(envelope.payload).log else [])
        return found

    def _by_lookup(self, reply: pb.NodeReply, asked: SignedPart[Part], receipts: list[Receipt]) -> NodeOutcome:
        replies = LookupReplies(asked, self.federation.directory(), self.federation.clock, receipts.append)
        replies.take(reply)
        return replies.outcomes[reply.member]

    def _by_stream(self, reply: pb.NodeReply, asked: SignedPart[Part], receipts: list[Receipt]) -> NodeOutcome:
        verifier: ReplyVerifier[Part] = ReplyVerifier(self.federation.directory(), self.federation.clock)
        believed: list[NodeOutcome] = []
        replies: StreamReplies[Part] = StreamReplies(["fr", "br"], verifier, receipts.append, lambda _part, node: believed.append(node))
        replies.expect(asked)
        replies.take(reply)
        (found,) = believed or replies.left.values()
        return found

    def answer(self, member: str = "fr", status: Status = Status.ANSWERED, **header: object) -> LookupAnswer:
        now_ms = self.federation.clock()
        return answer_to(self.request, self.envelope.digest, member, self.federation.members[member].audit_signer, status, now_ms, **header)

    def signed(self, answer: LookupAnswer, by: str = "fr") -> Envelope:
        return sign_answer(answer, self.federation.members[by].signer)


@pytest.fixture(params=["lookup", "stream"])
def scene(request: pytest.FixtureRequest) -> Scene:
    """Both ways in: every attack is tried on a lookup and on a chunk of a stream."""
    return Scene(request.param)


def with_hit(answer: LookupAnswer, item: int = 0, algorithm: Algorithm = Algorithm.PDQ, distance: int = 3, code: int = 0) -> LookupAnswer:
    return replace(answer, records=(RecordView("r"),), hits=(Hit(item, 0, (Match(algorithm, distance, code),)),))


def test_an_honest_answer_holds(scene: Scene) -> None:
    assert scene.judge(scene.signed(scene.answer())).outcome is Outcome.NO_MATCH
    assert scene.judge(scene.signed(with_hit(scene.answer()))).hits


def test_an_honest_refusal_holds(scene: Scene) -> None:
    refusal = scene.answer(status=Status.STALE_INDEX, index=None)
    assert scene.judge(scene.signed(refusal)).outcome is Outcome.STALE_INDEX


@pytest.mark.parametrize("status", [Status.BUSY, Status.AUDIT_UNAVAILABLE])
def test_a_refusal_that_is_not_logged_accuses_nobody(scene: Scene, status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    envelope = scene.signed(replace(scene.answer(status=status, index=None), log=None))
    assert scene.judge(envelope).outcome is not Outcome.BAD_SIGNATURE  # and `judge` has seen that no receipt is kept
    kept_before = Receipt("memory", "fr", scene.federation.clock(), "T-1", envelope)
    with pytest.raises(NothingLoggedError, match=f"refused with {status.name}, which is not logged"):
        kept_before.read(scene.federation.directory())
    said: list[str] = []
    monkeypatch.setattr("vidfed.federation.cli.audit.say", said.append)
    monkeypatch.setattr("vidfed.federation.client.client.FederationClient", lambda _kit: _Client(scene))
    assert asyncio.run(_check(cast("Kit", None), [kept_before])) == 0
    assert [line.split()[0] for line in said] == ["nothing"]


def test_an_answer_without_a_log_entry_is_still_the_evidence(scene: Scene) -> None:
    envelope = scene.signed(replace(scene.answer(), log=None))
    with pytest.raises(ReceiptError, match="answered ANSWERED without logging it"):
        Receipt("memory", "fr", scene.federation.clock(), "T-1", envelope).read(scene.federation.directory())


class _Client:
    """As much of a client as checks a receipt by the scene's directory."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def fetch_proof(self, receipt: Receipt) -> None:
        receipt.read(self._scene.federation.directory())


def test_a_real_node_s_answer_holds(tmp_path: Path) -> None:
    scene = Scene("lookup")
    with MemoryNode(scene.federation, "fr", tmp_path) as node:
        node.hold(Record({Algorithm.PDQ: ASKED[0].code}))
        answer = scene.judge(node.ask(call_of(scene.asker.credential, scene.envelope), "nl"))
    assert [hit.item for hit in answer.hits] == [0]


def test_forged_no_hit(scene: Scene) -> None:
    """By anybody but the node itself: a stranger, another member, the investigator, the asker's own member."""
    for signer in (SigningKey.generate(), scene.asker.signer, *(scene.federation.members[name].signer for name in ("br", "nl"))):
        with pytest.raises(AnswerError, match="not signed with a key of fr"):
            scene.judge(sign_answer(scene.answer(), signer))


def test_forged_no_hit_without_a_signature(scene: Scene) -> None:
    with pytest.raises(AnswerError):
        scene.judge(Envelope(ANSWER_TYPE, write_answer(scene.answer())))


def test_answer_altered(scene: Scene) -> None:
    """A hit taken out of a signed answer."""
    signed = scene.signed(with_hit(scene.answer()))
    with pytest.raises(AnswerError):
        scene.judge(replace(signed, payload=write_answer(scene.answer())))


def test_answer_of_another_node(scene: Scene) -> None:
    of_br = scene.signed(scene.answer("br"), by="br")
    scene.judge(of_br, "br")
    with pytest.raises(AnswerError, match="not signed"):
        scene.judge(of_br, "fr")


def test_answer_of_one_node_in_the_name_of_another(scene: Scene) -> None:
    with pytest.raises(AnswerError, match="another issuer"):
        scene.judge(scene.signed(scene.answer("br"), by="fr"))


def test_answer_swapped(scene: Scene) -> None:
    """A true 'no hit' of this node, to another question of the same person."""
    other = Scene(scene.way, scene.federation)
    other.ask([Hash(Algorithm.PDQ, bytes(32))])
    with pytest.raises(AnswerError, match="another question"):
        scene.judge(scene.signed(other.answer()))


def test_old_answer_to_the_same_hashes(scene: Scene) -> None:
    earlier = scene.federation.sign(scene.federation.request(scene.asker, ASKED), scene.asker)
    with pytest.raises(AnswerError, match="another question"):
        scene.judge(scene.signed(scene.answer(request_digest=earlier.digest)))


def test_answer_to_another_member(scene: Scene) -> None:
    with pytest.raises(AnswerError, match="another member"):
        scene.judge(scene.signed(scene.answer(audience="br")))


def test_answer_from_another_federation(scene: Scene) -> None:
    with pytest.raises(AnswerError, match="another issuer or federation"):
        scene.judge(scene.signed(scene.answer(federation="elsewhere")))


def test_answer_to_another_call(scene: Scene) -> None:
    with pytest.raises(AnswerError, match="another call"):
        scene.judge(scene.signed(scene.answer(method="vidfed.v1.NodeService/Subscribe")))


@pytest.mark.parametrize("header", [{"sequence": 1}, {"last": False}, {"previous_digest": bytes(32)}])
def test_a_piece_of_a_stream_is_no_whole_answer(header: dict[str, Any]) -> None:
    scene = Scene("lookup")
    with pytest.raises(AnswerError, match="piece of a stream"):
        scene.judge(scene.signed(scene.answer(**header)))


@pytest.mark.parametrize("skew_ms", [-WINDOW_MS - 1, WINDOW_MS + 1, 2**62, -(2**62)])
def test_an_answer_from_another_time(scene: Scene, skew_ms: int) -> None:
    said = scene.judge(scene.signed(scene.answer(answered_ms=scene.federation.clock() + skew_ms)))
    assert (said.outcome, said.ahead_ms, said.hits) == (Outcome.CLOCK, skew_ms, ())


def test_case_11_clock_a_question_that_came_late_says_by_how_much(scene: Scene) -> None:
    """Not "compare this machine's clock", which is right."""
    answered_ms = scene.request.header.expires_ms + 9_000
    scene.federation.clock.now_ms = answered_ms + 50
    refusal = scene.answer(status=Status.OUTSIDE_TIME_WINDOW, index=None, answered_ms=answered_ms)
    said = scene.judge(scene.signed(refusal))
    assert said.outcome is Outcome.EXPIRED
    assert "arrived 9 s too late" in said.detail
    assert "clock" not in said.detail


@pytest.mark.parametrize("skew_ms", [-WINDOW_MS, WINDOW_MS])
def test_a_clock_that_is_a_little_wrong_is_forgiven(scene: Scene, skew_ms: int) -> None:
    judged = scene.judge(scene.signed(scene.answer(answered_ms=scene.federation.clock() + skew_ms)))
    assert judged.outcome is Outcome.NO_MATCH


def test_payload_type_confused(scene: Scene) -> None:
    as_request = Envelope(REQUEST_TYPE, write_answer(scene.answer())).signed_by(scene.federation.members["fr"].signer)
    with pytest.raises(AnswerError):
        scene.judge(as_request)
    with pytest.raises(AnswerError):
        scene.judge(replace(as_request, payload_type=ANSWER_TYPE))


def test_signed_garbage(scene: Scene) -> None:
    with pytest.raises(AnswerError):
        scene.judge(Envelope(ANSWER_TYPE, b"\xff" * 50).signed_by(scene.federation.members["fr"].signer))


def test_unknown_field_smuggled(scene: Scene) -> None:
    payload = write_answer(scene.answer()) + bytes([0xBA, 0x3E, 0x02]) + b"hi"
    with pytest.raises(AnswerError, match="does not know"):
        scene.judge(Envelope(ANSWER_TYPE, payload).signed_by(scene.federation.members["fr"].signer))


@pytest.mark.parametrize(
    ("hit", "said"),
    [
        ({"item": 1}, "not asked"),
        ({"item": 7}, "not asked"),
        ({"code": 1}, "not asked"),
        ({"algorithm": Algorithm.PHASH}, "not asked"),
        ({"distance": 32}, "beyond the distance"),
        ({"algorithm": Algorithm.SHA256, "item": 1, "distance": 1}, "beyond the distance"),
    ],
)
def test_a_hit_for_what_was_not_asked(scene: Scene, hit: dict[str, int], said: str) -> None:
    with pytest.raises(AnswerError, match=said):
        scene.judge(scene.signed(with_hit(scene.answer(), **hit)))  # type: ignore[arg-type]  # the test names the fields


def test_a_cut_item_that_was_not_asked(scene: Scene) -> None:
    with pytest.raises(AnswerError, match="not asked"):
        scene.judge(scene.signed(replace(scene.answer(), truncated_items=(2,))))


def test_a_removed_key_is_not_believed(scene: Scene) -> None:
    fr = scene.federation.members["fr"]
    signed = scene.signed(scene.answer())
    scene.federation.members["fr"] = replace(fr, entry=replace(fr.entry, signing_keys=(SigningKey.generate().public,)))
    with pytest.raises(AnswerError):
        scene.judge(signed)


UNLOGGED = {Status.AUDIT_UNAVAILABLE, Status.BUSY}


@pytest.mark.parametrize("status", [status for status in Status if status not in UNLOGGED | {Status.ANSWERED}])
def test_not_permitted_without_receipt_is_not_believed(scene: Scene, status: Status) -> None:
    """Nor any other refusal that a node must log: unlogged it could be told to one and denied to all."""
    refusal = replace(scene.answer(status=status, index=None), log=None)
    with pytest.raises(AnswerError):
        scene.judge(scene.signed(refusal))


@pytest.mark.parametrize("found_for", ["br", "fr"])
async def test_two_nodes_with_new_keys_are_both_believed(found_for: str) -> None:
    """Whichever of the two brings the newer directory, and however often it is asked for."""
    scene = Scene("lookup")
    directory = scene.federation.directory()
    rotated = {name: replace(directory.members[name], signing_keys=(SigningKey.generate().public,)) for name in ("br", "fr")}
    older = replace(directory, version=directory.version - 1, members=MappingProxyType({**directory.members, **rotated}))
    receipts: list[Receipt] = []
    replies = LookupReplies(SignedPart(PART, scene.request, scene.envelope.digest), older, scene.federation.clock, receipts.append)
    for member in ("fr", "nl", "br"):
        replies.take(pb.NodeReply(member=member, answer=to_message(scene.signed(scene.answer(member), by=member))))
    assert [replies.outcomes[member].outcome for member in ("br", "fr")] == [Outcome.BAD_SIGNATURE] * 2

    async def newer(member: str) -> Directory | None:
        return directory if member == found_for else None

    await replies.judge_again(newer)
    assert {node.member: node.outcome for node in replies.result().nodes} == dict.fromkeys(("br", "fr", "nl"), Outcome.NO_MATCH)
    assert [receipt.member for receipt in receipts] == ["nl", "fr", "br"]
