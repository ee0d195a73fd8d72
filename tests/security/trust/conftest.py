"""What the tests of trust share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.security.trust.world import World

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.add("nl")
    return made
