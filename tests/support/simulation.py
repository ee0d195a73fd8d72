"""A federation of many members on this machine: true nodes at drawn distances, a true gateway in a process of its own.

Keys, signatures, directory, mutual TLS, stores, indexes and logs are real; the records are few. `simulated` is what runs in the processes
of the nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import multiprocessing
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support.patience import PATIENCE_S
from tests.support.simulated import Behaviour, Delays, Site, Spec, serve_members
from tests.support.sockets import SocketFederation
from vidfed.synthetic.federation import LocalFederation, Place, free_ports

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from multiprocessing.connection import Connection

    from tests.support.simulated import OwnTime
    from vidfed.security.member.kit import Kit

_MISBEHAVIOURS = tuple(behaviour for behaviour in Behaviour if behaviour is not Behaviour.HONEST)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far: CPU time, and memory resident now and at its peak."""

    cpu_s: float
    rss_bytes: int
    peak_rss_bytes: int


class Simulation:
    """`count` members; the first one's investigators ask. Use as an async context manager."""

    def __init__(
        self,
        folder: Path,
        count: int,
        *,
        delays: Delays | None = None,
        records: int = 100,
        knowing: int = 3,
        processes: int = 1,
    ) -> None:
        """Make keys, folders and directory below `folder`; nobody serves yet.

        Args:
            folder: everything is below it.
            count: how many members.
            delays: how far away they are.
            records: how many each node holds, none of them known to another.
            knowing: how many members also hold the known items (`simulated.known_codes`), spread over all.
            processes: in how many processes the nodes run.
        """
        self.members = tuple(f"m{number:03}" for number in range(count))
        self.behaviours = dict.fromkeys(self.members, Behaviour.HONEST)
        self.delays = delays or Delays()
        self.knowing = self.members[1 :: max(1, count // knowing)][:knowing]
        *ports, gateway_port = free_ports(count + 1)
        addresses = {member: f"127.0.0.1:{port}" for member, port in zip(self.members, ports, strict=True)}
        self._gateway_address = f"127.0.0.1:{gateway_port}"
        self.federation = SocketFederation(folder, *self.members, places=addresses, gateway=self._gateway_address)
        sites = [Site(self.federation.homes[member].folder, addresses[member], knows=member in self.knowing) for member in self.members]
        self._specs = [Spec(tuple(sites[start::processes]), self.delays, records) for start in range(processes)]
        asker = self.members[0]
        self._local = LocalFederation(
            folder, _not_needed, {asker: Place(self.federation.homes[asker].folder, addresses[asker], self._gateway_address)}
        )
        self._connections: list[Connection] = []
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        context = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
        await self._stack.enter_async_context(self.federation)
        for spec in self._specs:
            ours, theirs = context.Pipe()
            process = context.Process(target=serve_members, args=(spec, theirs), name="nodes")
            process.start()
            theirs.close()
            self._stack.push_async_callback(asyncio.to_thread, _end, process, ours)
            self._connections.append(ours)
        self._stack.enter_context(self._local)
        for connection in self._connections:
            await asyncio.to_thread(_receive, connection)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def start_gateway(self) -> Kit:
        """Start the first member's gateway (`vidfed gateway serve`) and return the kit of an investigator who asks through it."""
        asker = self.members[0]
        self._local.start(asker, service="gateway")
        return self.federation.kit(asker, self._gateway_address)

    def restart_gateway(self) -> None:
        """Stop the gateway in an orderly way and start it again, at the same address."""
        self._local.stop(self.members[0], service="gateway")
        self._local.start(self.members[0], service="gateway")

    def gateway_usage(self) -> Usage:
        """Return what the gateway's process has used so far."""
        return usage_of(self._local.process_id(self.members[0], "gateway"))

    async def behave(self, behaviours: Mapping[str, Behaviour]) -> list[OwnTime]:
        """Let each member named behave like this from now on; return the honest answers given since this was called last."""
        self.behaviours |= behaviours
        for connection, spec in zip(self._connections, self._specs, strict=True):
            own = {site.home.name for site in spec.sites}
            connection.send({member: behaviour for member, behaviour in behaviours.items() if member in own})
        answered = [await asyncio.to_thread(_receive, connection) for connection in self._connections]
        return list(itertools.chain.from_iterable(answered))

    async def own_times(self) -> list[OwnTime]:
        """Return the honest answers given since this was asked last."""
        return await self.behave({})

    def misbehaving(self, share: float) -> dict[str, Behaviour]:
        """Draw a share of the members, rounded up, and give them every misbehaviour in turn; the others are honest.

        A larger share adds to a smaller one. The asker's own node and those that know the known items are never drawn, so that there is
        a first hit to wait for.
        """
        drawable = [member for member in self.members[1:] if member not in self.knowing]
        random.Random(self.delays.seed).shuffle(drawable)
        drawn = drawable[: math.ceil(share * len(self.members))]
        return dict.fromkeys(self.members, Behaviour.HONEST) | dict(zip(drawn, itertools.cycle(_MISBEHAVIOURS), strict=False))


def usage_of(process_id: int) -> Usage:
    """Return what a process of this machine has used so far, all its threads together; see proc(5)."""
    # The second field is the command in brackets, which may hold anything.
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    about = dict(line.split(":", 1) for line in Path(f"/proc/{process_id}/status").read_text().splitlines())
    peak = int(about["VmHWM"].removesuffix("kB")) * 1024
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE"), peak)


def _receive(connection: Connection) -> Sequence[OwnTime]:
    if not connection.poll(PATIENCE_S):
        raise RuntimeError("the simulated nodes do not answer")
    try:
        received: Sequence[OwnTime] = connection.recv()
    except EOFError:
        raise RuntimeError("the simulated nodes ended; see above why") from None
    return received


def _end(process: multiprocessing.process.BaseProcess, connection: Connection) -> None:
    connection.close()
    process.join(PATIENCE_S)
    if process.is_alive():
        process.kill()
        process.join()


def _not_needed(_: Sequence[str]) -> None:
    raise NotImplementedError
