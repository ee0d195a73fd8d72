"""The desk is closed by default: what a foreign page, another user of the machine, or an odd client tries, and is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from vidfed.desk.shell.guard import HEADERS, LIVE, POLICY, Guard
from vidfed.desk.shell.sessions import COOKIE, IDLE_S, MAX_SESSIONS, TOKEN_LIFE_S, Sessions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Message, Receive, Scope, Send

HOST = "127.0.0.1:4711"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


async def _inside(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"public")]})
    await send({"type": "http.response.body", "body": b"inside"})


class Door:
    """A guard before a page that says `inside`, and a browser that has entered."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.sessions = Sessions(self.clock)
        self.guard = Guard(_inside, self.sessions, {HOST})
        cookie = self.sessions.enter(self.sessions.new_token())
        self.browser = {"host": HOST, "sec-fetch-site": "same-origin", "cookie": f"{COOKIE}={cookie}"}

    async def ask(self, method: str = "GET", path: str = "/", query: str = "", **changed: str | None) -> Answer:
        """Send what the browser sends, with headers changed, or left out where None."""
        headers = {**self.browser, **{name.replace("_", "-"): value for name, value in changed.items()}}
        pairs = [(name.encode(), value.encode()) for name, value in headers.items() if value is not None]
        return await self.send(method, self.sessions.path + path, query, pairs)

    async def send(self, method: str, path: str, query: str, headers: list[tuple[bytes, bytes]]) -> Answer:
        said: list[Message] = []

        async def receive() -> Message:
            raise AssertionError("the guard reads no body")

        async def send(message: Message) -> None:
            said.append(message)

        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}
        await self.guard(scope, receive, send)
        got = {name.decode(): value.decode() for name, value in said[0]["headers"]}
        return Answer(said[0]["status"], got, b"".join(each.get("body", b"") for each in said[1:]).decode())


@pytest.fixture
def door() -> Door:
    return Door()


async def test_whoever_has_entered_is_let_in(door: Door) -> None:
    assert (await door.ask()).body == "inside"
    assert (await door.ask("POST", origin=f"http://{HOST}")).body == "inside"


@pytest.mark.parametrize("host", ["evil.example:4711", "localhost:4711", "127.0.0.1:4712", "127.0.0.1", "", None])
async def test_a_name_that_was_made_to_point_here_is_refused(door: Door, host: str | None) -> None:
    assert (await door.ask(host=host)).status == 421


async def test_two_hosts_are_none(door: Door) -> None:
    headers = [(b"host", HOST.encode()), (b"host", HOST.encode())]
    assert (await door.send("GET", door.sessions.path, "", headers)).status == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", f"https://{HOST}", "http://127.0.0.1:9999", "", None])
async def test_a_form_of_another_page_cannot_be_posted(door: Door, origin: str | None) -> None:
    assert (await door.ask("POST", origin=origin)).status == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", None])
async def test_another_page_cannot_read_and_a_browser_that_does_not_say_from_where_is_refused(door: Door, site: str | None) -> None:
    assert (await door.ask(sec_fetch_site=site)).status == 403
    assert (await door.ask("POST", sec_fetch_site=site, origin=f"http://{HOST}")).status == 403


async def test_posting_from_the_address_bar_is_refused(door: Door) -> None:
    assert (await door.ask("POST", sec_fetch_site="none", origin=f"http://{HOST}")).status == 403


@pytest.mark.parametrize("cookie", [None, "", f"{COOKIE}=", f"{COOKIE}=x", "other=1", f"{COOKIE}=\xe4"])
async def test_another_user_of_the_machine_has_no_session(door: Door, cookie: str | None) -> None:
    assert (await door.ask(cookie=cookie)).status == 403


async def test_without_the_path_that_nobody_can_guess_there_is_nothing(door: Door) -> None:
    headers = [(name.encode(), value.encode()) for name, value in door.browser.items()]
    for path in ("/", "/static/desk.css", door.sessions.path[:-1], f"{door.sessions.path}x/"):
        assert (await door.send("GET", path, "", headers)).status == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "get"])
async def test_other_methods_are_refused(door: Door, method: str) -> None:
    assert (await door.ask(method, origin=f"http://{HOST}")).status == 405


async def _enter(door: Door, token: str, method: str = "GET") -> Answer:
    return await door.send(method, "/enter", f"token={token}", [(b"host", HOST.encode()), (b"sec-fetch-site", b"cross-site")])


async def test_the_opened_address_works_once(door: Door) -> None:
    token = door.sessions.new_token()
    entered = await _enter(door, token)
    assert entered.status == 200
    assert (await _enter(door, token)).status == 403


async def test_the_cookie_is_for_the_desk_alone(door: Door) -> None:
    cookie = (await _enter(door, door.sessions.new_token())).headers["set-cookie"]
    assert cookie.endswith(f"; Path={door.sessions.path}/; HttpOnly; SameSite=Strict")
    assert "Domain" not in cookie


async def test_an_address_that_is_too_old_or_replaced_or_posted_or_guessed_opens_nothing(door: Door) -> None:
    replaced = door.sessions.new_token()
    token = door.sessions.new_token()
    assert (await _enter(door, replaced)).status == 403
    assert (await _enter(door, "x")).status == 403
    assert (await _enter(door, "")).status == 403
    assert (await _enter(door, f"{token}&token={token}")).status == 403
    assert (await _enter(door, token, "POST")).status == 403
    door.clock.now_s += TOKEN_LIFE_S + 1
    assert (await _enter(door, token)).status == 403


async def test_a_session_ends_when_nobody_does_anything_although_its_page_goes_on_asking(door: Door) -> None:
    door.clock.now_s += IDLE_S - 1
    assert (await door.ask(**{LIVE.decode(): "1"})).status == 200
    door.clock.now_s += 2
    assert (await door.ask()).status == 403


async def test_a_session_goes_on_while_somebody_works(door: Door) -> None:
    for _ in range(3):
        door.clock.now_s += IDLE_S - 1
        assert (await door.ask()).status == 200


async def test_a_left_session_is_over_and_of_many_the_oldest_goes(door: Door) -> None:
    first = door.browser["cookie"].partition("=")[2]
    for _ in range(MAX_SESSIONS):
        door.clock.now_s += 1
        last = door.sessions.enter(door.sessions.new_token())
    assert last is not None
    assert not door.sessions.holds(first, active=True)
    assert door.sessions.holds(last, active=True)
    door.sessions.end(last)
    assert not door.sessions.holds(last, active=True)


async def test_every_answer_carries_the_headers_that_shut_a_page_in(door: Door) -> None:
    answers = [await door.ask(), await door.ask(host="evil"), await door.ask(cookie=None), await _enter(door, door.sessions.new_token())]
    for answer in answers:
        assert _without(answer.headers) == HEADERS
    assert "unsafe" not in POLICY
    assert POLICY.startswith("default-src 'none'")


def _without(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in {"content-type", "content-length", "set-cookie"}}
