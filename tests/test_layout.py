"""The house: folders, namespace, public faces."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("protos", "security", "index", "node", "federation", "synthetic_fixtures")


@pytest.mark.parametrize("folder", SOURCES)
def test_the_namespace_itself_has_no_init_file(folder: str) -> None:
    assert not (ROOT / folder / "vidfed/__init__.py").exists()


@pytest.mark.parametrize("folder", SOURCES)
def test_every_package_is_typed_and_says_what_it_is(folder: str) -> None:
    packages = [path for path in (ROOT / folder / "vidfed").iterdir() if path.is_dir() and path.name not in {"v1", "__pycache__"}]
    assert packages
    for package in packages:
        assert (package / "py.typed").exists()
        assert (package / "__init__.py").read_text().startswith('"""')
