"""A federation of three real nodes, a desk for one of its investigators, and one browser, for all tests of this folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from playwright.sync_api import sync_playwright

from tests.support.patience import PATIENCE_S
from vidfed.desk.opening import for_home, for_kit
from vidfed.desk.shell.serving import listen, server
from vidfed.security.member.home import MemberHome
from vidfed.security.member.kit import Kit
from vidfed.synthetic.demo import run_quietly
from vidfed.synthetic.federation import LocalFederation
from vidfed.synthetic.modifications import resized
from vidfed.synthetic.pictures import picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from vidfed.desk.opening import Opened

CHROMIUM = os.environ.get("VIDFED_CHROMIUM", "/usr/bin/chromium")


class World(NamedTuple):
    """What is there."""

    federation: LocalFederation
    kits: dict[str, Path]
    pictures: Path


class Running(NamedTuple):
    """A desk that runs, and how its program is reached where it has one of its own."""

    origin: str
    new_token: Callable[[], str]

    @property
    def address(self) -> str:
        """An address that opens it once."""
        return f"{self.origin}/enter?token={self.new_token()}"


@contextlib.contextmanager
def build_world(base: Path) -> Iterator[World]:
    """nl, fr and br; nl and br hold a picture of which nl-7 has a smaller copy; nl-8 is a colleague, br-1 and br-2 are officers."""
    asked = base / "asked"
    asked.mkdir()
    known = picture(1)
    with LocalFederation(base / "federation", run_quietly) as federation:
        federation.create({"nl": "Unit NL", "fr": "Unit FR", "br": "Unit BR"})
        for member, options in {"nl": ["--series", "Tulip", "--victim-identified", "yes"], "br": ["--series", "Ipe"]}.items():
            own = base / member
            own.mkdir()
            known.save(own / "known.png")
            run_quietly(["node", "ingest", str(own), "--home", str(federation.places[member].folder), "--case", f"{member}-1", *options])
        kits = {name: base / name for name in ("nl-7", "nl-8", "br-1", "br-2")}
        for name, kit in kits.items():
            place = federation.places[name[:2]]
            options = ["--home", str(place.folder), "--gateway", place.gateway_address, "--pseudonym", name, "--no-passphrase"]
            options += ["--role", "release-officer"] if name.startswith("br") else []
            run_quietly(["trust", "issue-investigator", str(kit), *options])
        federation.accept_officers("br")
        federation.start("nl", "fr", "br", service="unit")
        for name in ("nl-8", "br-1", "br-2"):
            run_quietly(["inbox", "--kit", str(kits[name])])
        known.save(asked / "exact.png")
        resized(70)(known).save(asked / "smaller.jpg", quality=60)
        picture(999).save(asked / "unknown.png")
        yield World(federation, kits, asked)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with build_world(tmp_path_factory.mktemp("desk")) as made:
        yield made


@contextlib.contextmanager
def running_desk(opened: Opened) -> Iterator[Running]:
    """Serve a desk as the command does, on a thread of this process: a program of its own takes seconds to start."""
    with contextlib.closing(listen()) as listener:
        shown = f"127.0.0.1:{listener.getsockname()[1]}"
        serving = server(opened.application({shown}))
        thread = threading.Thread(target=lambda: asyncio.run(serving.serve(sockets=[listener])))
        thread.start()
        try:
            yield Running(f"http://{shown}", opened.desk.sessions.new_token)
        finally:
            serving.should_exit = True
            thread.join(20)
    assert not thread.is_alive()


@contextlib.contextmanager
def desk_program(*arguments: str | Path) -> Iterator[tuple[Running, subprocess.Popen[str]]]:
    """Run `vidfed desk` as a program of its own, which can be killed."""
    command = [sys.executable, "-m", "vidfed.cli", "desk", "--no-open", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VIDFED_")}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                assert selector.select(PATIENCE_S), "the desk did not start"
            origin, _, token = process.stdout.readline().strip().partition("/enter?token=")
            yield Running(origin, lambda: token), process
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(scope="module")
def desk(world: World) -> Iterator[Running]:
    with running_desk(for_kit(Kit(world.kits["nl-7"]))) as running:
        yield running


@pytest.fixture(scope="module")
def officers_desk(world: World) -> Iterator[Running]:
    with running_desk(for_kit(Kit(world.kits["br-1"]))) as running:
        yield running


@pytest.fixture(scope="module")
def units_desk(world: World) -> Iterator[Running]:
    with running_desk(for_home(MemberHome(world.federation.places["fr"].folder))) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. As root it has no sandbox; what it loads is the desk alone.

    Of a module and not of the session: while Playwright is there an event loop runs, and no asynchronous test can.
    """
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


@contextlib.contextmanager
def entered(browser: Browser, running: Running, *, dies: bool = False, **options: Any) -> Iterator[Page]:  # noqa: ANN401 - Playwright's own
    """Enter a desk with its one-time address. Whatever asks anything but the desk, or breaks its rules, fails the test.

    Args:
        browser: from which.
        running: the desk.
        dies: it is going to be killed; that the browser then says it is not there breaks no rule.
        options: of the browser's context.
    """
    origin = running.origin
    context = browser.new_context(**options)
    foreign: list[str] = []
    context.on("request", lambda request: foreign.append(request.url) if not request.url.startswith(origin) else None)
    opened = context.new_page()
    broken: list[str] = []
    opened.on("console", lambda message: broken.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: broken.append(str(error)))
    opened.goto(running.address)
    opened.wait_for_url("**/")
    yield opened
    context.close()
    assert foreign == []
    assert dies or broken == []


@pytest.fixture(scope="module")
def page(browser: Browser, desk: Running) -> Iterator[Page]:
    with entered(browser, desk) as opened:
        yield opened
