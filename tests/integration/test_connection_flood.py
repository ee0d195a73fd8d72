"""Many connections at once, of whoever, while a node's certificate changes: gRPC frees what it replaces under other threads."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.patience import PATIENCE_S
from vidfed.synthetic.federation import LocalFederation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.conftest import Ran

CONNECTIONS, AT_ONCE, ROTATIONS = 6_000, 12, 3


@pytest.fixture
def alone(tmp_path_factory: pytest.TempPathFactory, run: Callable[[Sequence[str | Path]], Ran]) -> Iterator[LocalFederation]:
    """A federation of one, whose node runs."""
    with LocalFederation(tmp_path_factory.mktemp("flood"), run) as federation:
        federation.create({"nl": "Unit NL"})
        federation.start("nl")
        yield federation


def test_connections_of_strangers_do_not_end_a_node_whose_certificate_is_renewed(
    alone: LocalFederation, vidfed: Callable[..., Ran]
) -> None:
    place = alone.places["nl"]
    host, _, port = place.node_address.rpartition(":")

    def knock(number: int) -> None:
        if number % (CONNECTIONS // ROTATIONS) == 0:
            assert vidfed("node", "rotate", "certificate", "--home", place.folder).status == 0
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S):
            pass

    with ThreadPoolExecutor(AT_ONCE) as strangers:
        for _ in strangers.map(knock, range(CONNECTIONS)):
            pass
    assert vidfed("node", "health", "--home", place.folder).out == "SERVING\n"
