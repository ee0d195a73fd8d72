"""The configuration reference is what the program reads, and the file that `vidfed node init` writes says all of it."""

from __future__ import annotations

import dataclasses
import importlib.util
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vidfed.node.config import render_config

if TYPE_CHECKING:
    from types import ModuleType

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("configuration", DOCS / "configuration.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_current(reference: ModuleType) -> None:
    assert reference.PAGE.read_text() == reference.page(), "run: python docs/configuration.py"


def test_a_new_configuration_names_every_setting_at_its_default(reference: ModuleType) -> None:
    texts = dict.fromkeys(("federation", "member", "name", "contact", "directory_folder"), "x")
    written = tomllib.loads(render_config(**texts, listen="127.0.0.1:7443", gateway_listen="127.0.0.1:7444"))
    assert written.keys() == reference._SECTIONS.keys()
    for name, kind in reference._SECTIONS.items():
        fields = {field.name: field.default for field in dataclasses.fields(kind)}
        assert written[name].keys() == fields.keys(), name
        for setting, default in fields.items():
            if default is not dataclasses.MISSING and setting not in {"metrics_listen", "directory_folder"}:
                assert written[name][setting] == (list(default) if isinstance(default, tuple) else default), setting


def test_a_setting_without_a_description_is_noticed(reference: ModuleType) -> None:
    @dataclasses.dataclass
    class Undescribed:
        """A section.

        Attributes:
            one: is described.
        """

        one: int
        other: int

    with pytest.raises(LookupError, match="Undescribed does not describe other"):
        reference.described(Undescribed)
