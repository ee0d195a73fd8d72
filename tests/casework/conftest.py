"""Two members with a hit between them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.support.casework_members import World
from tests.support.units import WHY, Units, in_this_process
from vidfed.synthetic.federation import LocalFederation
from vidfed.synthetic.pictures import picture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with contextlib.closing(World(tmp_path)) as made:
        yield made


@pytest.fixture(scope="package")
def units(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Units]:
    base = tmp_path_factory.mktemp("casework")
    with LocalFederation(base, lambda arguments: in_this_process(*arguments)) as federation:
        federation.create({"nl": "Unit NL", "fr": "Unit FR"})
        pictures = base / "pictures"
        pictures.mkdir()
        picture(1).save(pictures / "known.png")
        picture(2).save(pictures / "other.png")
        in_this_process("node", "ingest", pictures, "--home", federation.places["fr"].folder)
        made = Units(base, federation)
        for member, pseudonym, *roles in (
            ("nl", "nl-7"),
            ("nl", "nl-8"),
            ("fr", "fr-1", "release-officer"),
            ("fr", "fr-2", "release-officer"),
        ):
            made.kit(member, pseudonym, *roles)
        federation.accept_officers("fr")
        federation.start("nl", "fr", service="unit")
        document = in_this_process("lookup", pictures / "known.png", "--kit", base / "nl-7", *WHY, "--json").json()
        made.reference, made.lookup = document["hits"][0]["reference"], document["lookup"]
        ask = ("cases", "ask", made.reference, "--want", "victim-identity", "--deputy", "nl-8", "--file", made.text("who is she?"))
        made.refused_without_deputy = made.run("nl-7", *ask, status=1).err
        made.run("nl-8", "inbox")
        made.refused_without_officer = made.run("nl-7", *ask, status=1).err
        for officer in ("fr-1", "fr-2"):
            made.run(officer, "inbox")
        yield made
