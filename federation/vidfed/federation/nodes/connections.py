"""One connection to each member's node, shared by all lookups, and made before anything is sent.

Connecting may be tried again, after a pause drawn by lot: until the connection stands nothing has left this machine. Once it stands, a
lookup is sent once and never again (docs/adr/0030).
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

import grpc

from vidfed.federation.lookup.errors import UnreachableError
from vidfed.rpc.channels import open_channel
from vidfed.security.errors import SecurityError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.security.crypto.certificates import TlsIdentity
    from vidfed.security.identity.directory import Directory, Member

_log = logging.getLogger(__name__)
_RETIRE_S = 300.0  # how long calls on a connection that is replaced may go on; longer than our client lets a stream go on
_REREAD_S = 30.0  # how soon a renewed certificate is seen
_FIRST_PAUSE_S = 0.2
_States = grpc.ChannelConnectivity


class OwnTls:
    """This member's TLS key and certificate, read in a thread and only now and then."""

    def __init__(self, read: Callable[[], TlsIdentity]) -> None:
        self._read = read
        self._known: TlsIdentity | None = None
        self._read_at_s = 0.0
        self._reading = asyncio.Lock()

    def fresh(self) -> TlsIdentity | None:
        """Return the identity if it was read a moment ago."""
        return self._known if asyncio.get_running_loop().time() - self._read_at_s <= _REREAD_S else None

    async def current(self) -> TlsIdentity:
        """Return the identity; a renewed one within half a minute. One that cannot be read leaves the old one in use.

        Raises:
            SecurityError: there has never been one.
        """
        async with self._reading:
            now_s = asyncio.get_running_loop().time()
            if self._known is None or now_s - self._read_at_s > _REREAD_S:
                try:
                    self._known = await asyncio.to_thread(self._read)
                except SecurityError as error:
                    if self._known is None:
                        raise
                    _log.error("TLS goes on with the old certificate: %s", error)
                self._read_at_s = now_s  # after the key: `fresh` must not give the old one out for the new
            return self._known


class Connections:
    """The channels. Each is renewed when the member's entry or the own certificate changes, and when it failed."""

    def __init__(self, own_tls: Callable[[], TlsIdentity], *, attempts: int, connect_s: float) -> None:
        """Begin without any.

        Args:
            own_tls: reads this member's TLS identity; blocking.
            attempts: how often a connection is tried before the node counts as unreachable.
            connect_s: for all attempts together.
        """
        self._own_tls = OwnTls(own_tls)
        self._attempts = attempts
        self._connect_s = connect_s
        self._channels: dict[str, tuple[object, grpc.aio.Channel]] = {}
        self._connecting: dict[str, asyncio.Task[grpc.aio.Channel]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def standing(self, member: Member) -> grpc.aio.Channel | None:
        """Return a channel whose connection stands, None where that takes more than a look."""
        tls = self._own_tls.fresh()
        known = self._channels.get(member.id)
        if tls is None or known is None or known[0] != (member.endpoint, member.tls_ca, tls.certificate):
            return None
        return known[1] if known[1].get_state(try_to_connect=True) is _States.READY else None

    async def ready(self, member: Member, directory: Directory) -> grpc.aio.Channel:
        """Return a channel whose connection stands. Lookups that want the same one wait for the same attempt.

        Raises:
            UnreachableError: none could be made.
            SecurityError: this member's own TLS key cannot be read.
        """
        tls = await self._own_tls.current()
        basis = (member.endpoint, member.tls_ca, tls.certificate)
        if (standing := self.standing(member)) is not None:
            return standing
        connecting = self._connecting.get(member.id)
        if connecting is None or connecting.done():
            connecting = asyncio.create_task(self._connect(member, directory, tls, basis))
            connecting.add_done_callback(_note_taken)
            self._connecting[member.id] = connecting
        # Shielded: a lookup that is given up does not take the connection from the others. Never longer than connect_s.
        return await asyncio.shield(connecting)

    def retire(self, member_id: str, channel: grpc.aio.Channel | None = None) -> None:
        """Open no more calls on this member's connection (if it is still `channel`); calls that run on it may end."""
        known = self._channels.get(member_id)
        if known is None or (channel is not None and known[1] is not channel):
            return
        del self._channels[member_id]
        task = asyncio.create_task(known[1].close(grace=_RETIRE_S))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Close all connections now."""
        tasks = [*self._connecting.values(), *self._ending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    async def _connect(self, member: Member, directory: Directory, tls: TlsIdentity, basis: object) -> grpc.aio.Channel:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._connect_s
        for attempt in range(self._attempts):
            if attempt:
                pause_s = _FIRST_PAUSE_S * 2**attempt * random.random()  # noqa: S311 - spreads load, guards nothing
                if loop.time() + pause_s >= until_s:
                    break
                await asyncio.sleep(pause_s)
            known = self._channels.get(member.id)
            if known is None or known[0] != basis:
                self.retire(member.id)
                known = (basis, open_channel(member.endpoint, tls, directory, member))
                self._channels[member.id] = known
            if await _reached(known[1], until_s - loop.time()):
                return known[1]
            # Not kept: the next attempt dials anew, whatever gRPC's own back-off would say.
            self.retire(member.id)
        raise UnreachableError(f"no connection to {member.endpoint}")


def closed_under_call() -> bool:
    """Tell of a CancelledError whether it comes from a call whose channel was closed; False if this very task is to end."""
    task = asyncio.current_task()
    return task is not None and not task.cancelling()


async def _reached(channel: grpc.aio.Channel, within_s: float) -> bool:
    """Wait until the connection stands (True), or has failed or taken too long (False)."""
    settled = asyncio.create_task(_settled(channel))
    # Not cancelled when it takes too long: the channel is closed then, which ends it.
    done, _ = await asyncio.wait({settled}, timeout=within_s)
    return bool(done) and settled.result() is _States.READY


async def _settled(channel: grpc.aio.Channel) -> grpc.ChannelConnectivity:
    state = channel.get_state(try_to_connect=True)
    while state in {_States.IDLE, _States.CONNECTING}:
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)
    return state


def _note_taken(task: asyncio.Task[grpc.aio.Channel]) -> None:
    """Mark the outcome as seen: everybody who waited for it may have been given up meanwhile."""
    if not task.cancelled():
        task.exception()
