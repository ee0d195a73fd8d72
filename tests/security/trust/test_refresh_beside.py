"""What a stranger's key can set off is one refresh, beside everything else; nobody waits for mirrors that hang."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.security.trust.world import World
from tests.support.memory import MemoryFederation, MemoryNode, call_of
from tests.support.patience import PATIENCE_S
from vidfed.index import Algorithm, Hash
from vidfed.node.lookup.question import Call
from vidfed.rpc.trust import REFRESH_LONGEST_S, GrpcMirror
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.trust.client import UNKNOWN_PAUSE_MS, TufDirectory
from vidfed.security.trust.mirrors import FolderMirror
from vidfed.wire.answers import read_answer
from vidfed.wire.statuses import Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidfed.security.identity.directory import Directory


class Hanging:
    """A mirror that says nothing until it is let go."""

    name = "a mirror that hangs"

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.times = 0
        self.go_on = threading.Event()

    def open(self, _path: str) -> Iterator[bytes]:
        self.times += 1
        self.asked.release()
        self.go_on.wait(PATIENCE_S)
        raise OSError(0, "gone")

    def stamp(self) -> object:
        return None


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.add("nl")
    made.add("fr")
    return made


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.go_on.set()


def source_of(world: World, hanging: Hanging, folder: str) -> TufDirectory:
    mirror = FolderMirror(world.published)
    return TufDirectory(world.base / folder, world.anchor, [mirror], ask=lambda _known: (hanging,), clock=world.clock)


def test_refresh_for_a_stranger_s_key_holds_up_nobody(world: World, hanging: Hanging, tmp_path: Path) -> None:
    """While every mirror hangs, the question with the unknown key and those answered together with it are answered at once."""
    federation = MemoryFederation()
    federation.add("nl", "fr", "br")
    source = source_of(world, hanging, "held")
    source.current()

    class Asking:
        """The members of the federation in memory, and the true source's way of asking for newer ones."""

        def current(self) -> Directory:
            return federation.directory()

        def refresh_for(self, member: str) -> bool:
            return source.refresh_for(member)

    world.clock.now_ms += UNKNOWN_PAUSE_MS
    with MemoryNode(federation, "fr", tmp_path / "fr") as node:
        pipeline = replace(node.pipeline, directory_source=Asking())
        calls = []
        for member in ("nl", "br"):
            asker = federation.investigator(member)
            request = federation.request(asker, [Hash(Algorithm.SHA256, bytes(32))], "fr")
            signers = (asker.signer, SigningKey.generate() if member == "nl" else federation.members[member].signer)
            envelope = replace(federation.sign(request, asker), signatures=()).signed_by(*signers)
            calls.append(Call(call_of(asker.credential, envelope), federation.members[member].tls.certificate))
        for _ in range(20):
            stranger, _ = answers = pipeline.answer(calls)
            statuses = [read_answer(answer.payload).header.status for answer in answers if answer is not None]
            assert statuses[0] is Status.BUSY
            assert stranger is not None
        assert hanging.asked.acquire(timeout=PATIENCE_S)
        assert hanging.times == 1
        hanging.go_on.set()
        assert source._background is not None
        source._background.join(PATIENCE_S)
        (stranger, _) = pipeline.answer(calls)
        assert stranger is not None
        assert read_answer(stranger.payload).header.status is Status.BAD_SIGNATURE  # nobody had anything newer


def test_two_unknown_keys_cause_one_refresh(world: World, hanging: Hanging) -> None:
    source = source_of(world, hanging, "held")
    source.current()
    world.clock.now_ms += UNKNOWN_PAUSE_MS
    assert source.refresh_for("nl")
    assert source.refresh_for("fr")  # it is under way
    hanging.go_on.set()
    assert source._background is not None
    source._background.join(PATIENCE_S)
    assert not source.refresh_for("fr")
    world.clock.now_ms += UNKNOWN_PAUSE_MS - 1
    assert not source.refresh_for("fr")
    assert hanging.times == 1
    world.clock.now_ms += 1
    assert source.refresh_for("fr")
    source._background.join(PATIENCE_S)
    assert hanging.times == 2


def test_a_process_does_not_wait_for_another_one_that_refreshes(world: World, hanging: Hanging) -> None:
    """Two workers of one node share the folder; one asks a mirror that hangs, and the other sees that a folder it follows has changed."""
    one, other = source_of(world, hanging, "held"), source_of(world, hanging, "held")
    known = other.current()
    one.current()
    refreshing = threading.Thread(target=one.refresh)
    refreshing.start()
    assert hanging.asked.acquire(timeout=PATIENCE_S)
    world.add("br")
    assert other.current() == known  # at once
    hanging.go_on.set()
    refreshing.join(PATIENCE_S)
    assert "br" in other.current().members


def test_a_refresh_asks_no_more_after_its_longest_time() -> None:
    with pytest.raises(OSError, match=f"a refresh takes {REFRESH_LONGEST_S:.0f} s at most"):
        next(GrpcMirror("slow", None, until_s=0.0).open("metadata/timestamp.json"))  # type: ignore[arg-type]  # it is not called any more


def test_a_process_that_starts_does_not_wait_for_another_one_that_refreshes(world: World, hanging: Hanging) -> None:
    """A second lookup with one kit, begun while the first is asking mirrors that hang, reads what is held."""
    one = source_of(world, hanging, "held")
    known = one.current()
    refreshing = threading.Thread(target=one.refresh)
    refreshing.start()
    assert hanging.asked.acquire(timeout=PATIENCE_S)
    assert source_of(world, hanging, "held").current() == known
    assert not hanging.go_on.is_set()
    hanging.go_on.set()
    refreshing.join(PATIENCE_S)
