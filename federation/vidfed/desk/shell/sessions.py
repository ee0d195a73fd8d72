"""Who may use the desk: whoever holds the one-time token that was shown to the person who started it, and then the cookie it was given for.

Cookies know nothing of ports: what a browser keeps for 127.0.0.1 it sends to every local program that it is led to. So the cookie
belongs to a path that nobody can guess, under which the whole desk lives, and no other program ever gets it.
"""

from __future__ import annotations

import hmac
import secrets
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN_LIFE_S = 300.0
"""So long the opened address may be used: a browser that starts on a slow machine takes a minute."""
IDLE_S = 30 * 60.0
"""A session of which nothing was heard for so long is over: the person has gone, and the screen may be somebody else's."""
MAX_SESSIONS = 4
"""A person has few browsers; the one that was heard of longest ago goes."""
COOKIE = "vidfed-desk"
_BYTES = 32


class Sessions:
    """Tokens and sessions of one run of the desk. They end with the program."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nobody.

        Args:
            clock: seconds, rising.
        """
        self._clock = clock
        self._token: tuple[str, float] | None = None
        self._seen: dict[str, float] = {}
        self.path = f"/{secrets.token_urlsafe(_BYTES)}"

    def new_token(self) -> str:
        """Return a token for one entry; an older one that was not used is worth nothing from now on."""
        token = secrets.token_urlsafe(_BYTES)
        self._token = (token, self._clock() + TOKEN_LIFE_S)
        return token

    def enter(self, token: str) -> str | None:
        """Use a token; return the new session's cookie, None if the token is not (or no longer) good."""
        if self._token is None:
            return None
        known, until_s = self._token
        if not hmac.compare_digest(known.encode(), token.encode()):
            return None
        self._token = None
        if self._clock() > until_s:
            return None
        while len(self._seen) >= MAX_SESSIONS:
            del self._seen[min(self._seen, key=self._seen.__getitem__)]
        cookie = secrets.token_urlsafe(_BYTES)
        self._seen[cookie] = self._clock()
        return cookie

    def holds(self, cookie: str, *, active: bool) -> bool:
        """Tell whether a cookie is of a session that goes on; `active`: the person did something, not the page by itself."""
        now_s = self._clock()
        for known, seen_s in list(self._seen.items()):
            if now_s - seen_s > IDLE_S:
                del self._seen[known]
        found = next((known for known in self._seen if hmac.compare_digest(known.encode(), cookie.encode())), None)
        if found is not None and active:
            self._seen[found] = now_s
        return found is not None

    def end(self, cookie: str) -> None:
        """End a session."""
        self._seen.pop(cookie, None)
