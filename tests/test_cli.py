"""The command line as a newcomer meets it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from vidfed.cli import version
from vidfed.cli.root import root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Ran

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("numpy", "faiss", "grpc", "PIL", "sqlalchemy", "numba", "rich", "nacl", "cryptography", "tuf")


def every_command() -> Iterator[tuple[str, ...]]:
    context = click.Context(root)
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        yield (name,)
        yield from commands_below(context, (name,), command)


def commands_below(context: click.Context, names: tuple[str, ...], command: click.Command | None) -> Iterator[tuple[str, ...]]:
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            yield (*names, below)
            yield from commands_below(context, (*names, below), command.get_command(context, below))


@pytest.mark.parametrize("names", list(every_command()), ids=" ".join)
def test_every_command_explains_itself(names: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        root.main([*names, "--help"], prog_name="vidfed")
    assert ended.value.code == 0
    assert f"Usage: vidfed {' '.join(names)}" in capsys.readouterr().out


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from vidfed.cli.root import root; root.main(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "click" in loaded
    assert not loaded & set(HEAVY)


def test_an_unknown_command_is_wrong_usage(vidfed: Callable[..., Ran]) -> None:
    ran = vidfed("lokup")
    assert ran.status == 2
    assert "No such command" in ran.err


def test_the_version_is_told_with_the_commit_of_the_checkout(vidfed: Callable[..., Ran]) -> None:
    number = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout[:12]
    told = vidfed("--version").out
    assert told.startswith(f"vidfed {number}")
    assert (f"commit {commit}" in told) if commit else ("commit" not in told)


def test_what_was_built_tells_the_commit_that_was_written_into_it_and_does_not_ask_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / version.COMMIT_FILE).write_text("0123456789ab\n")
    monkeypatch.setattr(version, "files", lambda _package: tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_options: pytest.fail("git was asked"))
    assert version.describe_version().endswith(" (commit 0123456789ab)")


def test_without_git_and_without_a_file_the_number_alone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "files", lambda _package: tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "commit" not in version.describe_version()


def test_a_folder_without_a_member_says_how_to_make_one(vidfed: Callable[..., Ran], tmp_path: object) -> None:
    ran = vidfed("node", "serve", "--home", str(tmp_path))
    assert ran.status == 1
    assert "`vidfed node init` makes a member's folder" in ran.err


def test_a_missing_kit_says_where_kits_come_from(vidfed: Callable[..., Ran], tmp_path: object) -> None:
    why = ("--case", "1", "--purpose", "identification", "--legal-basis", "law")
    ran = vidfed("lookup", "--hash", "md5:" + "0" * 32, "--kit", f"{tmp_path}/none", *why)
    assert ran.status == 1
    assert "vidfed trust issue-investigator" in ran.err
