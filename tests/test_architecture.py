"""The plan of the house: arrows without circles, folders that can be listed from memory, and drawings that are current."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
MOST_FILES = 14
"""In one folder, beside its `__init__`: about what one can list from memory."""


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("architecture", ROOT / "docs/architecture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look up a module's names.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


architecture = _load()
HOUSE = architecture.House.read()


def test_the_drawings_are_what_the_code_imports() -> None:
    text = architecture.PAGE.read_text()
    assert text == architecture.page(text, HOUSE), "run: make drawings"


@pytest.mark.parametrize("folder", HOUSE.folders())
def test_nothing_in_a_folder_stands_in_a_circle(folder: str) -> None:
    assert architecture.circles(HOUSE.siblings(folder)) == []


@pytest.mark.parametrize("folder", HOUSE.folders())
def test_a_folder_holds_no_more_files_than_one_can_remember(folder: str) -> None:
    assert len(HOUSE.files(folder)) <= MOST_FILES


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "THREAT_MODEL.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_every_source_file_that_a_document_names_is_there(page: Path) -> None:
    named = {name.removeprefix("../") for name in re.findall(r"[\w./-]+\.py\b", page.read_text())}
    present = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("[!.]*/**/*.py")}
    assert [name for name in named if not any(path == name or path.endswith(f"/vidfed/{name}") for path in present)] == []


def _house(root: Path, **files: str) -> Any:  # noqa: ANN401 - of a module without a name
    for name, text in files.items():
        path = root / "source/vidfed" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        (path.parent / "__init__.py").touch()
    return architecture.House.read(root)


def test_a_circle_is_seen_through_types_only_and_late_imports(tmp_path: Path) -> None:
    house = _house(
        tmp_path,
        a__x="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from vidfed.a.y import T\n",
        a__y="def f():\n    from vidfed.a import z\n",
        a__z="import vidfed.a.x\n",
        a__w="from vidfed.a import x\n",
    )
    assert architecture.circles(house.siblings("vidfed.a")) == [["x", "y", "z"]]


def test_files_of_two_rooms_make_a_circle_of_the_rooms_even_where_no_file_imports_itself(tmp_path: Path) -> None:
    house = _house(tmp_path, p__a__x="import vidfed.p.b.x\n", p__b__x="", p__b__y="from vidfed.p.a.y import name\n", p__a__y="")
    assert architecture.circles(house.siblings("vidfed.p")) == [["a", "b"]]
    assert architecture.circles(house.siblings("vidfed.p.a")) == []


def test_a_page_without_a_drawing_of_a_package_with_rooms_is_refused(tmp_path: Path) -> None:
    house = _house(tmp_path, p__a__x="")
    with pytest.raises(ValueError, match=r"vidfed\.p"):
        architecture.page("<!-- drawing vidfed --><!-- end -->", house)
