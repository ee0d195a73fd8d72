"""Starting what must not share memory, keys or user with the node: the reading process, and the unit's own commands."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import selectors
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from vidfed.node.sources.errors import SourceReadError, SourceSettingsError
from vidfed.node.sources.remote.https import BusyServerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SILENCE_S = 900.0
"""Seconds without a line from a reading process, after which it is taken for stuck and ended."""
MOST_LINE_BYTES = 64 << 20
"""Of one line: 2,000 statements have about 2 MB."""
COMMAND_S = 60.0
"""Seconds one of the unit's own commands may take."""
_PIECE = 1 << 20
_PATH = "/usr/local/bin:/usr/bin:/bin"


def run_as_arguments(user: str) -> dict[str, Any]:
    """Return what `subprocess` needs to run something under another user; empty for the node's own.

    Raises:
        SourceSettingsError: there is no such user, or it is root.
    """
    if not user:
        return {}
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise SourceSettingsError(f"run_as: this machine has no user {user!r:.60}") from None
    if entry.pw_uid == 0:
        raise SourceSettingsError("run_as must not be root: the point is a user that can do little")
    if entry.pw_uid == os.geteuid():
        return {}
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def read_messages(task: Mapping[str, Any], *, run_as: str = "", silence_s: float = SILENCE_S) -> Iterator[dict[str, Any]]:
    """Run the reading process and yield what it says, up to and with its `end`.

    Args:
        task: see `worker`; may hold a password, which is why it goes by a pipe.
        run_as: user; empty: the node's own.
        silence_s: seconds without a word after which it is ended.

    Raises:
        SourceSettingsError, SourceReadError: it says so, or it ended without an end.
    """
    command = [sys.executable, "-I", "-m", "vidfed.node.sources.remote.worker"]
    # No PYTHON*, no proxy, no PG* or SSL_* of ours; a session of its own, so that Ctrl-C is for this process, which then ends it.
    environment = {"PATH": _PATH, "LANG": "C.UTF-8"}
    with _started(command, environment, run_as) as process:
        assert process.stdin is not None  # noqa: S101 - pipes, by `_started`
        assert process.stdout is not None  # noqa: S101 - the same
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(task).encode())
            process.stdin.close()
        for line in _lines(process.stdout.fileno(), silence_s):
            message = _message(line)
            if "error" in message:
                _raise(message)
            yield message
            if "end" in message:
                return
        process.wait()
        words = f"by signal {-process.returncode}" if process.returncode < 0 else f"with status {process.returncode}"
        raise SourceReadError(f"the reading process ended {words} before it was done; nothing was changed")


@contextlib.contextmanager
def _started(command: Sequence[str], environment: Mapping[str, str], run_as: str) -> Iterator[subprocess.Popen[bytes]]:
    try:
        process = subprocess.Popen(  # noqa: S603 - ourselves
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(environment),
            cwd="/",
            umask=0o077,
            start_new_session=True,
            **run_as_arguments(run_as),
        )
    except PermissionError:
        raise SourceSettingsError(
            f"run_as: this process may not become {run_as!r:.60}; give the service CAP_SETUID and CAP_SETGID, see docs/connect.md"
        ) from None
    with process:
        try:
            yield process
        finally:
            process.kill()


def _lines(descriptor: int, silence_s: float) -> Iterator[bytes]:
    """Yield the lines a pipe gives, the last one too if it is not ended."""
    parts: list[bytes] = []
    held = 0
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        end_s = time.monotonic() + silence_s
        while True:
            if not selector.select(max(0.0, end_s - time.monotonic())):
                raise SourceReadError(f"the source was silent for {silence_s:.0f} s; nothing was changed")
            piece = os.read(descriptor, _PIECE)
            if not piece:
                return
            end_s = time.monotonic() + silence_s
            *whole, rest = piece.split(b"\n")
            for line in whole:
                parts.append(line)
                yield b"".join(parts)
                parts, held = [], 0
            if rest:
                parts.append(rest)
                held += len(rest)
                if held > MOST_LINE_BYTES:
                    raise SourceReadError("the reading process sent a line without end")


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise SourceReadError("the reading process sent something that is no message; nothing was changed")
    return message


def _raise(message: Mapping[str, Any]) -> None:
    words = str(message["error"])
    words = "".join(c if c.isprintable() else " " for c in words)[:500]
    if message.get("kind") == "settings":
        raise SourceSettingsError(words)
    after = message.get("retry_after_s")
    if isinstance(after, int | float) and after > 0:
        raise BusyServerError(words, float(after))
    raise SourceReadError(words)


def run_command(command: Sequence[str], document: bytes, *, run_as: str = "", timeout_s: float = COMMAND_S) -> None:
    """Run one of the unit's own commands with `document` on its standard input.

    Raises:
        SourceReadError: it cannot be started, fails, or takes too long.
        SourceSettingsError: `run_as` makes no sense.
    """
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own, without a shell
            list(command),
            input=document,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={"PATH": _PATH, "LANG": "C.UTF-8"},
            cwd="/",
            umask=0o077,
            start_new_session=True,
            timeout=timeout_s,
            check=False,
            **run_as_arguments(run_as),
        )
    except subprocess.TimeoutExpired:
        raise SourceReadError(f"{command[0]}: not done after {timeout_s:.0f} s") from None
    except OSError as error:
        raise SourceReadError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        words = f": {said[-1][:200]}" if said else ""
        raise SourceReadError(f"{command[0]}: ended with status {done.returncode}{words}")
