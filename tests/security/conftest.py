"""What the tests of security share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.security.trust.world import World
from vidfed.node.config import render_config
from vidfed.security.member.home import MemberHome, create_home
from vidfed.security.trust.entry import Entry

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.add("nl")
    return made


@pytest.fixture
def home(world: World, tmp_path: Path) -> MemberHome:
    """The folder of fr, a member of that federation."""
    config = render_config(
        federation="test",
        member="fr",
        name="Unit",
        contact="desk",
        listen="127.0.0.1:0",
        gateway_listen="127.0.0.1:0",
        directory_folder=str(world.folder.repository.folder),
    )
    made = create_home(tmp_path / "fr", config=config, endpoint="127.0.0.1:1", anchor=world.folder.anchor)
    world.admit(Entry.load(made.entry_path))
    return made
