"""Which version this is, and of which commit. The number stands in pyproject.toml and nowhere else."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

COMMIT_FILE = "commit.txt"
"""Beside this module in what was built; hatch_build.py writes it."""
_CHECKOUT = Path(__file__).resolve().parents[3]
_GIT_S = 5.0  # a git that takes longer is not waited for


def describe_version() -> str:
    """Return the version, and the commit in brackets if it is known: `0.2.0 (commit 0123456789ab, changed since)`."""
    commit = _built_from() or _checked_out()
    return version("vidfed") + (f" (commit {commit})" if commit else "")


def _built_from() -> str:
    try:
        return files(__package__).joinpath(COMMIT_FILE).read_text("utf-8").strip()
    except OSError:
        return ""


def _checked_out() -> str:
    """Return the commit of the checkout this runs from; nothing where it is none, or git does not say."""
    if not (_CHECKOUT / ".git").exists():
        return ""
    command = ("git", "-C", str(_CHECKOUT), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=, changed since")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_GIT_S)  # noqa: S603 - constants
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
