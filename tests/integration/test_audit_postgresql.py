"""A member whose records and log lie on a PostgreSQL server: the same commands, the same proofs, no log in the folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vidfed.synthetic.federation import LocalFederation
from vidfed.synthetic.pictures import picture

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.conftest import Ran


@pytest.mark.exhaustive
def test_lookup_receipt_and_log_on_postgresql(run: Callable[[Sequence[str | Path]], Ran], tmp_path: Path, postgresql_url: str) -> None:
    picture(1).save(tmp_path / "known.png")
    with LocalFederation(tmp_path, run) as federation:
        federation.create({"nl": "NL"})
        config = tmp_path / "nl/vidfed.toml"
        config.write_text(config.read_text().replace('url = ""', f'url = "{postgresql_url}"'))
        run(["node", "adopt-store", "--make", "--reason", "moved to PostgreSQL", "--home", tmp_path / "nl"])
        run(["node", "ingest", tmp_path / "known.png", "--home", tmp_path / "nl"])
        federation.issue_kit("nl", tmp_path / "kit")
        federation.start("nl")
        federation.start("nl", service="gateway")
        why = ("--case", "C-1", "--purpose", "identification", "--legal-basis", "test law")
        run(["lookup", tmp_path / "known.png", "--kit", tmp_path / "kit", *why])
        assert "says the same" in run(["audit", "check-receipt", "--kit", tmp_path / "kit"]).out
    run(["audit", "appoint", tmp_path / "dpo", "--name", "DPO", "--home", tmp_path / "nl"])
    export = tmp_path / "nl.export"
    run(["audit", "export", export, "--as", tmp_path / "dpo", "--home", tmp_path / "nl"])
    run(["audit", "verify", export])
    assert "The log holds in itself, but NOBODY ELSE VOUCHES" in run(["audit", "verify", "--home", tmp_path / "nl"]).out
    assert not (tmp_path / "nl/state/audit.db").exists()
    assert (tmp_path / "nl/state/audit.checkpoint").exists()
