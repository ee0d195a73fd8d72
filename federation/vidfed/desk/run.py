"""Running the desk in a terminal: the address, a new one for each Enter, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

from vidfed.desk.shell.serving import LOOPBACK, OPENING_FILE, listen, open_browser, server

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.desk.opening import Opened


def run_desk(
    opened: Opened,
    port: int,
    public_port: int | None,
    *,
    open_it: bool,
    say: Callable[[str], None],
    note: Callable[[str], None],
) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        opened: what is served.
        port: on loopback; 0 for a free one.
        public_port: as the browser sees it; the same if None.
        open_it: open a browser.
        say: prints the address.
        note: says things to the person at the terminal.

    Raises:
        OSError: the port is taken.
    """
    opening_file = opened.desk.folder / OPENING_FILE
    with contextlib.closing(listen(port)) as listener:
        shown = f"{LOOPBACK}:{public_port or listener.getsockname()[1]}"
        desk, serving = opened.desk, server(opened.application({shown}))

        def show_address() -> None:
            address = f"http://{shown}/enter?token={desk.sessions.new_token()}"
            say(address)
            if open_it and not open_browser(desk.folder, address):
                note("No browser could be started: open the address above.")

        async def serve() -> None:
            loop = asyncio.get_running_loop()
            if sys.stdin.isatty():
                loop.add_reader(sys.stdin.fileno(), lambda: show_address() if sys.stdin.readline() else None)
            await serving.serve(sockets=[listener])

        show_address()
        note("The desk is open to whoever opens this address first; it works once, for five minutes. Enter: another one. Ctrl-C: the end.")
        try:
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(serve())
        finally:
            opening_file.unlink(missing_ok=True)
