"""The local server: on this machine's loopback alone, and how the browser is led to it without the token being seen by others."""

from __future__ import annotations

import html
import socket
import webbrowser
from typing import TYPE_CHECKING

import uvicorn

from vidfed.security.files import write_private

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp

LOOPBACK = "127.0.0.1"
OPENING_FILE = "open.html"
MAX_REQUESTS = 64
"""Under way at a time: a browser has six connections."""
_STOP_S = 3


def listen(port: int = 0) -> socket.socket:
    """Return a socket that listens on loopback.

    Args:
        port: 0 for a free one.

    Raises:
        OSError: the port is taken.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def server(app: ASGIApp) -> uvicorn.Server:
    """Return a server that logs nothing: addresses hold what others must not see."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        limit_concurrency=MAX_REQUESTS,
        timeout_graceful_shutdown=_STOP_S,
    )
    return uvicorn.Server(config)


def open_browser(folder: Path, address: str) -> bool:
    """Open the browser at an address that nobody else may see.

    Whatever opens a browser is started with the address as its argument, and every user of a machine can list those. So the address is
    written into a private file, and the browser is started with that.
    """
    leads = f'<meta http-equiv="refresh" content="0;url={html.escape(address)}">'
    text = f'<!DOCTYPE html><html lang="en"><meta charset="utf-8">{leads}</html>\n'
    path = folder / OPENING_FILE
    write_private(path, text.encode())
    return webbrowser.open(path.resolve().as_uri())
