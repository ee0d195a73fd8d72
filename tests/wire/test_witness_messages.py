"""What a witness said is a cosignature or a refusal; nothing else passes for either."""

from __future__ import annotations

import pytest

from vidfed.security.audit.notes import MAX_NOTE_BYTES
from vidfed.security.audit.witness import Refusal, WitnessRefusalError
from vidfed.v1 import audit_pb2 as pb
from vidfed.wire.audit import read_cosignatures, write_refusal
from vidfed.wire.statuses import MalformedError


def test_cosignatures_come_back_as_they_were_written() -> None:
    assert read_cosignatures(pb.AddCheckpointResponse(cosignatures="\u2014 nl AAAA\n")) == "\u2014 nl AAAA\n"


@pytest.mark.parametrize("refusal", Refusal)
def test_every_refusal_comes_back_with_its_reason_and_the_size_cosigned_last(refusal: Refusal) -> None:
    response = pb.AddCheckpointResponse.FromString(write_refusal(WitnessRefusalError(refusal, 7)).SerializeToString())
    with pytest.raises(WitnessRefusalError) as raised:
        read_cosignatures(response)
    assert (raised.value.refusal, raised.value.latest_size) == (refusal, 7)


@pytest.mark.parametrize("reason", [pb.WITNESS_REFUSAL_REASON_UNSPECIFIED, 77])
def test_a_refusal_for_a_reason_not_known_here_is_still_a_refusal(reason: int) -> None:
    message = pb.WitnessRefusal()
    message.ParseFromString(pb.WitnessRefusal(latest_size=3).SerializeToString() + bytes([0x08, reason]))
    with pytest.raises(WitnessRefusalError) as raised:
        read_cosignatures(pb.AddCheckpointResponse(refusal=message))
    assert (raised.value.refusal, raised.value.latest_size) == (Refusal.BAD_REQUEST, 3)


@pytest.mark.parametrize("response", [pb.AddCheckpointResponse(), pb.AddCheckpointResponse(cosignatures="")], ids=["nothing", "empty"])
def test_a_response_that_says_nothing_is_no_success(response: pb.AddCheckpointResponse) -> None:
    with pytest.raises(MalformedError, match="neither"):
        read_cosignatures(response)


def test_cosignatures_longer_than_any_note_are_refused() -> None:
    with pytest.raises(MalformedError):
        read_cosignatures(pb.AddCheckpointResponse(cosignatures="x" * (MAX_NOTE_BYTES + 1)))
