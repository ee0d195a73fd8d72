"""When two films are the same, and who is said not to have been asked."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from tests.support.memory import MemoryFederation
from vidfed.federation.lookup.films import ENOUGH_FRAMES, enough, share
from vidfed.federation.lookup.outcome import Outcome, not_asked
from vidfed.wire.values import FilmMatch

MANY = 10 * ENOUGH_FRAMES


@pytest.mark.parametrize(
    ("frames", "agreeing", "record_frames", "record_agreeing", "same"),
    [
        (MANY, ENOUGH_FRAMES, MANY, ENOUGH_FRAMES, True),
        (MANY, ENOUGH_FRAMES - 1, MANY, ENOUGH_FRAMES, False),
        (MANY, ENOUGH_FRAMES, MANY, ENOUGH_FRAMES - 1, False),
        (1, 1, MANY, 1, True),
        (MANY, 1, 1, 1, True),
        (2, 1, MANY, 2, False),
        (2, 2, MANY, 1, False),
    ],
)
def test_two_films_agree_only_if_enough_of_each_does(
    frames: int, agreeing: int, record_frames: int, record_agreeing: int, same: bool
) -> None:
    assert enough(FilmMatch(frames, agreeing, record_frames, record_agreeing, ())) is same


@pytest.mark.parametrize(("agreeing", "frames", "said"), [(1, 1000, "1 %"), (999, 1000, "99 %"), (1000, 1000, "100 %"), (1, 3, "33 %")])
def test_a_share_is_rounded_neither_to_none_nor_to_all(agreeing: int, frames: int, said: str) -> None:
    assert share(agreeing, frames) == said


def test_who_was_not_asked_is_said_with_the_reason() -> None:
    """A member that cannot be asked is so whomever the asker chose."""
    federation = MemoryFederation()
    federation.add("nl", "fr", "br")
    directory = federation.directory()
    quarantined = replace(directory.members["br"], quarantined=True)
    members = MappingProxyType({**directory.members, "br": quarantined})
    directory = replace(directory, members=members, left_out=MappingProxyType({"it": "has published no entry"}))
    said = {chosen: {node.member: node.outcome for node in not_asked(directory, ["nl"], chosen=chosen)} for chosen in (True, False)}
    assert said[True] == {"br": Outcome.NOT_ASKED, "fr": Outcome.NOT_CHOSEN, "it": Outcome.NOT_ASKED}
    assert said[False] == dict.fromkeys(("br", "fr", "it"), Outcome.NOT_ASKED)
