"""The kit a command is run with: opened, and its end said in time, while the person can still renew it alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.cli.terminal import note

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.security.member.kit import Kit

WARN_DAYS = 7
"""A kit holds 30 days. A week has a working day in it whatever the holidays."""


def open_kit(folder: Path) -> Kit:
    """Open a kit, and say on stderr when it ends within WARN_DAYS, or that it has ended, and what to do.

    Raises:
        HomeError, KeyFileError: it is none, or damaged.
    """
    from vidfed.security.clock import DAY_MS, as_text, system_clock
    from vidfed.security.member.kit import Kit

    kit = Kit(folder)
    ends_ms, now_ms = kit.holder.not_after_ms, system_clock()
    if ends_ms <= now_ms:
        note(f"Your kit ended {as_text(ends_ms)}: ask your unit for a new invitation, then vidfed enrol INVITATION --to {folder}")
    elif ends_ms < now_ms + WARN_DAYS * DAY_MS:
        note(f"Your kit ends {as_text(ends_ms)}, in {(ends_ms - now_ms) // DAY_MS} days: vidfed enrol --renew --to {folder}")
    return kit
