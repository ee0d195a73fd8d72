"""What a running service says: one line an event on stderr, for people or as JSON for machines. Never a hash, never case data.

Nothing filters the log: what must not be in it is not handed to it, and `tests/integration/test_operations.py` looks for it.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidfed.cli.printable import json_text, visible, visible_lines
from vidfed.security.errors import HomeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.security.member.home import MemberHome

LINES_OF_A_KIND = 60
"""In LINES_EVERY_S: one a second is what a person can follow, and 20 MB a day at most for each kind of line there is in the code."""
LINES_EVERY_S = 60.0
_KIND_CHARS = 200
_MAX_KINDS = 1_000  # texts with something put into them by their author count as kinds of their own: bounded
_FORMATS = ("console", "json")
_LEVELS = ("debug", "info", "warning", "error")
_TIME = "%Y-%m-%dT%H:%M:%S"


@dataclass(frozen=True, slots=True)
class LogSection:
    """`[log]` of the configuration file.

    Attributes:
        format: "console" for people, "json" for machines: one object a line with time, level, service, logger, message.
        level: what is said at least: "debug", "info", "warning" or "error".
    """

    format: str = "console"
    level: str = "info"


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, **always: str) -> None:
        """Take the fields that are in every line."""
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        """Write one event."""
        moment = time.strftime(_TIME, time.gmtime(record.created))
        fields: dict[str, object] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            **self._always,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json_text(fields)


class ConsoleFormatter(logging.Formatter):
    """One line an event, times in UTC; a traceback, if there is one, on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", _TIME)
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in logging
        """Write the line."""
        return visible(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802 - as logging declares it
        """Write the traceback."""
        return visible_lines(super().formatException(ei))


class LineBudget(logging.Filter):
    """Lets so many lines of one kind through in a minute, and counts the rest: others' calls, however many, must not fill the disk.

    Of one kind are lines of one logger with the same text before anything is put into it.
    """

    def __init__(self, most: int = LINES_OF_A_KIND, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing said."""
        super().__init__()
        self._most = most
        self._clock_s = clock_s
        self._kinds: dict[tuple[str, str], tuple[float, int]] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether this line is said; the first after a minute says how many were not, the last in it that more will not be."""
        kind, now_s = (record.name, str(record.msg)[:_KIND_CHARS]), self._clock_s()
        with self._lock:
            began_s, said = self._kinds.get(kind, (now_s, 0))
            left_out = 0
            if now_s - began_s >= LINES_EVERY_S:
                began_s, left_out, said = now_s, max(0, said - self._most), 0
            if len(self._kinds) >= _MAX_KINDS and kind not in self._kinds:
                self._kinds.clear()
            self._kinds[kind] = began_s, said + 1
        if said >= self._most:
            return False
        remark = f" (and {left_out} more like this before it)" if left_out else ""
        if said == self._most - 1:
            remark += f" (more like this within {LINES_EVERY_S:.0f} s are only counted)"
        if remark:
            record.msg, record.args = record.getMessage() + remark, None
        return True


def start_logging(home: MemberHome, service: str) -> None:
    """Send the log of a serving process to stderr as `[log]` says; times in UTC.

    Args:
        home: the member's folder.
        service: "node", "gateway", or "unit" for both in one process.

    Raises:
        HomeError: a setting is unknown.
    """
    section = home.section("log", LogSection)
    for name, known in (("format", _FORMATS), ("level", _LEVELS)):
        if getattr(section, name) not in known:
            raise HomeError(f"{home.config_path}: [log] {name}: {getattr(section, name)!r} is unknown; known are {', '.join(known)}")
    formatter = JsonFormatter(service=service, member=home.member) if section.format == "json" else None
    log_to_stderr(formatter, section.level)


def log_to_stderr(formatter: logging.Formatter | None = None, level: str = "info") -> None:
    """Send the log of this process to stderr, for people if no formatter is given."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter or ConsoleFormatter())
    handler.addFilter(LineBudget())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # What these say below a warning is of no use to an operator: which build of itself faiss loads, and which of the administrators
    # have not signed a root that enough others have.
    for talkative in ("faiss", "tuf", "securesystemslib"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
