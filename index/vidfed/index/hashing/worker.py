"""The process that decodes: takes open files from its parent, one after the other, and answers with their hashes.

It is handed descriptors, not paths, so it needs no file of its own; it starts with an empty environment and is no copy of the process that
started it, so it holds no key. What it answers is JSON, of which its parent believes only what it must: a process that a file has taken
over can lie about that file's hashes, and nothing else.

Each message is preceded by its length, four bytes. For each file two answers follow, so that digests are not lost with a decoder that
dies: {"digests": {...}, "size": N} or {"unreadable": [reason, text]}, which is the only one; then {"shown": {...}}.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.index.hashing.digests import FileBytes
    from vidfed.index.hashing.one_file import Options, Shown

LENGTH_BYTES: Final = 4


def main() -> None:
    """Serve until the parent has no more files; `workers` starts this, with a socket's descriptor, the parent's id and options as JSON."""
    from vidfed.index.hashing import sandbox  # noqa: PLC0415 - Linux

    descriptor, parent, arguments = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
    sandbox.die_with_parent(parent)
    # Before anything is imported that starts threads.
    walls = ["namespace"] if sandbox.leave_network() else []
    connection = socket.socket(fileno=descriptor)

    from vidfed.index.hashing.decode import prepare  # noqa: PLC0415 - see above
    from vidfed.index.hashing.one_file import hash_picture_bytes  # noqa: PLC0415
    from vidfed.index.hashing.perceptual import Hasher  # noqa: PLC0415

    prepare()
    options = read_options(arguments)
    hasher = Hasher(orientations=options.orientations, full_size=options.full_size)
    quiet = os.open(os.devnull, os.O_WRONLY)
    walls += sandbox.seal()
    os.dup2(quiet, 2)  # decoders complain there about every odd file
    _send(connection, {"ready": walls})

    def show(content: FileBytes) -> Shown:
        sandbox.allow_cpu(sandbox.FILE_CPU_S)
        try:
            return hash_picture_bytes(content, hasher, options)
        finally:
            sandbox.allow_cpu(sandbox.READING_CPU_S)

    while (file := _receive_file(connection)) is not None:
        try:
            answer(lambda message: _send(connection, message), file, show)
        finally:
            os.close(file)


def read_options(arguments: dict[str, Any]) -> Options:
    """Return the options that a parent passed on."""
    from vidfed.index.hashing.one_file import Options  # noqa: PLC0415

    return Options(orientations=arguments["orientations"], full_size=arguments["full_size"])


def answer(send: Callable[[dict[str, Any]], None], file: int, show: Callable[[FileBytes], Shown]) -> None:
    """Hash an open file and send what is to be said of it, in one message or two."""
    from vidfed.index.hashing.digests import UnreadableError, read_once  # noqa: PLC0415
    from vidfed.index.hashing.one_file import may_be_picture  # noqa: PLC0415

    try:
        content = read_once(file, may_be_picture)
    except UnreadableError as error:
        send({"unreadable": [error.note.reason.value, error.note.text]})
        return
    send({"digests": {each.algorithm.value: each.code.hex() for each in content.digests}, "size": content.size_bytes})
    shown = show(content)
    fields: dict[str, Any] = {name: getattr(shown, name) for name in ("media_type", "width", "height", "frames", "method")}
    fields["codes"] = [
        [code.algorithm.value, code.code.hex(), code.kind, code.quality, [each.hex() for each in code.orientations]] for code in shown.codes
    ]
    fields["notes"] = [[note.reason.value, note.text] for note in shown.notes]
    send({"shown": fields})


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    content = json.dumps(message).encode()
    connection.sendall(len(content).to_bytes(LENGTH_BYTES) + content)


def _receive_file(connection: socket.socket) -> int | None:
    """Take the next file's descriptor; None when the parent has no more or is gone."""
    marker, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
    return descriptors[0] if marker and descriptors else None
