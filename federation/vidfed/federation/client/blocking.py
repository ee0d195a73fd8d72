"""The clients for programs that do not run an event loop: the same calls, which return when they are done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.federation.client.client import DEFAULT_DEADLINE_S, FederationClient
from vidfed.federation.client.loop import OnItsLoop
from vidfed.security.clock import Clock, system_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from vidfed.federation.client.client import LookupStatus
    from vidfed.federation.lookup.outcome import NodeOutcome
    from vidfed.federation.lookup.question import Item, Justification
    from vidfed.federation.lookup.result import LookupResult
    from vidfed.index import Algorithm
    from vidfed.security.member.kit import Kit


class BlockingFederationClient(OnItsLoop[FederationClient]):
    """A `FederationClient` on an event loop in a thread of its own. Use as a context manager; safe from several threads.

    Each method does what the one of the same name in `FederationClient` does, and raises the same.
    """

    def __init__(self, kit: Kit, *, clock: Clock = system_clock) -> None:
        """Begin with a kit.

        Raises:
            SecurityError: the kit or its trust directory cannot be used.
        """
        super().__init__(lambda: FederationClient(kit, clock=clock))

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
