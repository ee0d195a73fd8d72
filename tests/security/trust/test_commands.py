"""The ceremony from the command line, for scripts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from vidfed.security.cli.trust import trust

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def run(*arguments: object, status: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(trust, [*map(str, arguments), "--json"])
    assert result.exit_code == status, result.output
    return json.loads(result.stdout) if result.stdout else {}


def test_every_step_of_a_ceremony_speaks_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = run("keygen", "anna.key", "ben.key", "--no-passphrase")["keys"]
    assert [entry["public"] for entry in made] == ["anna.key.pub", "ben.key.pub"]
    draft = run("create", "federation", "--federation", "europe", "--threshold", 2, "--key", "anna.key.pub", "--key", "ben.key.pub")
    assert not draft["complete"]
    assert run("sign", "federation/draft.json", "--key", "anna.key", "--yes")["signatures"][0]["missing"] == ["ben"]
    run("publish", "federation", status=1)
    assert run("sign", "federation/draft.json", "--key", "ben.key", "--yes")["complete"]
    assert run("diff", "federation/draft.json")["words"] == draft["words"]
    assert run("publish", "federation")["published"]
    assert run("propose", "renew", "federation", "--sign", "ben.key", "--yes")["signatures"][0]["signed"] == ["ben"]
    assert run("status", "federation")["draft"]["signatures"][0]["missing"] == ["anna"]
    published = run("show", "federation")
    assert (published["threshold"], published["members"]) == (2, [])
    assert run("verify", "federation/directory", "--anchor", "federation/anchor.json")["version"] == published["version"]
