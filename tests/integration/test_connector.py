"""A service that follows the unit's own database: what is there is found by others, and what was asked comes back to it."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support.patience import PATIENCE_S
from vidfed.synthetic.federation import LocalFederation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.conftest import Ran

KNOWN = "5d" * 16


@pytest.mark.exhaustive
def test_a_service_follows_the_unit_s_database_and_tells_it_who_asked(
    tmp_path: Path, vidfed: Callable[..., Ran], run: Callable[[Sequence[str | Path]], Ran]
) -> None:
    with closing(sqlite3.connect(tmp_path / "cases.db", isolation_level=None)) as cases:
        cases.execute("CREATE TABLE media (id INTEGER PRIMARY KEY, hash TEXT)")
        cases.execute("INSERT INTO media VALUES (17, ?)", (KNOWN,))
    with LocalFederation(tmp_path, run) as federation:
        federation.create({"nl": "Unit NL"})
        folder = federation.places["nl"].folder
        source = ["--kind", "sql", "--url", f"sqlite:///{tmp_path}/cases.db", "--table", "media", "--key", "id", "--column", "md5=hash"]
        run(["node", "source", "add", "cases", *source, "--home", folder])
        with (folder / "vidfed.toml").open("a") as config:
            config.write('\n[outbox]\npath = "out.jsonl"\nevery_s = 0.2\n')
        federation.issue_kit("nl", tmp_path / "kit")
        federation.start("nl")
        federation.start("nl", service="gateway")
        asked = ("lookup", "--hash", f"md5:{KNOWN}", "--kit", tmp_path / "kit", "--case", "1", "--purpose", "identification")
        deadline = time.monotonic() + PATIENCE_S
        while not (hits := vidfed(*asked, "--legal-basis", "law", "--json").json()["hits"]):
            assert time.monotonic() < deadline, "the service did not follow the source"
        out = folder / "out.jsonl"
        while not out.exists() or not (lines := out.read_text().splitlines()):
            assert time.monotonic() < deadline, "the unit's own system was not told"
    event = json.loads(lines[0])
    assert (event["event"], event["member"], event["records"][0]["key"]) == ("asked", "nl", "17")
    assert event["records"][0]["reference"] == hits[0]["reference"]
