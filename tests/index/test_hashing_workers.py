"""Many files in worker processes: all of them, in order, whatever happens to a worker; and what a worker may not do."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.hashing import hash_here
from tests.support.patience import PATIENCE_S
from vidfed.index import Algorithm, HashingError
from vidfed.index.find import count_files, find_files
from vidfed.index.hashing import jobs, plain_workers, workers
from vidfed.index.hashing.results import FileFailure, FileHashes, Reason
from vidfed.index.hashing.workers import FEW_FILES, hash_files, standing_walls
from vidfed.synthetic.pictures import write_pictures

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 36


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, MANY, seed=1, size=(96, 64))
    return folder


def test_many_files_are_hashed_in_order_with_failures_in_their_place(folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "broken.jpg"
    text.write_bytes(b"hello")
    paths = [*find_files([folder]), text, tmp_path / "missing.jpg"]
    counts: list[int] = []

    results = list(hash_files(reversed(paths), orientations=True, processes=2, on_progress=counts.append))

    assert [result.path for result in results] == paths[::-1]
    assert [type(result) for result in results] == [FileFailure] + [FileHashes] * (MANY + 1)
    assert results[1:] == [hash_here(path, orientations=True) for path in paths[-2::-1]]
    assert counts == list(range(1, len(paths) + 1))


def test_few_files_have_the_hashes_that_many_have(folder: Path) -> None:
    paths = list(islice(find_files([folder]), 3))

    assert list(hash_files(paths)) == list(islice(hash_files(find_files([folder])), 3))


def test_no_files_start_no_process_and_give_no_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)

    assert list(hash_files([])) == []


def test_files_are_counted_without_being_read(folder: Path) -> None:
    assert count_files([folder]) == MANY


def test_files_are_taken_from_the_iterable_only_as_they_are_needed(folder: Path) -> None:
    path = next(iter(find_files([folder])))
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield path

    results = hash_files(endless(), processes=2)
    assert isinstance(next(results), FileHashes)
    results.close()

    assert taken < 100


def working_like(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Let workers do something else when they come to a picture: `script` defines `hash_picture_bytes(file, hasher, options)`."""
    module = f"odd_worker_{abs(hash(script))}"
    modules = tmp_path / "modules"
    modules.mkdir()
    begin = "import os, signal, socket, subprocess, time\nfrom vidfed.index.hashing import one_file, worker\n"
    begin += "plain = one_file.hash_picture_bytes\n"
    end = "\none_file.hash_picture_bytes = hash_picture_bytes\n"
    (modules / f"{module}.py").write_text(begin + textwrap.dedent(script) + end)
    monkeypatch.syspath_prepend(str(modules))
    monkeypatch.setattr(workers, "_START", f"import {module}; {module}.worker.main()")


DYING = """
def hash_picture_bytes(file, hasher, options):
    if file.size_bytes % 1000 == 777:
        os.kill(os.getpid(), signal.{name})
    return plain(file, hasher, options)
"""


def fatal(path: Path) -> Path:
    """Make a file that a dying worker dies of, still the same picture."""
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes((777 - size) % 1000))
    return path


@pytest.mark.parametrize(
    ("name", "reason", "said"),
    [
        ("SIGKILL", Reason.DECODER_DIED, "decoding it got the process killed, perhaps for lack of memory"),
        ("SIGSEGV", Reason.DECODER_DIED, "its decoder crashed (SIGSEGV)"),
        ("SIGXCPU", Reason.OUT_OF_TIME, "decoding it takes too long: it was given up"),
    ],
)
def test_a_file_that_gets_its_worker_killed_is_named_has_its_digests_and_the_others_are_hashed(
    name: str, reason: Reason, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_pictures(tmp_path / "pictures", 12, seed=2, size=(64, 64))
    bad = {fatal(paths[3]), fatal(paths[9])}
    working_like(monkeypatch, tmp_path, DYING.format(name=name))

    results = list(hash_files(paths, processes=2))

    assert [result.path for result in results] == paths
    for result in results:
        assert isinstance(result, FileHashes)
        assert result.code(Algorithm.MD5) == hashlib.md5(result.path.read_bytes()).digest()
        assert (result.exact_only is not None) == (result.path in bad)
        if result.exact_only is not None:
            assert (result.exact_only.reason, result.exact_only.text) == (reason, said)


@pytest.mark.parametrize(
    "answer",
    [
        'b"{}"',
        'b"[]"',
        'b"no json"',
        "b'\\x00' * 3",
        "b'[' * 100_000",
        """b'{"shown": {"codes": [["pdq", "00", "whole", 1, []]]}}'""",
        """b'{"shown": {"codes": [], "notes": []}}'""",
        """b'{"unreadable": 3}'""",
    ],
)
def test_a_worker_that_answers_nonsense_costs_its_file_the_codes_and_nothing_else(
    answer: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"""
def hash_picture_bytes(file, hasher, options):
    message = {answer}
    for name in range(3, 20):
        try:
            socket.socket(fileno=os.dup(name)).sendall(len(message).to_bytes(4) + message)
        except OSError:
            pass
    time.sleep(20)
"""
    working_like(monkeypatch, tmp_path, script)

    (result,) = hash_files(islice(find_files([folder]), 1))

    assert isinstance(result, FileHashes)
    assert result.code(Algorithm.MD5) == hashlib.md5(result.path.read_bytes()).digest()
    assert (result.codes, result.notes[0].reason) == ((), Reason.DECODER_DIED)


def test_a_worker_that_takes_for_ever_is_given_up(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    working_like(monkeypatch, tmp_path, "def hash_picture_bytes(file, hasher, options): time.sleep(300)")
    monkeypatch.setattr(workers, "MAX_SHOWN_S", 0.2)

    (result,) = hash_files(islice(find_files([folder]), 1))

    assert isinstance(result, FileHashes)
    assert result.notes[0].reason is Reason.OUT_OF_TIME


def test_a_worker_that_cannot_start_is_an_error_with_its_last_words(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_START", "import no_such_module")

    with pytest.raises(HashingError, match="No module named 'no_such_module'"):
        list(hash_files(islice(find_files([folder]), 1)))


TRYING = """
from vidfed.index.hashing.results import Note, Reason
def hash_picture_bytes(file, hasher, options):
    done = []
    def attempt(name, action):
        try:
            action()
        except BaseException:
            return
        done.append(name)
    attempt("opens a file of the user's", lambda: open({secret!r}).read())
    attempt("writes a file", lambda: open({written!r}, "w").write("x"))
    attempt("connects", lambda: socket.create_connection(("127.0.0.1", {port})))
    attempt("makes a socket", lambda: socket.socket(socket.AF_UNIX))
    attempt("starts a program", lambda: subprocess.run(["/bin/true"], check=True))
    attempt("takes much memory", lambda: bytearray(6 << 30))
    attempt("opens many files", lambda: [os.open("/usr/lib", os.O_RDONLY) for _ in range(200)])
    attempt("signals its parent", lambda: os.kill(os.getppid(), 0))
    if "SECRET" in str(dict(os.environ)):
        done.append("knows the environment")
    return one_file.Shown(notes=(Note(Reason.DAMAGED, ", ".join(done) or "nothing"),))
"""


def test_a_worker_that_was_taken_over_can_do_none_of_this(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if set(standing_walls()) < {"limits", "landlock", "seccomp"}:
        pytest.skip("this kernel does not let a process wall itself in")
    secret = tmp_path / "key.pem"
    secret.write_text("private")
    monkeypatch.setenv("VIDFED_PASSPHRASE", "SECRET")
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = TRYING.format(secret=str(secret), written=str(tmp_path / "written"), port=server.getsockname()[1])
        working_like(monkeypatch, tmp_path, script)

        (result,) = hash_files(islice(find_files([folder]), 1))

    assert isinstance(result, FileHashes)
    assert result.notes[0].text == "nothing"


def test_the_walls_of_a_worker_are_told_by_name() -> None:
    walls = standing_walls()

    assert "limits" in walls
    assert set(walls) <= {"limits", "namespace", "landlock", "seccomp"}


def run_script(tmp_path: Path, script: str, *arguments: str) -> subprocess.Popen[str]:
    file = tmp_path / "script.py"
    file.write_text(textwrap.dedent(script))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # Its own session: Ctrl-C is sent to the whole group, as a terminal does, and must not reach the tests.
    return subprocess.Popen(
        [sys.executable, str(file), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


INTERRUPTED = """
    import sys
    from itertools import repeat
    from pathlib import Path
    from vidfed.index.hashing.workers import hash_files

    if __name__ == "__main__":
        try:
            for result in hash_files(repeat(Path(sys.argv[1])), processes=2):
                print("hashed", flush=True)
        except KeyboardInterrupt:
            sys.exit(130)
"""


def test_ctrl_c_ends_at_once_without_a_word_from_the_workers(folder: Path, tmp_path: Path) -> None:
    path = next(iter(find_files([folder])))
    process = run_script(tmp_path, INTERRUPTED, str(path))
    assert process.stdout is not None
    assert process.stdout.readline() == "hashed\n"

    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130
    assert errors == ""  # read to the end, which comes when the last process that holds it has gone


INTERRUPTED_AT_START = """
    import sys
    from itertools import repeat
    from pathlib import Path
    from vidfed.index.hashing.workers import hash_files

    def announced(path):
        for each in repeat(path):
            print("taken", flush=True)
            yield each

    if __name__ == "__main__":
        try:
            list(hash_files(announced(Path(sys.argv[1])), processes=2))
        except KeyboardInterrupt:
            sys.exit(130)
"""


def test_ctrl_c_while_the_workers_start_is_silent_as_well(folder: Path, tmp_path: Path) -> None:
    path = next(iter(find_files([folder])))
    process = run_script(tmp_path, INTERRUPTED_AT_START, str(path))
    assert process.stdout is not None
    for _ in range(2 * FEW_FILES + 3):  # the first ones are only counted; the next are handed to workers that have just been started
        process.stdout.readline()

    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130
    assert errors == ""


ORPHANING = """
    import os, sys
    from itertools import repeat
    from pathlib import Path
    from vidfed.index.hashing.workers import hash_files

    for result in hash_files(repeat(Path(sys.argv[1])), processes=2):
        print(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text(), flush=True)
        input()
"""


def test_no_worker_outlives_a_command_that_is_killed(folder: Path, tmp_path: Path) -> None:
    process = run_script(tmp_path, ORPHANING, str(next(iter(find_files([folder])))))
    assert process.stdout is not None
    children = [os.pidfd_open(int(child)) for child in process.stdout.readline().split()]
    assert len(children) == 2

    process.kill()
    process.communicate()

    for child in children:
        assert select.select([child], [], [], 20)[0], "it has ended"
        os.close(child)


# The workers of Windows, which run on every system.


def test_plain_workers_give_the_same_hashes_in_order(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nothing").write_bytes(b"")
    paths = [*list(find_files([folder]))[:6], tmp_path / "nothing", tmp_path / "absent"]
    expected = list(hash_files(paths))
    monkeypatch.setattr(workers, "POSIX", False)

    assert list(hash_files(paths, processes=2)) == expected
    assert standing_walls() == ("process",)


@pytest.mark.parametrize(
    ("fate", "reason"),
    [
        ("os._exit(3)", Reason.DECODER_DIED),
        ("time.sleep(600)", Reason.OUT_OF_TIME),
        ("sys.stdout.buffer.write(b'x' * 99)", Reason.DECODER_DIED),
    ],
)
def test_a_file_that_plain_workers_die_of_has_its_digests_and_a_note(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fate: str, reason: Reason
) -> None:
    """Dies, hangs, or writes nonsense where its answers go."""
    good, other = list(find_files([folder]))[:2]
    bad = fatal(Path(shutil.copy(other, tmp_path)))
    script = f"""\
import os, sys, time
from vidfed.index.hashing import one_file, plain_workers
plain = one_file.hash_picture_bytes
def odd(file, hasher, options):
    if file.size_bytes % 1000 == 777:
        {fate}
    return plain(file, hasher, options)
one_file.hash_picture_bytes = odd
plain_workers.main()
"""
    monkeypatch.setattr(plain_workers, "_START", script)
    monkeypatch.setattr(workers, "POSIX", False)
    monkeypatch.setattr(jobs, "MAX_SHOWN_S", 3.0)
    results = list(hash_files([good, bad, good], processes=1))

    assert isinstance(results[0], FileHashes)
    assert results[0] == results[2]
    assert isinstance(results[1], FileHashes)
    assert [note.reason for note in results[1].notes] == [reason]
    assert len(results[1].digests) == 3
