"""The life of a process that serves: what all services in it share, then binding, announcing, and an orderly end.

A process serves a member's node, its gateway, or both (`vidfed serve`). Neither service knows which: each is handed the shared part and
gives back a `Service`, and whoever runs the process runs all of them at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.rpc.trust import PeerMirrors
from vidfed.security.clock import system_clock
from vidfed.security.errors import SecurityError
from vidfed.security.member.audit_log import Checkpointer, open_log, read_audit_section
from vidfed.security.member.rotation import renew_leaf
from vidfed.security.trust.client import REFRESH_S
from vidfed.security.trust.publisher import Publisher
from vidfed.wire.statuses import ServeError
from vidfed.wire.values import DRAIN_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import grpc

    from vidfed.security.audit import AuditLog
    from vidfed.security.member.home import MemberHome
    from vidfed.security.trust.client import TufDirectory
    from vidfed.security.trust.federation import FederationFolder

_GARBAGE = 20_000  # new objects, a few MB, before Python looks for cycles among them; its 700 are the leavings of one lookup
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shared:
    """What the services of one member share in a process: one view of the trust directory, one audit log.

    Attributes:
        home: the member's folder.
        source: the trust directory, refreshed in the background.
        audit: the member's log, its checkpoints signed in the background.
        publisher: the administrators' folder, if this process publishes.
    """

    home: MemberHome
    source: TufDirectory
    audit: AuditLog
    publisher: FederationFolder | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """A server with all that it answers on it, not yet bound to its address.

    Attributes:
        server: answers.
        listen: `host:port`.
        credentials: of the TLS that callers meet.
        announce: called with `host:port` once every service of the process takes calls.
        stopping: called when it is to stop, before it takes no more calls.
    """

    server: grpc.aio.Server
    listen: str
    credentials: grpc.ServerCredentials
    announce: Callable[[str], None]
    stopping: Callable[[], None] = lambda: None


@contextlib.contextmanager
def open_shared(home: MemberHome, publisher: FederationFolder | None = None, *, keeper: bool = True) -> Iterator[Shared]:
    """Open what the services of a process share, and close it in the end.

    Args:
        home: the member's folder.
        publisher: the administrators' folder, if this process publishes.
        keeper: renew what runs out while it is open: the own certificate, the directory, its timestamp if published here. One process of a
            service that runs in several does.

    Raises:
        SecurityError: configuration, directory, keys or log cannot be used: better no service than one that can only refuse.
    """
    section = read_audit_section(home)
    peers = PeerMirrors(home.member, home.node_tls, home.federation, home.ask)
    source = home.directory_source(ask=peers)

    publishing = Publisher(publisher, [source.held], ask=source.hear) if publisher is not None else None

    def renew() -> None:
        renew_leaf(home, system_clock())
        if publishing is not None:
            try:
                publishing.look()
            except SecurityError as error:  # the member's own services go on without: whether they can is for the directory to say
                _log.error("ALARM: the trust directory cannot be confirmed from here: %s", error)

    def renew_again() -> None:
        try:
            renew()
        except SecurityError as error:  # what is held stays in use; its end is told by doctor and metrics
            _log.error("cannot renew: %s", error)

    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(peers))
        if keeper:
            renew()  # before anything is served: a pair that a crash or a damaged disk left unusable is replaced now
        source.ready()
        if keeper and (home.refresh_s or publisher is not None):
            stack.enter_context(source.refreshing(home.refresh_s or REFRESH_S, first=renew_again))
        audit = stack.enter_context(contextlib.closing(open_log(home)))
        stack.enter_context(Checkpointer(audit, section.checkpoint_every_s))
        yield Shared(home, source, audit, publisher)


async def run_until_signal(*services: Service) -> None:
    """Bind all services, start them, announce them, wait for SIGTERM or SIGINT, then stop them and let running calls finish.

    None takes a call unless all addresses can be used. They stop one after the other, the last first, each with DRAIN_S for what is
    running: a gateway that comes after its member's node still has that node's answers while it finishes.

    Raises:
        ServeError: an address cannot be used.
    """
    addresses = [_bound(service) for service in services]
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    _spare_the_collector()
    for service in services:
        await service.server.start()
    for service, address in zip(services, addresses, strict=True):
        service.announce(address)
    await stop.wait()
    _log.info("stopping: nothing new is accepted; what is running has %.0f s", DRAIN_S)
    for service in reversed(services):
        service.stopping()
        await service.server.stop(DRAIN_S)
    _log.info("stopped")


def _spare_the_collector() -> None:
    """What is open now stays until the end: it need not be looked through for garbage again and again while calls are answered."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE)


def _bound(service: Service) -> str:
    try:
        port = service.server.add_secure_port(service.listen, service.credentials)
    except RuntimeError:
        raise ServeError(f"cannot listen on {service.listen}: the address is in use, or not one of this machine") from None
    return f"{service.listen.rpartition(':')[0]}:{port}"
