"""The federation's attacks against a federation in memory that really signs.

Over sockets: test_lying_nodes, test_lying_gateways, test_newer_directory, test_fanout, test_streams.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support.memory import MemoryFederation, MemoryInvestigator, MemoryNode, answer_to, call_of, sign_answer
from vidfed.federation.client.receipt_store import RECEIPTS_FILE, ReceiptStore, ReceiptWriter
from vidfed.federation.client.replies import LookupReplies
from vidfed.federation.lookup.outcome import Outcome
from vidfed.federation.lookup.question import Item, split
from vidfed.federation.lookup.verification import SignedPart
from vidfed.federation.nodes.gather import Gathering
from vidfed.federation.nodes.outgoing import OutgoingLookup, failure
from vidfed.index import Algorithm, Hash
from vidfed.node.lookup.authenticate import UnknownPeerError
from vidfed.security.errors import AuditError
from vidfed.v1 import gateway_pb2 as pb
from vidfed.v1.lookup_pb2 import LookupCall
from vidfed.wire.envelope import to_message
from vidfed.wire.statuses import Status
from vidfed.wire.values import FailureKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from vidfed.federation.lookup.result import LookupResult
    from vidfed.federation.nodes.pool import NodePool
    from vidfed.security.crypto.envelope import Envelope
    from vidfed.security.identity.directory import Directory, Member
    from vidfed.wire.values import LookupRequest

(PART,) = split([Item("photo.jpg", {Algorithm.SHA256: (bytes(32),)})], {})
MEMBERS = ("br", "fr", "nl")


class Question:
    """A question of nl to everybody, and what the nodes would honestly say to it."""

    def __init__(self, federation: MemoryFederation) -> None:
        self.federation = federation
        self.asker: MemoryInvestigator = federation.investigator("nl")
        self.request: LookupRequest = federation.request(self.asker, [Hash(Algorithm.SHA256, bytes(32))])
        self.envelope: Envelope = federation.sign(self.request, self.asker)

    def honest(self, member: str) -> pb.NodeReply:
        of = self.federation.members[member]
        answer = answer_to(self.request, self.envelope.digest, member, of.audit_signer, Status.ANSWERED, self.federation.clock())
        return pb.NodeReply(member=member, answer=to_message(sign_answer(answer, of.signer)))

    async def judged(self, folder: Path, replies: Sequence[pb.NodeReply]) -> LookupResult:
        """Return what an investigator concludes from these replies of a gateway."""
        with ReceiptStore(folder / RECEIPTS_FILE) as receipts:
            async with ReceiptWriter(receipts) as writer:
                asked = SignedPart(PART, self.request, self.envelope.digest)
                judged = LookupReplies(asked, self.federation.directory(), self.federation.clock, writer.add)
                for reply in replies:
                    judged.take(reply)
        return judged.result()


@pytest.fixture
def question() -> Question:
    federation = MemoryFederation()
    federation.add(*MEMBERS)
    return Question(federation)


def outcomes(result: LookupResult) -> dict[str, Outcome]:
    return {node.member: node.outcome for node in result.nodes}


HONEST = dict.fromkeys(MEMBERS, Outcome.NO_MATCH)


async def test_honest_answers_make_a_complete_result(question: Question, tmp_path: Path) -> None:
    result = await question.judged(tmp_path, [question.honest(member) for member in MEMBERS])
    assert outcomes(result) == HONEST
    assert result.complete


async def test_gateway_drops_an_answer(question: Question, tmp_path: Path) -> None:
    result = await question.judged(tmp_path, [question.honest("br"), question.honest("nl")])
    assert outcomes(result) == HONEST | {"fr": Outcome.MISSING}
    assert not result.complete


async def test_gateway_alters_an_answer(question: Question, tmp_path: Path) -> None:
    replies = [question.honest(member) for member in MEMBERS]
    replies[1].answer.payload = replies[1].answer.payload[:-1] + bytes([replies[1].answer.payload[-1] ^ 1])
    assert outcomes(await question.judged(tmp_path, replies)) == HONEST | {"fr": Outcome.BAD_SIGNATURE}


async def test_answer_attributed_to_another_node(question: Question, tmp_path: Path) -> None:
    replies = [question.honest("br"), pb.NodeReply(member="fr", answer=question.honest("nl").answer), question.honest("nl")]
    assert outcomes(await question.judged(tmp_path, replies)) == HONEST | {"fr": Outcome.BAD_SIGNATURE}


async def test_answered_twice(question: Question, tmp_path: Path) -> None:
    """What came first stands: neither a failure nor another answer replaces it."""
    replies = [question.honest(member) for member in MEMBERS]
    replies += [failure("fr", FailureKind.TIMEOUT, ""), question.honest("fr")]
    assert outcomes(await question.judged(tmp_path, replies)) == HONEST
    assert outcomes(await question.judged(tmp_path, [replies[3], *replies]))["fr"] is Outcome.TIMEOUT


async def test_node_listed_twice(question: Question, tmp_path: Path) -> None:
    """Two members with one node behind them: it speaks for the one whose key it has, and for nobody else."""
    members = question.federation.members
    members["fr"] = replace(members["fr"], entry=replace(members["fr"].entry, endpoint=members["br"].entry.endpoint))
    replies = [question.honest("br"), pb.NodeReply(member="fr", answer=question.honest("br").answer), question.honest("nl")]
    assert outcomes(await question.judged(tmp_path, replies)) == HONEST | {"fr": Outcome.BAD_SIGNATURE}


class Standing:
    """A directory that does not change any more."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def current(self) -> Directory:
        return self._directory

    def refresh_for(self, member: str) -> bool:
        del member
        return False


async def test_node_with_an_older_directory(question: Question, tmp_path: Path) -> None:
    """It does not know the asker's new keys and says nothing; that is no 'no hit'."""
    federation = question.federation
    with MemoryNode(federation, "fr", tmp_path) as node:
        node.pipeline = replace(node.pipeline, directory_source=Standing(federation.directory()))
        assert node.ask(call_of(question.asker.credential, question.envelope), "nl").signatures
        federation.add("nl")
        renewed = Question(federation)
        with pytest.raises(UnknownPeerError):
            node.ask(call_of(renewed.asker.credential, renewed.envelope), "nl")
    result = await renewed.judged(tmp_path, [renewed.honest("br"), failure("fr", FailureKind.UNREACHABLE, ""), renewed.honest("nl")])
    assert outcomes(result) == HONEST | {"fr": Outcome.UNREACHABLE}


class ScriptedNodes:
    """Nodes of a gateway, each of which gives its reply when a test lets it."""

    def __init__(self, reply: Callable[[str], Awaitable[pb.NodeReply]]) -> None:
        self._reply = reply

    async def ask(self, _asking: OutgoingLookup, member: Member) -> pb.NodeReply:
        return await self._reply(member.id)


async def take_all(_: pb.NodeReply) -> None:
    pass


def collection(
    federation: MemoryFederation,
    reply: Callable[[str], Awaitable[pb.NodeReply]],
    take: Callable[[pb.NodeReply], Awaitable[None]] = take_all,
    **asking: Any,  # noqa: ANN401
) -> Gathering:
    directory = federation.directory()
    asked = OutgoingLookup(LookupCall(), directory, **({"deadline_s": 30.0} | asking))
    return Gathering(cast("NodePool", ScriptedNodes(reply)), asked, directory.members.values(), take)


async def test_slow_node(question: Question) -> None:
    """All others' answers are there before it has given its own."""
    others_are_there = asyncio.Event()

    async def reply(member: str) -> pb.NodeReply:
        if member == "fr":
            await others_are_there.wait()
        return question.honest(member)

    arrived = []
    async for each in collection(question.federation, reply).replies():
        arrived.append(each.member)
        if len(arrived) == len(MEMBERS) - 1:
            others_are_there.set()
    assert arrived[-1] == "fr"
    assert set(arrived) == set(MEMBERS)


async def test_hanging_node(question: Question) -> None:
    """Its silence is said to be a timeout; it keeps nobody from an answer."""

    async def reply(member: str) -> pb.NodeReply:
        if member == "fr":
            await asyncio.Event().wait()
        return question.honest(member)

    collected = collection(question.federation, reply, deadline_s=0.05, late_s=60.0)
    said = {each.member: each async for each in collected.replies()}
    await collected.end()
    assert said["fr"].failure.kind == FailureKind.TIMEOUT.value
    assert {said[member].WhichOneof("reply") for member in ("br", "nl")} == {"answer"}


async def test_an_answer_that_is_lost_after_the_asker_has_gone_is_told(question: Question, caplog: pytest.LogCaptureFixture) -> None:
    """It was to be kept for later, long before the deadline; nobody else hears of the full disk."""
    others_are_there = asyncio.Event()

    async def reply(member: str) -> pb.NodeReply:
        if member == "fr":
            await others_are_there.wait()
        return question.honest(member)

    async def take(told: pb.NodeReply) -> None:
        if told.member == "fr":
            raise AuditError("full disk")

    collected = collection(question.federation, reply, take, late_s=60.0)
    async with contextlib.aclosing(cast("Any", collected.replies())) as replies:
        await anext(replies)
    others_are_there.set()
    await collected.go_on()
    assert "answer of fr is lost: full disk" in caplog.text


async def test_twenty_slow_nodes() -> None:
    """Each answers only once all twenty are being asked: time is not twenty times one."""
    federation = MemoryFederation()
    members = [f"m{number:02}" for number in range(20)]
    federation.add(*members)
    everybody = asyncio.Barrier(len(members))

    async def reply(member: str) -> pb.NodeReply:
        await everybody.wait()
        return failure(member, FailureKind.UNREACHABLE, "")

    async with contextlib.aclosing(cast("Any", collection(federation, reply).replies())) as replies:
        assert {each.member async for each in replies} == set(members)
