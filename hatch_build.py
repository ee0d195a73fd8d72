"""Writes the commit that a wheel or source archive is built from into it, for `vidfed --version`."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMMIT_FILE = "vidfed/cli/commit.txt"
"""As `vidfed.cli.version` reads it."""


class CommitHook(BuildHookInterface[Any]):
    """Adds one file. An editable install asks git itself; outside a checkout nothing is known, and nothing is written."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the file to what is built."""
        if version == "editable" or not Path(self.root, ".git").exists():
            return
        command = ("git", "-C", self.root, "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=, changed since")
        try:
            commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - constants
        except (OSError, subprocess.CalledProcessError):
            return
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name, "commit.txt")
        path.write_text(f"{commit}\n", encoding="utf-8")
        inside = COMMIT_FILE if self.target_name == "wheel" else f"federation/{COMMIT_FILE}"
        build_data["force_include"][str(path)] = inside

    def finalize(self, _version: str, _build_data: dict[str, Any], _artifact_path: str) -> None:
        """Remove the file that was added."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()
