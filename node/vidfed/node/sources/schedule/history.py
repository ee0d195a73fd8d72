"""How a source's runs went: a small file for each source, for the schedule, for status and for people."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from vidfed.node.sources.schedule.times import Run
from vidfed.security.files import write_private

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunHistory:
    """The last runs of a source. Times in ms since the epoch; 0: never.

    Attributes:
        attempted_ms, failures, waiting, not_before_ms: as in `schedule.Run`.
        problem: what the last run said, empty after a success.
        report: name of the file with everything the last run passed over.
        last: counts of the last run that was completed, by name.
    """

    attempted_ms: int = 0
    failures: int = 0
    waiting: bool = False
    not_before_ms: int = 0
    problem: str = ""
    report: str = ""
    last: dict[str, object] | None = None

    @property
    def run(self) -> Run:
        """What the schedule needs of it."""
        return Run(self.attempted_ms, self.failures, self.waiting, self.not_before_ms)


def read_history(path: Path) -> RunHistory:
    """Return a source's history; one that is missing or cannot be read is that of a source never run."""
    try:
        said = json.loads(path.read_bytes())
        return RunHistory(**said)
    except (OSError, ValueError, TypeError):
        return RunHistory()


def write_history(path: Path, history: RunHistory) -> None:
    """Write it whole.

    Raises:
        OSError: it cannot be written.
    """
    write_private(path, json.dumps(asdict(history), ensure_ascii=False).encode())
