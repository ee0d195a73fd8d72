"""The client for programs that do not run an event loop: the same calls, which return when they are done."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Self, TypeVar

from vidfed.federation.client.client import DEFAULT_DEADLINE_S, FederationClient
from vidfed.security.clock import Clock, system_clock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from vidfed.federation.client.client import LookupStatus
    from vidfed.federation.lookup.outcome import NodeOutcome
    from vidfed.federation.lookup.question import Item, Justification
    from vidfed.federation.lookup.result import LookupResult
    from vidfed.index import Algorithm
    from vidfed.security.member.kit import Kit

Value = TypeVar("Value")


class BlockingFederationClient:
    """A `FederationClient` on an event loop in a thread of its own. Use as a context manager; safe from several threads.

    Each method does what the one of the same name in `FederationClient` does, and raises the same.
    """

    def __init__(self, kit: Kit, *, clock: Clock = system_clock) -> None:
        """Begin with a kit.

        Raises:
            SecurityError: the kit or its trust directory cannot be used.
        """
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vidfed-client", daemon=True)
        self._thread.start()
        self._client: FederationClient | None = None
        try:
            self._client = self._run(_made(kit, clock))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the gateway and end the thread. Closing twice is closing once."""
        if self._loop.is_closed():
            return
        if self._client is not None:
            self._run(self._client.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def refresh_directory(self) -> int:
        """Take the gateway's trust directory if it is newer and holds; return the version in use."""
        return self._with(lambda client: client.refresh_directory()).version

    def ask(
        self,
        items: Iterable[Item],
        justification: Justification,
        *,
        distances: Mapping[Algorithm, int] | None = None,
        ask: Sequence[str] = (),
        deadline_s: float = DEFAULT_DEADLINE_S,
        keep: bool = True,
        on_node: Callable[[NodeOutcome], None] = lambda _: None,
        on_part: Callable[[int], None] = lambda _: None,
    ) -> LookupResult:
        """Ask every member about items. `on_node` and `on_part` are called from the client's own thread."""
        return self._with(
            lambda client: client.ask(
                items,
                justification,
                distances=distances,
                ask=ask,
                deadline_s=deadline_s,
                keep=keep,
                on_node=on_node,
                on_part=on_part,
            )
        )

    def resume(self, lookup: str) -> LookupResult:
        """Fetch what the gateway has collected of an earlier lookup."""
        return self._with(lambda client: client.resume(lookup))

    def history(self) -> list[LookupStatus]:
        """Return the lookups this kit remembers, the newest first."""
        return self._with(lambda client: client.history())

    def forget(self, lookup: str) -> None:
        """Delete a lookup here and at the gateway."""
        self._with(lambda client: client.forget(lookup))

    def _with(self, use: Callable[[FederationClient], Awaitable[Value]]) -> Value:
        if self._client is None or self._loop.is_closed():
            raise RuntimeError("this client is closed")
        return self._run(use(self._client))

    def _run(self, work: Awaitable[Value]) -> Value:
        async def wait() -> Value:
            return await work

        future = asyncio.run_coroutine_threadsafe(wait(), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C in the calling thread gives up the lookup too
            raise


async def _made(kit: Kit, clock: Clock) -> FederationClient:
    """Make the client on its own loop: its connections belong to it."""
    return FederationClient(kit, clock=clock)
