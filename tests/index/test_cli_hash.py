"""`vidfed hash`: results on stdout, everything else on stderr, one line for each file that fails."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from PIL import Image

from vidfed.index.cli import JSON_SCHEMA, hash_command
from vidfed.synthetic.pictures import picture, write_pictures

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def run(*arguments: object) -> Result:
    return CliRunner().invoke(hash_command, [str(argument) for argument in arguments])


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    picture(1).save(path)
    return path


def test_a_picture_is_shown_with_every_hash_and_its_quality(photo: Path) -> None:
    result = run(photo)

    assert result.exit_code == 0
    assert result.stderr == ""
    heading, *lines = result.stdout.splitlines()
    assert heading == f"{photo}  (image/jpeg, 512 x 384 pixels, {photo.stat().st_size:,} bytes)"
    assert [line.split()[0] for line in lines[:6]] == ["MD5", "SHA-1", "SHA-256", "PDQ", "pHash", "dHash"]
    assert all(line.split()[0] == "PDQ" and line.endswith(")") for line in lines[6:]), "further views are named"
    assert lines[2].split()[1] == hashlib.sha256(photo.read_bytes()).hexdigest()
    assert lines[3].endswith("quality 100 of 100")


def test_a_picture_with_too_little_to_see_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "flat.png"
    Image.new("RGB", (100, 100), "blue").save(path)

    assert "quality 0 of 100: below 50, too little to see for PDQ to be reliable" in run(path).stdout


def test_each_failing_file_is_one_line_and_the_others_are_hashed(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")

    result = run(tmp_path / "missing.jpg", tmp_path / "notes.txt", photo)

    assert result.exit_code == 1
    assert f"{photo}  (image/jpeg" in result.stdout
    assert f"  MD5      {hashlib.md5(b'hello').hexdigest()}\n" in result.stdout
    assert "  note     no picture of a known format\n" in result.stdout
    assert result.stderr.splitlines() == [
        f"{tmp_path}/missing.jpg: no such file",
        "1 of 3 files have no perceptual hash: they can be found by exact copies only",
        "1 of 3 files could not be read",
    ]


def test_a_file_that_is_no_picture_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom")

    result = run("--json", tmp_path)

    (film,) = json.loads(result.stdout)["files"]
    assert result.exit_code == 0
    assert set(film["hashes"]) == {"md5", "sha1", "sha256"}
    assert (film["pdq_quality"], film["notes"]) == (
        None,
        [{"code": "damaged", "text": "damaged: no film could be read from it (moov atom not found)"}],
    )


def test_a_single_missing_file_is_one_line(tmp_path: Path) -> None:
    result = run(tmp_path / "missing.jpg")

    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"{tmp_path}/missing.jpg: no such file\n")


def test_json_is_one_object_of_the_documented_schema(photo: Path, tmp_path: Path) -> None:
    flat, missing = tmp_path / "flat.png", tmp_path / "missing.jpg"
    Image.new("L", (80, 60)).save(flat)

    result = run("--json", photo, missing, flat)

    answer = json.loads(result.stdout)
    assert result.exit_code == 1
    assert list(answer) == ["schema", "files", "failures"]
    assert answer["schema"] == JSON_SCHEMA
    assert answer["failures"] == [{"file": str(missing), "code": "unreadable", "reason": "no such file"}]
    assert [each["file"] for each in answer["files"]] == [str(photo), str(flat)]
    first = answer["files"][0]
    assert set(first) == set(
        "file media_type size_bytes width height frames duration_ms hashes pdq_quality method views notes".split()  # noqa: SIM905 - reads better
    )
    assert {name: len(code) for name, code in first["hashes"].items()} == {
        "md5": 32,
        "sha1": 40,
        "sha256": 64,
        "pdq": 64,
        "phash": 16,
        "dhash": 16,
    }
    assert first["hashes"]["md5"] == hashlib.md5(photo.read_bytes()).hexdigest()


def test_json_without_any_picture_is_still_one_object(tmp_path: Path) -> None:
    answer = json.loads(run("--json", tmp_path).stdout)

    assert answer == {
        "schema": JSON_SCHEMA,
        "files": [],
        "failures": [{"file": str(tmp_path), "code": "not-a-file", "reason": "an empty folder"}],
    }


def test_naming_no_file_is_wrong_usage() -> None:
    result = run()

    assert result.exit_code == 2
    assert "Missing argument" in result.stderr


def test_importing_the_command_loads_nothing_heavy() -> None:
    script = "import sys, vidfed.index.cli; print(*sorted({'numpy', 'PIL', 'rich', 'numba', 'scipy'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    output = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True).stdout

    assert output.strip() == ""


def run_in_a_terminal(*arguments: str) -> tuple[bytes, bytes]:
    """Run the command with stderr on a terminal; return what came on stdout and what the terminal got."""
    script = "import vidfed.index.cli as cli\nif __name__ == '__main__':\n cli._QUIET_S = 0\n cli.hash_command()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TERM": "xterm"}
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, stderr=theirs, env=environment) as process:
        os.close(theirs)
        assert process.stdout is not None
        output = process.stdout.read()
        seen = b""
        try:
            while chunk := os.read(ours, 65536):
                seen += chunk
        except OSError:
            pass  # how a terminal says that its last writer has gone
        os.close(ours)
    return output, seen


def test_a_terminal_sees_progress_and_the_results_stay_clean(tmp_path: Path) -> None:
    write_pictures(tmp_path, 4, seed=1, size=(64, 64))

    output, seen = run_in_a_terminal("--json", str(tmp_path))

    assert len(json.loads(output)["files"]) == 4
    assert b"hashing" in seen
    assert b"4/4" in seen


def test_a_single_picture_shows_no_progress(photo: Path) -> None:
    _, seen = run_in_a_terminal(str(photo))

    assert seen == b""
