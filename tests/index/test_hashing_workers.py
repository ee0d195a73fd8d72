"""Many picture files in several processes: all of them, in order, whatever happens to a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from vidfed.index.hashing import pictures
from vidfed.index.hashing.pictures import (
    FEW_PICTURES,
    HashingResult,
    PictureFailure,
    PictureHashes,
    find_pictures,
    hash_picture,
    hash_pictures,
)
from vidfed.synthetic.pictures import write_pictures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANY = FEW_PICTURES + 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, MANY, seed=1, size=(96, 64))
    return folder


def test_many_files_are_hashed_in_order_with_failures_in_their_place(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"hello")
    paths = [*find_pictures([folder]), broken, tmp_path / "missing.jpg"]
    counts: list[int] = []

    results = list(hash_pictures(reversed(paths), orientations=True, processes=2, on_progress=counts.append))

    assert [result.path for result in results] == paths[::-1]
    assert [type(result) for result in results] == [PictureFailure] * 2 + [PictureHashes] * MANY
    assert results[-1] == hash_picture(paths[0], orientations=True)
    assert counts == list(range(1, len(paths) + 1))


def test_few_files_are_hashed_without_starting_a_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "ProcessPoolExecutor", None)

    results = list(hash_pictures(islice(find_pictures([folder]), FEW_PICTURES), processes=2))

    assert len(results) == FEW_PICTURES


def test_a_few_large_files_are_worth_processes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def in_workers(paths: Iterator[Path], *, processes: int, **_options: bool) -> Iterator[HashingResult]:
        started.append(processes)
        yield from (hash_picture(path) for path in paths)

    monkeypatch.setattr(pictures, "_hash_in_workers", in_workers)
    monkeypatch.setattr(pictures, "FEW_BYTES", 10)

    list(hash_pictures(islice(find_pictures([folder]), 3), processes=2))
    list(hash_pictures(islice(find_pictures([folder]), 1), processes=2))

    assert started == [2]


def test_no_files_give_no_results() -> None:
    assert list(hash_pictures([])) == []


def test_files_are_taken_from_the_iterable_only_as_they_are_needed(folder: Path) -> None:
    path = next(iter(find_pictures([folder])))
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield path

    results = hash_pictures(endless(), processes=2)
    assert isinstance(next(results), PictureHashes)
    results.close()

    assert taken < 100


# Spawned workers import the module afresh, so a patch has to travel with the file that starts them.
KILLING_WORKER = """
    import os, signal, sys
    from pathlib import Path
    from vidfed.index.hashing import pictures

    def hash_or_die(path, **options):
        if path.name.startswith("fatal"):
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(path, **options)

    plain, pictures._hash = pictures._hash, hash_or_die

    if __name__ == "__main__":
        for result in pictures.hash_pictures(pictures.find_pictures([Path(sys.argv[1])]), processes=2):
            print(getattr(result, "reason", "hashed"), result.path.name, sep=": ")
"""


def run_script(tmp_path: Path, script: str, *arguments: str) -> subprocess.Popen[str]:
    file = tmp_path / "script.py"
    file.write_text(textwrap.dedent(script))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # Its own session: Ctrl-C is sent to the whole group, as a terminal does, and must not reach the tests.
    return subprocess.Popen(
        [sys.executable, str(file), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def test_a_file_that_gets_its_worker_killed_is_named_and_the_others_are_hashed(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    paths = write_pictures(pictures, MANY, seed=2, size=(64, 64))
    fatal = [paths[3].rename(pictures / "fatal-1.jpg"), paths[30].rename(pictures / "fatal-2.jpg")]

    output, errors = run_script(tmp_path, KILLING_WORKER, str(pictures)).communicate(timeout=100)

    lines = output.splitlines()
    assert [line for line in lines if not line.startswith("hashed")] == [
        f"hashing it got the process killed, perhaps for lack of memory: {path.name}" for path in fatal
    ]
    assert len(lines) == MANY
    assert errors == ""


INTERRUPTED = """
    import sys
    from itertools import repeat
    from pathlib import Path
    from vidfed.index.hashing.pictures import hash_pictures

    if __name__ == "__main__":
        try:
            for result in hash_pictures(repeat(Path(sys.argv[1])), processes=2):
                print("hashed", flush=True)
        except KeyboardInterrupt:
            sys.exit(130)
"""


def test_ctrl_c_ends_at_once_without_a_word_from_the_workers(folder: Path, tmp_path: Path) -> None:
    path = next(iter(find_pictures([folder])))
    process = run_script(tmp_path, INTERRUPTED, str(path))
    assert process.stdout is not None
    assert process.stdout.readline() == "hashed\n"

    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)

    assert process.returncode == 130
    assert errors == ""  # read to the end, which comes when the last process that holds it has gone


INTERRUPTED_AT_START = """
    import sys
    from itertools import repeat
    from pathlib import Path
    from vidfed.index.hashing.pictures import hash_pictures

    def announced(path):
        for each in repeat(path):
            print("taken", flush=True)
            yield each

    if __name__ == "__main__":
        try:
            list(hash_pictures(announced(Path(sys.argv[1])), processes=2))
        except KeyboardInterrupt:
            sys.exit(130)
"""


def test_ctrl_c_while_the_workers_start_is_silent_as_well(folder: Path, tmp_path: Path) -> None:
    path = next(iter(find_pictures([folder])))
    process = run_script(tmp_path, INTERRUPTED_AT_START, str(path))
    assert process.stdout is not None
    for _ in range(FEW_PICTURES + 3):  # the first ones are only counted; the next are handed to workers that have just been started
        process.stdout.readline()

    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)

    assert process.returncode == 130
    assert errors == ""
