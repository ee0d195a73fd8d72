"""What all tests share."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import pytest
from hypothesis import settings

from tests.support import postgresql
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


# How long an example takes depends on what else the machine does.
settings.register_profile("vidfed", deadline=None)
settings.load_profile("vidfed")

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every command a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Ran(NamedTuple):
    """How a command ended and what it said."""

    status: int
    out: str
    err: str

    def json(self) -> Any:  # noqa: ANN401 - a JSON document
        return json.loads(self.out)


def run_vidfed(*arguments: str | Path, cwd: Path | None = None) -> Ran:
    """Run a `vidfed` command line in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VIDFED_")}
    command = [sys.executable, "-m", "vidfed.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S, cwd=cwd, env=environment)
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def vidfed() -> Callable[..., Ran]:
    return run_vidfed


@pytest.fixture(scope="session")
def run() -> Callable[[Sequence[str | Path]], Ran]:
    """Run a `vidfed` command line that must succeed."""

    def succeed(arguments: Sequence[str | Path]) -> Ran:
        ran = run_vidfed(*arguments)
        assert ran.status == 0, ran.out + ran.err
        return ran

    return succeed


_databases = itertools.count()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    with postgresql.server() as url:
        yield url


@pytest.fixture
def postgresql_url(postgresql_server: str) -> str:
    """The URL of an empty database."""
    name = f"test{next(_databases)}"
    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return postgresql_server.rpartition("/")[0] + f"/{name}"
