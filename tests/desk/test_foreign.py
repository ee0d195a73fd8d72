"""What others try on the machine on which a desk runs: a web page in the same browser, and another user."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from tests.desk.conftest import CHROMIUM, desk_program, running_desk
from vidfed.desk.opening import for_kit
from vidfed.security.member.kit import Kit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Response

    from tests.desk.conftest import World

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(300)]

TRIES = """async desk => {
  const tried = {};
  const as = async (name, what) => { try { tried[name] = String(await what()); } catch { tried[name] = "refused"; } };
  await as("read", () => fetch(desk + "/", {credentials: "include"}).then(answer => answer.text()));
  await as("opaque", () => fetch(desk + "/", {credentials: "include", mode: "no-cors"}).then(answer => answer.text()));
  await as("post", () => fetch(desk + "/settings", {method: "POST", mode: "no-cors", credentials: "include",
    headers: {"content-type": "application/x-www-form-urlencoded"}, body: "language=fr"}).then(() => "sent"));
  const element = (tag, address) => new Promise((done, failed) => {
    const made = document.createElement(tag);
    made.onload = () => done("loaded"); made.onerror = failed; made.src = address; document.body.append(made);
  });
  await as("script", () => element("script", desk + "/static/desk.js"));
  await as("picture", () => element("img", desk + "/static/icon.svg"));
  await as("frame", async () => { await element("iframe", desk + "/"); return frames[0].document.body.textContent; });
  return tried;
}"""


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!DOCTYPE html><title>evil</title><body>evil</body>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def elsewhere() -> Iterator[int]:
    """The port of a web server that is not the desk's."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as served:
        threading.Thread(target=served.serve_forever).start()
        yield served.server_address[1]
        served.shutdown()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_foreign_page_that_knows_the_path_can_neither_read_nor_post(browser: Browser, world: World, elsewhere: int, host: str) -> None:
    opened = for_kit(Kit(world.kits["nl-7"]))
    with running_desk(opened) as running:
        context = browser.new_context()
        own = context.new_page()
        own.goto(running.address)
        own.wait_for_url("**/")
        foreign = context.new_page()
        foreign.goto(f"http://{host}:{elsewhere}/")
        answers: list[Response] = []
        foreign.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108 - Playwright marks what it calls
        before = opened.desk.preferences.language
        tried = foreign.evaluate(TRIES, running.origin + opened.desk.path)
        assert {name: said for name, said in tried.items() if said not in {"refused", "", "sent"}} == {}
        assert tried["read"] == tried["script"] == tried["picture"] == tried["frame"] == "refused"
        assert {answer.status for answer in answers} == {403}
        assert opened.desk.preferences.language == before
        own.reload()
        assert own.title().startswith("Ask")  # the session of the person goes on
        context.close()


def test_a_name_that_was_made_to_point_to_the_desk_gets_nothing(browser: Browser, world: World) -> None:
    arguments = ["--host-resolver-rules=MAP evil.example 127.0.0.1", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    opened = for_kit(Kit(world.kits["nl-7"]))
    with running_desk(opened) as running:
        rebinding = browser.browser_type.launch(executable_path=CHROMIUM, args=arguments)
        page = rebinding.new_page()
        origin = running.origin.replace("127.0.0.1", "evil.example")
        for path in (f"/enter?token={running.new_token()}", f"{opened.desk.path}/", "/"):
            answer = page.goto(origin + path)
            assert answer is not None
            assert answer.status == 421
        status = page.evaluate("path => fetch(path, {method: 'POST'}).then(answer => answer.status)", f"{opened.desk.path}/settings")
        assert status == 421
        rebinding.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_of_the_machine_finds_no_token_and_is_given_nothing(world: World) -> None:
    kit = world.kits["nl-7"]
    with desk_program("--kit", kit) as (running, program):
        shown, token = running.origin.removeprefix("http://"), running.new_token()
        port = shown.rpartition(":")[2]

        def as_other(script: str) -> str:
            command = ["/bin/bash", "-c", script]
            done = subprocess.run(command, user=65534, group=65534, extra_groups=[], capture_output=True, text=True, check=False)
            return done.stdout + done.stderr

        said = f"GET / HTTP/1.1\\r\\nHost: {shown}\\r\\nConnection: close\\r\\n\\r\\n"
        get = f"exec 3<>/dev/tcp/127.0.0.1/{port}; printf '{said}' >&3; head -1 <&3"
        assert "404" in as_other(get)
        assert token not in as_other(f"cat /proc/{program.pid}/cmdline; cat /proc/{program.pid}/environ; ps -ef")
        assert "denied" in as_other(f"ls {kit}")
        assert "denied" in as_other(f"cat {kit / 'desk/open.html'}")
