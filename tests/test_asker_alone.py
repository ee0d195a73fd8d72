"""An investigator's part alone: without the packages of a node, and without what only POSIX systems have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_S
from vidfed.cli.parts import NEEDED_BY, how_to_add
from vidfed.synthetic.pictures import write_pictures

ROOT = Path(__file__).parent.parent
TAKEN_AWAY = str(Path(__file__).parent / "support/taken_away")
SHARE = ("tests/federation/output/test_table.py", "tests/federation/lookup/test_evidence.py")
ALL = (
    *("tests/federation/bulk", "tests/federation/output", "tests/federation/lookup", "tests/security/test_enrolment.py"),
    *("tests/index/test_hashing.py", "tests/index/test_variants.py", "tests/test_cli.py"),
)
# Tests of what these systems do not have, or that stand on a federation in memory, which has nodes.
NOT_HERE = ("tests/federation/lookup/test_verification_attacks.py",)


def without_posix_and_node(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VIDFED_", "PYTEST_", "COVERAGE"))}
    environment["PYTHONPATH"] = TAKEN_AWAY
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=ROOT, env=environment, timeout=600
    )


def run_tests(paths: tuple[str, ...]) -> None:
    ignored = [f"--ignore={path}" for path in NOT_HERE]
    ran = without_posix_and_node("-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", *ignored, *paths)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]


def test_a_share_of_the_clients_tests_passes_without_posix_modules_and_without_a_nodes_packages() -> None:
    run_tests(SHARE)


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
def test_the_clients_tests_pass_without_posix_modules_and_without_a_nodes_packages() -> None:
    run_tests(ALL)


def test_pictures_are_hashed_alike_without_posix_modules(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 6, seed=3)
    (tmp_path / "pictures/odd.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    command = ("-m", "vidfed.cli", "hash", tmp_path / "pictures", "--json")
    here = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    alone = without_posix_and_node(*command)

    assert alone.returncode == here.returncode, alone.stderr
    assert json.loads(alone.stdout) == json.loads(here.stdout)


def test_a_command_of_the_node_says_which_part_is_missing_and_where_it_comes_from() -> None:
    ran = without_posix_and_node("-m", "vidfed.cli", "node", "import", "--help")
    if ran.returncode == 0:  # its help needs nothing; running it does
        ran = without_posix_and_node("-m", "vidfed.cli", "demo")
    assert ran.returncode == 1
    assert "the part of vidfed that runs nodes and gateways is not installed here" in ran.stderr
    assert ".whl[node]" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_no_error_sends_anybody_to_an_index_that_may_hold_something_else_by_our_name() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in set(NEEDED_BY.values()):
        assert extra in extras
        assert "pip install './vidfed-" in how_to_add(extra)
    sources = (path for folder in ("security", "node", "federation", "index") for path in (ROOT / folder).rglob("*.py"))
    texts = [*ROOT.glob("docs/**/*.md"), ROOT / "README.md", *sources]
    for path in texts:
        assert "pip install 'vidfed" not in path.read_text(), path
        assert "pip install vidfed" not in path.read_text(), path
