"""What every request meets first. Whatever is missing or odd is refused.

1. The Host is this desk's own: a foreign name that was made to point here (DNS rebinding) is not.
2. `/enter` takes a one-time token and gives a cookie for the desk's unguessable path; below that path is everything else.
3. The browser says that the request comes from the desk's own pages, or was typed: `Sec-Fetch-Site`, which no page can forge.
4. What changes something has the desk's own Origin as well.
5. The cookie is of a session that goes on.

Every answer, refusals too, carries the headers that let a page do nothing but what comes from here, and lets nobody keep it.
"""

from __future__ import annotations

import html
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from vidfed.desk.shell.sessions import COOKIE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from vidfed.desk.shell.sessions import Sessions

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), display-capture=()",
    "x-frame-options": "DENY",
}
"""Of every answer."""
LIVE = b"vidfed-live"
"""Header of a request that a page makes by itself, over and over: it does not keep a session going."""
_TYPED = frozenset({"same-origin", "none"})
_READING = frozenset({"GET", "HEAD"})


class Guard:
    """The outermost layer of the desk's application."""

    def __init__(self, app: ASGIApp, sessions: Sessions, authorities: Iterable[str]) -> None:
        """Stand before `app`.

        Args:
            app: the desk, whose paths begin with the sessions' path.
            sessions: who may enter.
            authorities: `host:port` as the browser may name them.
        """
        self._app = app
        self._sessions = sessions
        self._authorities = frozenset(authorities)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no web sockets

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                named = {name.encode(): value.encode() for name, value in HEADERS.items()}
                kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in named]
                message = {**message, "headers": [*kept, *named.items()]}
            await send(message)

        headers = _Headers(scope["headers"])
        if (host := headers.only(b"host")) not in self._authorities:
            await _refuse(answer, 421, "This address is not the desk's.")
        elif scope["path"] == "/enter":
            await self._enter(scope, answer)
        elif not _below(scope["path"], self._sessions.path):
            await _refuse(answer, 404, "There is nothing here. The desk is opened by the address that the terminal shows.")
        elif scope["method"] not in _READING | {"POST"}:
            await _refuse(answer, 405, "The desk only takes GET and POST.")
        elif not _own(scope["method"], headers, host):
            await _refuse(answer, 403, "This came from another page than the desk's own, or the browser does not say from where.")
        elif not self._sessions.holds(headers.cookie(), active=headers.only(LIVE) is None):
            await _refuse(answer, 403, "This session is over. Press Enter in the terminal in which the desk runs and open the new address.")
        else:
            await self._app(scope, receive, answer)

    async def _enter(self, scope: Scope, send: Send) -> None:
        tokens = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=4).get("token", [])
        cookie = self._sessions.enter(tokens[0]) if scope["method"] == "GET" and len(tokens) == 1 else None
        if cookie is None:
            await _refuse(send, 403, "This address was used already or is too old. Press Enter in the terminal in which the desk runs.")
            return
        path = self._sessions.path
        icon = f'<link rel="icon" href="{path}/static/icon.svg">'
        # Not a redirect: it would count as coming from wherever the address was opened, and the cookie would be withheld.
        await _page(
            send,
            200,
            f'<meta http-equiv="refresh" content="0;url={path}/">{icon}<title>vidfed</title><p><a href="{path}/">The desk</a></p>',
            [(b"set-cookie", f"{COOKIE}={cookie}; Path={path}/; HttpOnly; SameSite=Strict".encode())],
        )


class _Headers:
    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._raw = list(raw)

    def only(self, name: bytes) -> str | None:
        """Return the value of a header that is there once; None if it is not there, or twice."""
        values = [value for known, value in self._raw if known == name]
        return values[0].decode("latin-1") if len(values) == 1 else None

    def cookie(self) -> str:
        try:
            found = SimpleCookie(self.only(b"cookie") or "").get(COOKIE)
        except CookieError:
            return ""
        return found.value if found else ""


def _below(path: str, own: str) -> bool:
    # Compared in whole: whoever does not know it learns nothing from how long it takes, for it changes with each run.
    return path == own or path.startswith(f"{own}/")


def _own(method: str, headers: _Headers, host: str | None) -> bool:
    site = headers.only(b"sec-fetch-site")
    if method in _READING:
        return site in _TYPED
    return site == "same-origin" and headers.only(b"origin") == f"http://{host}"


async def _refuse(send: Send, status: int, why: str) -> None:
    await _page(send, status, f"<title>vidfed</title><h1>vidfed</h1><p>{html.escape(why)}</p>", [])


async def _page(send: Send, status: int, body: str, headers: list[tuple[bytes, bytes]]) -> None:
    content = f'<!DOCTYPE html><html lang="en"><meta charset="utf-8">{body}</html>'.encode()
    headers = [*headers, (b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
