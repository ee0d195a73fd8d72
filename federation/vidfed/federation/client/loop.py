"""An event loop in a thread of its own, for programs that have none: what the blocking clients run on."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Value = TypeVar("Value")


class _Entered(Protocol):
    """An asynchronous client: a context manager."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...


Client = TypeVar("Client", bound=_Entered)


class OnItsLoop(Generic[Client]):
    """One asynchronous client on a loop in a thread of its own. Use as a context manager; safe from several threads."""

    def __init__(self, make: Callable[[], Client]) -> None:
        """Make the client on its own loop, since its connections belong to it, and enter it.

        Raises:
            Exception: what making or entering it raises.
        """
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vidfed-client", daemon=True)
        self._thread.start()
        self._client: Client | None = None
        try:
            self._client = self._run(_entered(make))
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

    def _with(self, use: Callable[[Client], Awaitable[Value]]) -> Value:
        return self._run(use(self._open))

    @property
    def _open(self) -> Client:
        if self._client is None or self._loop.is_closed():
            raise RuntimeError("this client is closed")
        return self._client

    def _run(self, work: Awaitable[Value]) -> Value:
        async def wait() -> Value:
            return await work

        future = asyncio.run_coroutine_threadsafe(wait(), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C in the calling thread gives up what it waits for too
            raise


async def _entered(make: Callable[[], Client]) -> Client:
    client = make()
    try:
        return await client.__aenter__()
    except BaseException:
        await client.__aexit__(None, None, None)
        raise
