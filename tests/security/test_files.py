"""Files are written whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidfed.security.errors import KeyFileError
from vidfed.security.files import new_text_file, read_private, write_private, write_whole


def test_a_file_is_written_with_its_mode_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write_whole(tmp_path / "sub/file", b"new", mode=0o640)
    assert (tmp_path / "sub/file").read_bytes() == b"new"
    assert (tmp_path / "sub/file").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_before_the_end_leaves_the_old_file_whole_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os if step == "fsync" else Path, step, fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_text_that_is_written_piece_by_piece_takes_the_place_of_the_old_one_only_when_all_is_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def interrupted() -> None:
        with new_text_file(path) as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    with new_text_file(path) as file:
        file.write("whole\r\n")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"whole\r\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_half_a_surrogate_pair_is_written_as_its_escape(tmp_path: Path) -> None:
    with new_text_file(tmp_path / "file") as file:
        file.write("\ud83d")
    assert (tmp_path / "file").read_bytes() == rb"\ud83d"


def test_a_crash_before_the_end_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    crash = f"""
import os, pathlib
from vidfed.security.files import write_whole
os.fsync = lambda _: os._exit(9)
write_whole(pathlib.Path({str(path)!r}), b"new")
"""
    assert subprocess.run([sys.executable, "-c", crash], check=False).returncode == 9
    assert path.read_bytes() == b"old"


def test_a_secret_is_never_readable_by_others_not_even_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    true_fchmod = os.fchmod

    def watch(descriptor: int, mode: int) -> None:
        seen.append(os.fstat(descriptor).st_mode & 0o077)
        true_fchmod(descriptor, mode)
        seen.append(os.fstat(descriptor).st_mode & 0o077)

    monkeypatch.setattr(os, "fchmod", watch)
    previous = os.umask(0)
    try:
        write_private(tmp_path / "secret", b"x")
    finally:
        os.umask(previous)
    assert seen == [0, 0]
    assert read_private(tmp_path / "secret") == b"x"


def test_a_folder_in_the_place_of_a_secret_is_a_key_file_error(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir(mode=0o700)
    with pytest.raises(KeyFileError, match="secret"):
        read_private(tmp_path / "secret")
