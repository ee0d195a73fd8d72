"""What is handed out for running a member's services names commands, files and settings that there are."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from vidfed.cli.root import root

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))


def works(arguments: list[str]) -> bool:
    return CliRunner().invoke(root, [*arguments, "--help"]).exit_code == 0


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: str(path.name))
def test_a_unit_starts_a_command_that_there_is_and_confines_it(unit: Path) -> None:
    text = unit.read_text()
    (command,) = re.findall(r"^ExecStart=/opt/vidfed/bin/vidfed (.*)$", text, flags=re.MULTILINE)
    assert works([word for word in shlex.split(command) if not word.startswith(("-", "/"))])
    for line in ("User=vidfed", "UMask=0077", "ProtectSystem=strict", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "LimitCORE=0"):
        assert f"\n{line}\n" in text


def test_the_image_copies_what_there_is_and_runs_what_there_is() -> None:
    text = (ROOT / "deploy/Dockerfile").read_text()
    copied = [source for line in re.findall(r"^COPY ([^-].*)$", text, flags=re.MULTILINE) for source in line.split()[:-1]]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert all((ROOT / source).exists() for source in copied)
    assert set(copied) == allowed
    for name in ("CMD", "HEALTHCHECK"):
        (command,) = re.findall(rf"^{name}.*?(\[.*\])$", text, flags=re.MULTILINE)
        assert works([word for word in json.loads(command) if word != "vidfed"])
    assert re.search(r"^USER 10001:10001$", text, flags=re.MULTILINE)
