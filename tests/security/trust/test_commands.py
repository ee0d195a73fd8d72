"""The ceremony from the command line, for scripts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from vidfed.security.cli.trust import trust
from vidfed.security.clock import DAY_MS, HOUR_MS
from vidfed.security.crypto.passphrase import close

if TYPE_CHECKING:
    from pathlib import Path

    from tests.security.trust.world import World


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


def said(*arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(trust, [*map(str, arguments)])
    assert result.exit_code == status, result.output
    return result.output


def test_sign_says_who_signed_and_who_must_still_and_takes_a_passphrase_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, cheap in {"ops": 1, "memory_bytes": 8192}.items():  # the price of a guess is not what is tested here
        assert close.__kwdefaults__
        monkeypatch.setitem(close.__kwdefaults__, name, cheap)
    holders = ("anna", "ben", "cleo")
    for name in holders:
        phrase = tmp_path / f"{name}.phrase"
        phrase.write_text(f"{name} chose this")
        phrase.chmod(0o600)
        said("keygen", f"{name}.key", "--passphrase-file", phrase)
    keys = [option for name in holders for option in ("--key", f"{name}.key.pub")]
    begun = said("create", "federation", "--federation", "europe", "--threshold", 2, *keys)
    assert "0 of 2; 2 of anna, ben or cleo must still sign." in begun
    once = said("sign", "federation/draft.json", "--key", "anna.key", "--passphrase-file", "anna.phrase", "--yes")
    assert "Signed as anna. 1 of 2; ben or cleo must still sign.\nCarry federation/draft.json on" in once
    both = said(
        *("sign", "federation/draft.json", "--yes", "--key", "ben.key", "--key", "cleo.key"),
        *("--passphrase-file", "ben.phrase", "--passphrase-file", "cleo.phrase"),
    )
    assert "Signed as ben and cleo. Enough have signed. Carry federation/draft.json back" in both
    three = ("--passphrase-file", "anna.phrase") * 3
    assert "3 passphrase files for 2 keys" in said(
        "sign", "federation/draft.json", "--key", "ben.key", "--key", "cleo.key", *three, status=2
    )


@pytest.mark.parametrize(
    ("later_ms", "status", "mend"),
    [(HOUR_MS, 0, ""), (13 * HOUR_MS, 0, "MEND timestamp"), (26 * HOUR_MS, 1, "MEND timestamp"), (201 * DAY_MS, 1, "MEND members")],
)
def test_status_ends_with_1_when_something_has_expired_and_says_what_mends_it(
    world: World, monkeypatch: pytest.MonkeyPatch, later_ms: int, status: int, mend: str
) -> None:
    monkeypatch.setattr("vidfed.security.clock.system_clock", lambda: world.clock() + later_ms)
    text = said("status", world.folder.folder, status=status)
    assert ("MEND" in text) == bool(mend)
    assert mend in text
    for part, command in (("timestamp", "vidfed trust serve"), ("members", "vidfed trust propose renew")):
        assert f"MEND {part}: {command} {world.folder.folder}" in text or f"MEND {part}" not in text
    assert bool(run("status", world.folder.folder, status=status)["remedies"]) == bool(mend)
