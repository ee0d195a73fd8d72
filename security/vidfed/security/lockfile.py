"""Whether a service of this member runs now, and where: a locked file that a crash unlocks too."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

from vidfed.cli.system import lock_file
from vidfed.security.errors import HomeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def hold_lockfile(path: Path, address: str) -> Iterator[None]:
    """Keep `path` locked with the address in it, for as long as this process serves; a crash releases it too."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        lock_file(descriptor)
        os.truncate(descriptor, 0)
        os.write(descriptor, json.dumps({"address": address, "pid": os.getpid()}).encode())
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes and threads out that take the same lock, while the block runs; a crash releases it."""
    with path.open("wb") as lock:
        lock_file(lock.fileno())
        yield


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold `path` locked, so that only one process at a time does what it stands for; a crash releases it too.

    Raises:
        HomeError: another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            lock_file(descriptor, wait=False)
        except BlockingIOError:
            raise HomeError(f"{path} is held by another process") from None
        yield
    finally:
        os.close(descriptor)


def check_not_serving(path: Path, service: str) -> None:
    """Return if no process serves that holds `path`.

    Raises:
        HomeError: one does.
    """
    if (address := serving_address(path)) is not None:
        raise HomeError(f"a {service} of {path.parent.parent} runs already, on {address}: a folder has one; stop that one first")


def serving_address(path: Path) -> str | None:
    """Return the address of the process that serves now, or None."""
    try:
        with path.open("rb") as file:
            try:
                lock_file(file.fileno(), wait=False, shared=True)
            except BlockingIOError:
                return str(json.loads(file.read())["address"])
    except FileNotFoundError:
        pass
    return None
