"""Everything a peer can send to client, gateway, witness and node, malformed or signed by a true key: only our own errors come out."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.hostile import blobs, mutated, notes, texts
from tests.support.memory import MemoryFederation, MemoryNode, answer_to, call_of
from vidfed.federation.client.replies import LookupReplies
from vidfed.federation.gateway.admission import Admission
from vidfed.federation.gateway.audit_trail import AuditTrail
from vidfed.federation.lookup.errors import AnswerError
from vidfed.federation.lookup.outcome import outcome_of_answer
from vidfed.federation.lookup.question import Item, Part
from vidfed.federation.lookup.receipts import Receipt, check_proof
from vidfed.federation.lookup.verification import SignedPart, verify_answer
from vidfed.index import Algorithm, Hash
from vidfed.node.lookup.question import Call
from vidfed.node.serving.audit_service import AuditCore
from vidfed.node.serving.witnessing import Witnessing
from vidfed.security.audit.notes import Checkpoint, NoteSignature
from vidfed.security.audit.witness import Witness, WitnessRefusalError
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.errors import AuditError, CheckpointError, ReceiptError, SecurityError
from vidfed.security.identity.credentials import CREDENTIAL_TYPE
from vidfed.security.identity.tls import INVESTIGATOR_ROLE, Peer
from vidfed.v1 import audit_pb2 as audit_pb
from vidfed.v1 import gateway_pb2 as gateway_pb
from vidfed.v1 import lookup_pb2 as pb
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.answers import read_answer, says_busy, write_answer
from vidfed.wire.audit import read_cosignatures, read_note, read_proof
from vidfed.wire.statuses import Status, WireError
from vidfed.wire.values import ANSWER_TYPE, LOOKUP_METHOD, REQUEST_TYPE, Hit, Match, RecordView

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidfed.wire.values import LookupAnswer

FEDERATION = MemoryFederation()
FEDERATION.add("nl", "fr", "br")
FR = FEDERATION.members["fr"]
ASKER = FEDERATION.investigator("nl")
REQUEST = FEDERATION.request(ASKER, [Hash(Algorithm.PDQ, bytes(32)), Hash(Algorithm.SHA256, bytes(32))], "fr", "br")
ASKED = FEDERATION.sign(REQUEST, ASKER)
ITEMS = (Item("a.jpg", {Algorithm.PDQ: (bytes(32),)}), Item("b.jpg", {Algorithm.SHA256: (bytes(32),)}))
PART = Part(ITEMS, REQUEST.columns)
NOTES_OF_FR = notes(FEDERATION.federation, "fr", FR.audit_signer)
fuzzed = settings(suppress_health_check=list(HealthCheck), max_examples=60)


def honest_answer() -> LookupAnswer:
    answer = answer_to(REQUEST, ASKED.digest, "fr", FR.audit_signer, Status.ANSWERED, FEDERATION.clock())
    hit = Hit(0, 0, (Match(Algorithm.PDQ, 3, 0),))
    return SimpleNamespace(
        header=answer.header, records=(RecordView("r"),), hits=(hit,), truncated_items=(), frames_not_searched=(), log=answer.log
    )  # type: ignore[return-value]  # written, never read


HONEST_ANSWER = pb.LookupAnswer.FromString(write_answer(honest_answer()))


def signed_answers() -> st.SearchStrategy[Envelope]:
    """Answers of fr, malformed or odd, that its own key signed; or bytes that are no answer."""
    payloads = mutated(HONEST_ANSWER, texts | NOTES_OF_FR).map(lambda message: message.SerializeToString()) | blobs
    return payloads.map(lambda payload: Envelope(ANSWER_TYPE, payload).signed_by(FR.signer))


@fuzzed
@given(signed_answers())
def test_whatever_a_node_signs_is_an_answer_or_refused_as_one(envelope: Envelope) -> None:
    asked = SignedPart(PART, REQUEST, ASKED.digest)
    says_busy(envelope.payload)
    with contextlib.suppress(AnswerError):
        answered, answer = verify_answer(envelope, member=FR.entry, pending={ASKED.digest: asked}, now_ms=FEDERATION.clock())
        outcome_of_answer("fr", answer, answered.part.items, answered.distances, answered.first_codes)


@fuzzed
@given(
    mutated(gateway_pb.NodeReply(member="fr", answer=wire_envelope.to_message(ASKED)))
    | signed_answers().map(lambda envelope: gateway_pb.NodeReply(member="fr", answer=wire_envelope.to_message(envelope)))
)
def test_whatever_a_gateway_passes_on_is_one_node_s_outcome(reply: gateway_pb.NodeReply) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vidfed.federation.lookup.verification._defect", lambda _member: pytest.fail("a defect was found"))
        replies = LookupReplies(SignedPart(PART, REQUEST, ASKED.digest), FEDERATION.directory(), FEDERATION.clock, lambda _receipt: None)
        replies.take(reply)
        assert {node.member for node in replies.result().nodes} == {"fr", "br"}


@fuzzed
@given(
    signed_answers(),
    mutated(audit_pb.GetProofResponse(checkpoint="x", inclusion=[bytes(32)], consistency=[bytes(32)], body=b"{}"), texts | NOTES_OF_FR),
)
def test_whatever_a_node_proves_bears_a_receipt_out_or_not(envelope: Envelope, proof: audit_pb.GetProofResponse) -> None:
    receipt = Receipt(FEDERATION.federation, "fr", 0, "T", envelope)
    with contextlib.suppress(ReceiptError):
        check_proof(receipt, proof, FEDERATION.directory())


def honest_receipt() -> Receipt:
    envelope = Envelope(ANSWER_TYPE, HONEST_ANSWER.SerializeToString()).signed_by(FR.signer)
    return Receipt(FEDERATION.federation, "fr", 0, "T", envelope)


@fuzzed
@given(
    mutated(audit_pb.GetProofResponse(checkpoint="x", inclusion=[bytes(32)], body=b"{}", salt=bytes(32)), NOTES_OF_FR),
    NOTES_OF_FR,
)
def test_whatever_a_node_proves_of_an_honest_receipt(proof: audit_pb.GetProofResponse, note: str) -> None:
    proof.checkpoint = note
    with pytest.raises(ReceiptError):
        check_proof(honest_receipt(), proof, FEDERATION.directory())


@fuzzed
@given(signed_answers(), texts)
def test_whatever_a_node_signs_can_be_logged_by_the_gateway(envelope: Envelope, member: str) -> None:
    logged: list[object] = []
    log = SimpleNamespace(append_many=logged.extend)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vidfed.federation.gateway.audit_trail._log.exception", lambda *_: pytest.fail("a defect was found"))
        reply = gateway_pb.NodeReply(member=member, answer=wire_envelope.to_message(envelope))
        trail = AuditTrail(log, "nl")  # type: ignore[arg-type]  # only what is written matters
        trail._receive([SimpleNamespace(request=REQUEST, digest=ASKED.digest, reply=reply, came_ms=0)])  # type: ignore[list-item]
    assert len(logged) == 1


def hostile_calls() -> st.SearchStrategy[pb.LookupCall]:
    """Calls of nl's node or investigator: anything in any place, also under true signatures of request and credential."""
    request = pb.LookupRequest.FromString(ASKED.payload)
    plain = call_of(ASKER.credential, ASKED)

    def signed(payload: bytes, credential: bytes) -> pb.LookupCall:
        asked = Envelope(REQUEST_TYPE, payload).signed_by(ASKER.signer, FEDERATION.members["nl"].signer)
        vouched = Envelope(CREDENTIAL_TYPE, credential).signed_by(FEDERATION.members["nl"].signer)
        return call_of(vouched, asked)

    payloads = mutated(request).map(lambda message: message.SerializeToString()) | blobs
    return mutated(plain) | st.builds(signed, payloads | st.just(ASKED.payload), hostile_credentials())


def hostile_credentials() -> st.SearchStrategy[bytes]:
    """Credentials that nl's own key signs, with one field another one's, of another kind, or endless."""
    honest = ASKER.credential.payload.decode()
    names = ("inv-1", "memory", "not_before_ms", '"nl"', "[]")
    values = ('"\\ud800"', "9" * 5_000, "1e400", "NaN", "null", '["x"]', "{}", '"' + "a" * 2_000 + '"', "-1", '"inv-1"', "\x00")
    replaced = st.tuples(st.sampled_from(names), st.sampled_from(values)).map(
        lambda drawn: honest.replace(f'"{drawn[0]}"', drawn[1]).replace(drawn[0], drawn[1])
    )
    return (replaced | st.just(honest)).map(str.encode) | blobs


@fuzzed
@given(hostile_calls())
def test_whatever_an_investigator_sends_a_gateway_refuses_by_name(call: pb.LookupCall) -> None:
    source = SimpleNamespace(current=FEDERATION.directory, refresh_for=FEDERATION.refresh_for)
    standing = SimpleNamespace(revoked=frozenset, owner=str)
    admission = Admission("nl", source, standing, FEDERATION.clock)  # type: ignore[arg-type]  # what it asks of it
    with contextlib.suppress(SecurityError, WireError):
        credential, signed = wire_envelope.read_call(call)
        admission.check(credential, signed, Peer("nl", INVESTIGATOR_ROLE, "inv-1"), FEDERATION.directory(), LOOKUP_METHOD)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryNode]:
    with MemoryNode(FEDERATION, "br", tmp_path_factory.mktemp("br")) as made:
        yield made


@fuzzed
@given(hostile_calls())
def test_whatever_a_gateway_asks_is_answered_signed_and_finds_no_defect(node: MemoryNode, call: pb.LookupCall) -> None:
    neighbour = FEDERATION.investigator("fr")
    honest = FEDERATION.request(neighbour, [Hash(Algorithm.SHA256, bytes(32))], "br")
    beside = call_of(neighbour.credential, FEDERATION.sign(honest, neighbour))
    answers = node.pipeline.answer([Call(call, FEDERATION.members["nl"].tls.certificate), Call(beside, FR.tls.certificate)])
    statuses = [read_answer(answer.payload).header.status for answer in answers if answer is not None]
    assert len(statuses) == 2
    assert statuses[0] is not Status.INTERNAL_ERROR
    assert statuses[1] is Status.ANSWERED  # whoever is answered together with it suffers nothing


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witness]:
    folder: Path = tmp_path_factory.mktemp("witness")
    signer = FEDERATION.members["br"].audit_signer
    made = Witness(folder / "w.db", federation=FEDERATION.federation, member="br", signer=signer, clock=FEDERATION.clock)
    with contextlib.closing(made):
        yield made


@fuzzed
@given(NOTES_OF_FR, st.sampled_from([0, 1, 7, 2**63 - 1, 2**64 - 1]), st.lists(blobs, max_size=3), st.sampled_from(["fr", "nl"]))
def test_whatever_a_log_asks_to_have_cosigned(
    node: MemoryNode, witness: Witness, note: str, old: int, proof: list[bytes], caller: str
) -> None:
    core = AuditCore(node.audit, witness, FEDERATION, FEDERATION.clock)
    request = audit_pb.AddCheckpointRequest(old_size=old, proof=proof, checkpoint=note)
    core.add_checkpoint(request, FEDERATION.members[caller].tls.certificate)
    with contextlib.suppress(WitnessRefusalError):
        witness.compare(note, FEDERATION.directory())
    witness.evidence()
    witness.witnessed()


@fuzzed
@given(mutated(audit_pb.GetProofRequest(position=1, known_size=1)), mutated(audit_pb.GetConsistencyRequest(old_size=1, new_size=1)))
def test_whatever_proof_a_peer_asks_for(
    node: MemoryNode, witness: Witness, proof: audit_pb.GetProofRequest, consistency: audit_pb.GetConsistencyRequest
) -> None:
    core, leaf = AuditCore(node.audit, witness, FEDERATION, FEDERATION.clock), FR.tls.certificate
    with contextlib.suppress(AuditError):
        core.proof(proof, leaf)
    with contextlib.suppress(AuditError):
        core.consistency(consistency, leaf)


@fuzzed
@given(
    mutated(audit_pb.AddCheckpointResponse(cosignatures="x"), texts | NOTES_OF_FR)
    | mutated(audit_pb.AddCheckpointResponse(refusal=audit_pb.WitnessRefusal(latest_size=3))),
    NOTES_OF_FR,
    st.lists(blobs, max_size=70),
)
def test_whatever_a_witness_replies(witness: Witness, response: audit_pb.AddCheckpointResponse, note: str, proof: list[bytes]) -> None:
    with contextlib.suppress(WireError, WitnessRefusalError, CheckpointError):
        for line in read_cosignatures(response).splitlines():
            NoteSignature.parse(line)
    with contextlib.suppress(WireError):
        read_proof(proof)
    with contextlib.suppress(WireError, WitnessRefusalError):
        witness.compare(read_note(note), FEDERATION.directory())


@fuzzed
@given(notes(FEDERATION.federation, "br", FEDERATION.members["br"].audit_signer))
def test_whatever_a_witness_shows_of_the_own_log(node: MemoryNode, note: str) -> None:
    rounds = Witnessing("br", node.audit, None, FEDERATION, lambda: FR.tls, None)  # type: ignore[arg-type]  # not asked here
    with contextlib.suppress(AuditError):
        rounds._compare_own(Checkpoint.parse(note), FEDERATION.directory())
