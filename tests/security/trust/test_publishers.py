"""Two publishers of one federation: one writes at a time, the other goes on, and no version is ever used twice."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from vidfed.security.clock import HOUR_MS
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.errors import DirectoryError
from vidfed.security.trust.federation import FederationFolder
from vidfed.security.trust.mirrors import FolderMirror
from vidfed.security.trust.publisher import Publisher

if TYPE_CHECKING:
    from pathlib import Path

    from tests.security.trust.world import World


@dataclass
class Pair:
    """The publisher the federation began with, and the one that stands by."""

    world: World
    first: Publisher
    second: Publisher

    @property
    def now_ms(self) -> int:
        return self.world.clock()

    def later(self, hours: float) -> None:
        self.world.clock.now_ms += int(hours * HOUR_MS)

    def versions(self, publisher: Publisher) -> tuple[int, int]:
        repository = publisher.folder.repository
        timestamp, snapshot = repository.timestamp(), repository.snapshot()
        assert timestamp
        assert snapshot
        return timestamp.signed.version, snapshot.signed.version


@pytest.fixture
def pair(world: World, tmp_path: Path) -> Pair:
    folder, public = FederationFolder.stand_by(tmp_path / "second", world.folder.anchor, clock=world.clock)
    world.sign_and_publish(world.folder.propose_publisher("fr", public))
    first = Publisher(world.folder, [FolderMirror(folder.repository.folder)], clock=world.clock)
    second = Publisher(folder, [FolderMirror(world.published)], clock=world.clock)
    assert not second.look()
    return Pair(world, first, second)


def test_the_second_publisher_stands_by_while_the_first_confirms(pair: Pair) -> None:
    for _ in range(5):
        pair.later(7)
        assert pair.first.look()
        assert not pair.second.look()
    assert pair.second.folder.directory() == pair.world.directory()
    with pytest.raises(DirectoryError, match=r"online publishes, at least until .*: hand it in there"):
        pair.second.folder.accept(pair.world.entry("nl", 2))


def test_the_second_publisher_goes_on_when_the_lease_of_the_first_is_over(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.world.folder.accept(pair.world.entry("nl", 2, endpoint="127.0.0.1:9"))
    assert not pair.second.look()
    pair.later(12.05)
    assert not pair.second.look()
    pair.later(0.05)
    assert pair.second.look()
    taken = pair.second.folder.directory()
    assert taken.publisher == "fr"
    assert taken.member("nl").endpoint == "127.0.0.1:9"
    assert "ALARM: took over from online" in caplog.text
    assert "fr" in pair.second.folder.accept(pair.world.entry("nl", 3)).publisher
    # The first comes back, from where it was: it takes what happened, and leaves the writing to the other.
    assert not pair.first.look()
    assert pair.world.directory() == pair.second.folder.directory()
    with pytest.raises(DirectoryError, match="fr publishes"):
        pair.world.folder.accept(pair.world.entry("nl", 4))


def test_publisher_lost_for_two_days_is_taken_over_although_nothing_holds_any_more(pair: Pair) -> None:
    pair.world.folder.accept(pair.world.entry("nl", 2))  # the second has not seen it yet
    pair.later(49)
    with pytest.raises(DirectoryError, match="expired"):
        pair.world.directory()
    assert pair.second.look()
    assert "nl" in pair.second.folder.directory().members
    assert pair.second.folder.repository.entry_version("nl") == 2


def test_no_version_is_used_twice_even_by_publishers_that_do_not_see_each_other(pair: Pair) -> None:
    alone = Publisher(pair.world.folder, [], ask=lambda: True, clock=pair.world.clock)
    other = Publisher(pair.second.folder, [], ask=lambda: True, clock=pair.world.clock)
    used: list[tuple[int, int]] = []
    pair.later(13)
    for _ in range(3):
        for publisher in (other, alone):
            assert publisher.look()
            used.append(pair.versions(publisher))
        pair.later(7)
    assert len({timestamp for timestamp, _ in used}) == len({snapshot for _, snapshot in used}) == len(used)


def test_a_publisher_out_of_a_backup_goes_on_from_the_newest_and_never_uses_a_version_again(pair: Pair, tmp_path: Path) -> None:
    shutil.copytree(pair.world.folder.folder, tmp_path / "backup")
    pair.later(7)
    assert pair.first.look()
    pair.world.folder.accept(pair.world.entry("nl", 2))
    newest = pair.versions(pair.first)
    assert not pair.second.look()
    restored = FederationFolder(tmp_path / "backup", clock=pair.world.clock)
    again = Publisher(restored, [FolderMirror(pair.second.folder.repository.folder)], clock=pair.world.clock)
    pair.later(0.1)
    again.look()
    assert pair.versions(again) >= newest
    assert restored.repository.entry_version("nl") == 2


def test_a_publisher_whom_nobody_answers_confirms_nothing_once_its_lease_is_over(pair: Pair) -> None:
    deaf = Publisher(pair.world.folder, [], ask=lambda: False, clock=pair.world.clock)
    pair.later(13)
    assert not deaf.look()
    with pytest.raises(DirectoryError, match="another publisher may have taken over"):
        pair.world.folder.accept(pair.world.entry("nl", 2))


def test_a_person_may_take_over_at_once(pair: Pair) -> None:
    assert pair.second.folder.take_over().publisher == "fr"
    assert not pair.first.look()
    assert pair.world.directory().publisher == "fr"


def test_what_takes_something_back_is_not_adopted(pair: Pair, tmp_path: Path) -> None:
    shutil.copytree(pair.world.folder.folder, tmp_path / "forked")
    pair.world.folder.accept(pair.world.entry("nl", 2))
    assert not pair.second.look()
    forked = FederationFolder(tmp_path / "forked", clock=pair.world.clock)
    for _ in range(4):
        forked.take_over()
    repository = pair.second.folder.repository
    with pytest.raises(DirectoryError):
        repository.adopt(FolderMirror(forked.repository.folder), pair.world.anchor, pair.now_ms)
    assert repository.entry_version("nl") == 2


def test_a_publisher_is_removed_and_cannot_confirm_any_more(pair: Pair) -> None:
    pair.world.sign_and_publish(pair.world.folder.propose_publisher_removal("fr"))
    pair.later(20)
    assert not pair.second.look()
    with pytest.raises(DirectoryError, match="no online key that the root names"):
        pair.second.folder.take_over()
    with pytest.raises(DirectoryError, match="not one of several"):
        pair.world.folder.propose_publisher_removal("online")


def test_the_online_key_of_one_publisher_is_rotated_and_the_other_s_stays(pair: Pair) -> None:
    before = pair.world.folder.publishers()
    pair.world.sign_and_publish(pair.world.folder.propose_online_key())
    after = pair.world.folder.publishers()
    assert list(after.values()) == list(before.values()) == ["online", "fr"]
    assert len(before.keys() & after.keys()) == 1
    pair.later(7)
    assert pair.first.look()


def test_neither_a_federation_nor_a_publisher_is_made_over_what_is_there(world: World, tmp_path: Path) -> None:
    used = tmp_path / "used"
    used.mkdir()
    (used / "draft.json").write_text("somebody's")
    keys = {"anna": SigningKey.generate().public}
    with pytest.raises(DirectoryError, match="never overwritten"):
        FederationFolder.create(used, "test", keys, 1)
    with pytest.raises(DirectoryError, match="never overwritten"):
        FederationFolder.stand_by(used, world.folder.anchor)
    assert (used / "draft.json").read_text() == "somebody's"
