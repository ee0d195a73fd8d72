"""How other tools hash: the page is what is measured, and what a list of theirs holds is found with the file."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pdqhash
import pytest
from PIL import Image

from tests.support.hashing import hashes_of
from tests.support.memory import MemoryFederation, MemoryNode
from vidfed.federation.lookup.items import item_of_file
from vidfed.federation.lookup.question import Item
from vidfed.index import Algorithm, Hash
from vidfed.node.intake.importer import import_files
from vidfed.node.intake.options import ImportOptions
from vidfed.v1.lookup_pb2 import LookupCall
from vidfed.wire.answers import read_answer
from vidfed.wire.envelope import to_message

if TYPE_CHECKING:
    from types import ModuleType

USUAL_BITS = 31
TRANSPARENT = "RGBA, transparent by degrees"


@pytest.fixture(scope="module")
def modes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("picture_modes", Path(__file__).parents[2] / "docs/picture_modes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current_and_every_hash_of_another_tool_is_near_one_of_ours(modes: ModuleType, tmp_path: Path) -> None:
    found = modes.measured(tmp_path)
    assert modes.PAGE.read_text() == modes.page(found), "run: python docs/picture_modes.py"
    missed = {(name, tool): each for name, apart in found.items() for tool, each in apart.items() if each and each[0] > USUAL_BITS}
    assert missed == {}


@pytest.mark.parametrize("tool", ["ThreatExchange", "force_rgb", "over black"])
def test_case_06_alpha_a_list_of_another_tool_is_found_with_the_file(modes: ModuleType, tool: str, tmp_path: Path) -> None:
    """From the list's file through the import, the store, the index and a signed answer to the picture that was asked about."""
    path = next(path for name, path in modes.pictures(tmp_path) if name == TRANSPARENT)
    with Image.open(path) as opened:
        bits, _ = pdqhash.compute(modes.TOOLS[tool](opened))
    theirs = np.packbits(bits.astype(np.uint8)).tobytes()
    (tmp_path / "theirs.txt").write_text(f"pdq:{theirs.hex()}\n")
    memory = MemoryFederation()
    memory.add("nl", "fr")
    item = item_of_file(hashes_of(path), any_quality=False)
    assert isinstance(item, Item)
    shown = item.codes[Algorithm.PDQ][0]
    assert (int.from_bytes(shown) ^ int.from_bytes(theirs)).bit_count() > USUAL_BITS, "what it shows alone would not be found"
    with MemoryNode(memory, "fr", tmp_path) as node:
        import_files(node.store, [tmp_path / "theirs.txt"], ImportOptions(), now_ms=memory.clock())
        asker = memory.investigator("nl")
        request = memory.request(asker, [Hash(Algorithm.PDQ, code) for code in item.codes[Algorithm.PDQ]], "fr")
        call = LookupCall(credential=to_message(asker.credential), request=to_message(memory.sign(request, asker)))
        assert len(read_answer(node.ask(call, "nl").payload).hits) >= 1
