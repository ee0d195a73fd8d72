"""The adapter for the public conformance suite, over real HTTP, on a repository of our own making."""

from __future__ import annotations

import functools
import http.server
import threading
from typing import TYPE_CHECKING

import pytest

from tests.conformance.tuf_client import main
from tests.security.trust.world import World, signed_anew

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Client:
    def __init__(self, base: Path, url: str) -> None:
        self.metadata, self.targets = base / "metadata", base / "targets"
        self.metadata.mkdir()
        self.targets.mkdir()
        self._url = url

    def run(self, *command: str) -> int:
        options = ["--metadata-dir", str(self.metadata), "--metadata-url", f"{self._url}/metadata"]
        options += ["--target-dir", str(self.targets), "--target-base-url", f"{self._url}/targets"]
        return main([*options, *command])


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.add("nl")
    return made


@pytest.fixture
def client(world: World, tmp_path: Path) -> Iterator[Client]:
    handler = functools.partial(_Quiet, directory=str(world.folder.repository.folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        (tmp_path / "client").mkdir()
        made = Client(tmp_path / "client", f"http://127.0.0.1:{server.server_port}")
        assert made.run("init", str(world.folder.anchor_path)) == 0
        yield made
        server.shutdown()
        thread.join()


def test_refresh_follows_the_repository(client: Client, world: World) -> None:
    assert client.run("refresh") == 0
    world.folder.propose_renewal()
    world.sign_and_publish()
    assert client.run("refresh") == 0
    assert (client.metadata / "root.json").read_bytes() == world.published_files()["metadata/2.root.json"]


def test_refresh_of_a_rolled_back_repository_fails_and_keeps_what_it_had(client: Client, world: World) -> None:
    assert client.run("refresh") == 0
    before = (client.metadata / "timestamp.json").read_bytes()
    path = world.folder.repository.folder / "metadata/timestamp.json"
    path.write_bytes(signed_anew(path.read_bytes(), {"version": 1}, world.online))
    assert client.run("refresh") == 1
    assert (client.metadata / "timestamp.json").read_bytes() == before


def test_download_takes_a_member_s_file_and_does_not_take_it_twice(client: Client, world: World) -> None:
    assert client.run("--target-name", "members/nl/member.json", "download") == 0
    (taken,) = client.targets.iterdir()
    assert taken.read_bytes() == world.entry("nl").files["member.json"]
    for path in (world.folder.repository.folder / "targets").rglob("*.json"):
        path.unlink()
    assert client.run("--target-name", "members/nl/member.json", "download") == 0


def test_download_of_what_is_not_listed_fails(client: Client) -> None:
    assert client.run("--target-name", "members/xx/member.json", "download") == 1
