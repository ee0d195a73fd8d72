"""A whole federation on this machine: real folders, real keys, real processes on free loopback ports. For the demo and the tests."""

from __future__ import annotations

import contextlib
import os
import random
import selectors
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

FEDERATION = "demo"
_START_S = 60.0  # a slow machine under load; a process that fails says so at once
_STOP_S = 20.0
_PORTS = (20_000, 32_768)  # below those that the system gives to outgoing connections, which could take one before its server does
_VIDFED = (sys.executable, "-m", "vidfed.cli")
_SERVE = {"node": ("node", "serve"), "gateway": ("gateway", "serve"), "unit": ("serve",)}


@dataclass(slots=True)
class Place:
    """Where one member is: its folder and addresses."""

    folder: Path
    node_address: str
    gateway_address: str


@dataclass(slots=True)
class LocalFederation:
    """Members below one folder. Use as a context manager: leaving it ends every process it started.

    Attributes:
        folder: everything is below it.
        run: runs one `vidfed` command line and raises unless its exit status is 0.
        environment: of the processes that are started from now on; that of this process if None.
    """

    folder: Path
    run: Callable[[Sequence[str]], object]
    places: dict[str, Place] = field(default_factory=dict)
    environment: Mapping[str, str] | None = None
    _processes: dict[tuple[str, str], subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            _end(process)

    @property
    def trust_folder(self) -> Path:
        """The administrators' folder."""
        return self.folder / "federation"

    @property
    def administrators(self) -> list[Path]:
        """The administrators' key files; on real machines each is on one of its own, not online."""
        return [self.folder / f"administrators/{name}.key" for name in ("anna", "ben", "cleo")]

    @property
    def signing(self) -> list[str]:
        """Options that sign a change with two keys and publish it at once."""
        return [*(part for path in self.administrators[:2] for part in ("--sign", str(path))), "--publish"]

    def create(self, members: dict[str, str], ports: Sequence[int] = ()) -> None:
        """Make the federation and its members, each answering all of them.

        Args:
            members: name for people by member id.
            ports: two for each member, node and gateway; free ones if empty.
        """
        self.run(["trust", "keygen", *map(str, self.administrators), "--no-passphrase"])
        public = [part for path in self.administrators for part in ("--key", f"{path}.pub")]
        self.run(["trust", "create", str(self.trust_folder), "--federation", FEDERATION, "--threshold", "2", *public, *self.signing])
        given = iter(ports or free_ports(2 * len(members)))
        for member in members:
            self.places[member] = Place(self.folder / member, f"127.0.0.1:{next(given)}", f"127.0.0.1:{next(given)}")
        for member, name in members.items():
            place = self.places[member]
            options = ["--member", member, "--name", name, "--contact", f"duty-desk@{member}.example"]
            options += ["--anchor", str(self.trust_folder / "anchor.json"), "--directory", str(self.trust_folder / "directory")]
            options += ["--endpoint", place.node_address, "--listen", place.node_address, "--gateway-listen", place.gateway_address]
            for asker in members:
                options += ["--answer", asker]
            self.run(["node", "init", str(place.folder), *options])
            self.add(member)

    def add(self, member: str) -> None:
        """Let two of three administrators make it a member, again if it was one."""
        request = str(self.places[member].folder / "member.json")
        self.run(["trust", "propose", "add-member", str(self.trust_folder), request, "--standing", "member", "--yes", *self.signing])

    def remove(self, member: str) -> None:
        """Let two of three administrators remove a member."""
        self.run(["trust", "propose", "remove-member", str(self.trust_folder), member, "--yes", *self.signing])

    def issue_kit(self, member: str, folder: Path, pseudonym: str = "", roles: Sequence[str] = ()) -> None:
        """Make a kit for a person of this member, by this pseudonym or one that is made up."""
        place = self.places[member]
        options = ["--home", str(place.folder), "--gateway", place.gateway_address, *(part for role in roles for part in ("--role", role))]
        options += ["--pseudonym", pseudonym] if pseudonym else []
        self.run(["trust", "issue-investigator", str(folder), *options, "--no-passphrase"])

    def accept_officers(self, member: str) -> None:
        """Publish a member's own entry, and let two of three administrators accept those whom it names as officers."""
        folder = str(self.trust_folder)
        self.run(["trust", "accept", folder, str(self.places[member].folder / "member.json")])
        self.run(["trust", "propose", "officers", folder, member, "--yes", *self.signing])

    def start(self, *members: str, service: str = "node") -> None:
        """Start these members' nodes (or gateways; "unit": both in one process) and wait until they answer.

        Raises:
            RuntimeError: one ended before it answered; the message holds what it said.
        """
        started = {}
        for member in members:
            log = self.places[member].folder / f"{service}.log"
            command = [*_VIDFED, *_SERVE[service], "--home", str(self.places[member].folder)]
            with log.open("ab") as errors:
                started[member] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=self.environment)  # noqa: S603 - our own command
            self._processes[member, service] = started[member]
        for member, process in started.items():
            if not _wait_for_line(process):
                log_text = (self.places[member].folder / f"{service}.log").read_text()
                raise RuntimeError(f"{service} of {member} did not start:\n{log_text}")

    def stop(self, member: str, service: str = "node") -> int:
        """End a process in an orderly way and return its exit status."""
        process = self._processes.pop((member, service))
        process.terminate()
        return _end(process)

    def kill(self, member: str, service: str = "node") -> None:
        """Kill a process without warning."""
        process = self._processes.pop((member, service))
        process.kill()
        _end(process)

    def runs(self, member: str, service: str = "node") -> bool:
        """Tell whether a process was started and neither stopped nor killed."""
        return (member, service) in self._processes

    def process_id(self, member: str, service: str = "node") -> int:
        """Return the id of a running process."""
        return self._processes[member, service].pid


def _end(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
    finally:
        if process.stdout is not None:
            process.stdout.close()


def _wait_for_line(process: subprocess.Popen[bytes]) -> bool:
    """Wait until a service says on stdout that it answers; False if it ended or took too long."""
    if process.stdout is None:
        return False
    deadline = time.monotonic() + _START_S
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if selector.select(left):
                return bool(os.read(process.stdout.fileno(), 4096))
    return False


def free_ports(count: int) -> list[int]:
    """Return ports that are free now. All are held until all are found, so that none comes twice."""
    with contextlib.ExitStack() as stack:
        return [port for _, port in zip(range(count), _held_ports(stack), strict=False)]


def _held_ports(stack: contextlib.ExitStack) -> Iterator[int]:
    while True:
        listener = stack.enter_context(socket.socket())
        with contextlib.suppress(OSError):  # somebody listens there: try another
            listener.bind(("127.0.0.1", random.randrange(*_PORTS)))  # noqa: S311 - any will do
            yield listener.getsockname()[1]
