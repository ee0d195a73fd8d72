"""HTTPS to one address and no other: no redirect is followed, no proxy asked, nothing larger or slower taken than agreed."""

from __future__ import annotations

import base64
import email.utils
import http.client
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vidfed.node.sources.errors import SourceReadError

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_RESPONSE_S = 1_800.0
"""Seconds one answer may take as a whole, however steadily it drips."""
ATTEMPTS = 4
FIRST_PAUSE_S = 1.0
MOST_WAIT_S = 120.0
"""Seconds: the longest a server's `Retry-After` is waited for within a run; what is longer ends the run, and the schedule keeps to it."""
MOST_RETRY_AFTER_S = 24 * 3_600.0
"""Seconds: the longest a server can send us away for."""
_PIECE = 1 << 18
_MISSING, _UNAUTHORISED, _FORBIDDEN, _TOO_MANY, _UNAVAILABLE = 404, 401, 403, 429, 503


class BusyServerError(SourceReadError):
    """The server wants to be left alone for longer than a run waits.

    Attributes:
        retry_after_s: seconds from now.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class _PassingError(Exception):
    """A fault that may be gone at once: worth another attempt."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered with 200.

    Attributes:
        body: whole.
        content_type: in lower case, without parameters.
        server_ms: the server's own clock, ms since the epoch; None where it does not say.
    """

    body: bytes
    content_type: str
    server_ms: int | None


class HttpsClient:
    """Asks one server. Not for several threads."""

    def __init__(
        self,
        address: str,
        *,
        username: str = "",
        password: str = "",
        ca_pem: str = "",
        timeout_s: float = 60.0,
        most_bytes: int = 256 << 20,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare.

        Args:
            address: `https://host[:port][/path]`; every request begins with it.
            username: for basic authentication.
            password: of the username; alone, a bearer token.
            ca_pem: the only authorities trusted, PEM; empty: the system's.
            timeout_s: for a connection, and for each piece of an answer.
            most_bytes: of one answer.
            sleep: waits, seconds.

        Raises:
            SourceReadError: the authorities are no PEM certificates.
        """
        parts = urlsplit(address)
        self._host = parts.hostname or ""
        self._port = parts.port
        self._path = parts.path.rstrip("/")
        self._timeout_s = timeout_s
        self._most_bytes = most_bytes
        self._sleep = sleep
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "vidfed"}
        if username:
            self._headers["Authorization"] = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
        elif password:
            self._headers["Authorization"] = f"Bearer {password}"
        try:
            self._context = ssl.create_default_context(cadata=ca_pem or None)
        except (ssl.SSLError, ValueError):
            raise SourceReadError("ca_file: holds no certificates in PEM") from None
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2

    def get(self, rest: str) -> Answer:
        """Return what is at the address followed by `rest`; passing faults are tried again.

        Args:
            rest: a path that begins with `/`, or a query that begins with `?`, or nothing.

        Raises:
            BusyServerError: it wants to be asked much later.
            SourceReadError: it cannot be had; the message names the host, never user or password.
        """
        pause_s = FIRST_PAUSE_S
        waited_s = 0.0
        for attempt in range(ATTEMPTS):
            try:
                return self._once(rest)
            except BusyServerError as error:
                waited_s += error.retry_after_s
                if waited_s > MOST_WAIT_S or attempt == ATTEMPTS - 1:
                    raise
                self._sleep(max(error.retry_after_s, 1.0))
            except _PassingError as error:
                if attempt == ATTEMPTS - 1:
                    raise SourceReadError(f"{self._host}: {error} ({ATTEMPTS} attempts)") from None
                self._sleep(pause_s)
                pause_s *= 2
        raise AssertionError  # the loop returns or raises

    def _once(self, rest: str) -> Answer:
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._context)
        try:
            connection.request("GET", (self._path + rest) or "/", headers=self._headers)
            response = connection.getresponse()
            self._check_status(response)
            body = self._body(response)
        except ssl.SSLCertVerificationError as error:
            raise SourceReadError(f"{self._host}: its certificate is not to be trusted: {error.verify_message}") from None
        except ssl.SSLError as error:
            raise _PassingError(f"TLS fails: {error.reason or 'no TLS'}") from None
        except TimeoutError:
            raise _PassingError(f"silent for {self._timeout_s:.0f} s") from None
        except OSError as error:
            raise _PassingError(error.strerror or "the connection fails") from None
        except http.client.HTTPException as error:
            raise _PassingError(f"the answer is cut or no HTTP ({type(error).__name__})") from None
        finally:
            connection.close()
        date = response.getheader("Date")
        kind = (response.getheader("Content-Type") or "").partition(";")[0].strip().casefold()
        return Answer(body, kind, _moment_ms(date) if date else None)

    def _check_status(self, response: http.client.HTTPResponse) -> None:
        status = response.status
        if status == http.client.OK:
            return
        if 300 <= status < 400:  # noqa: PLR2004 - the class of redirects
            there = urlsplit(response.getheader("Location") or "").hostname or "elsewhere"
            raise SourceReadError(f"{self._host}: sends us to {there!r:.80}; redirects are not followed: correct the url if that is meant")
        if status in {_UNAUTHORISED, _FORBIDDEN}:
            raise SourceReadError(f"{self._host}: refuses ({status}): are username and password_file right, and is access granted?")
        if status == _MISSING:
            raise SourceReadError(f"{self._host}: has nothing at this address (404): is the url right?")
        if status == _TOO_MANY or (status == _UNAVAILABLE and response.getheader("Retry-After")):
            seconds = _retry_after_s(response.getheader("Retry-After"))
            raise BusyServerError(f"{self._host}: asks to be left alone for {seconds:.0f} s ({status})", seconds)
        if status >= 500 or status == 408:  # noqa: PLR2004 - the server's own faults, and its timeout
            raise _PassingError(f"answers {status}")
        raise SourceReadError(f"{self._host}: answers {status}")

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        encoding = (response.getheader("Content-Encoding") or "identity").casefold()
        if encoding != "identity":
            raise SourceReadError(f"{self._host}: sends {encoding!r:.20} though it was not asked to compress")
        length = response.length
        if length is None and not response.chunked:
            raise SourceReadError(
                f"{self._host}: says neither length nor chunks: an answer that was cut could not be told from a whole one"
            )
        if length is not None and length > self._most_bytes:
            raise SourceReadError(f"{self._host}: sends {length} bytes; most_mib allows {self._most_bytes >> 20}")
        end_s = time.monotonic() + MOST_RESPONSE_S
        pieces, size = [], 0
        while piece := response.read1(_PIECE):
            size += len(piece)
            if size > self._most_bytes:
                raise SourceReadError(f"{self._host}: sends more than most_mib allows ({self._most_bytes >> 20})")
            if time.monotonic() > end_s:
                raise SourceReadError(f"{self._host}: one answer took longer than {MOST_RESPONSE_S:.0f} s")
            pieces.append(piece)
        if length is not None and size != length:
            raise _PassingError(f"the answer is cut: {size} of {length} bytes came")
        return b"".join(pieces)


def _retry_after_s(said: str | None) -> float:
    """Read `Retry-After`: seconds or a date; a minute where it says nothing of sense."""
    text = (said or "").strip()
    if text.isascii() and text.isdecimal() and len(text) <= 9:  # noqa: PLR2004 - thirty years
        seconds = float(text)
    else:
        moment = _moment_ms(text)
        seconds = 60.0 if moment is None else moment / 1000 - time.time()
    return min(max(seconds, 0.0), MOST_RETRY_AFTER_S)


def _moment_ms(text: str) -> int | None:
    try:
        return round(email.utils.parsedate_to_datetime(text).timestamp() * 1000)
    except (ValueError, TypeError, OverflowError):
        return None
