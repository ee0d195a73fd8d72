"""Fixtures of the index's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vidfed.index.search import plan

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def tables_even_if_tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make segments of a dozen rows be searched through their tables, though scanning them is cheaper."""
    monkeypatch.setattr(plan, "_WORTH_TRYING", float("inf"))
    plan.probes_for.cache_clear()
    yield
    plan.probes_for.cache_clear()
