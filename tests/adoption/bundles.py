"""Bundles that the tests make."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from vidfed.security.crypto.keys import SigningKey

ROOT = Path(__file__).parents[2]


class Made(NamedTuple):
    """A bundle that was made, and where it was unpacked."""

    archive: Path
    folder: Path
    key: Path


def make_wheel(folder: Path, name: str, licence: str = "MIT", needs: tuple[str, ...] = ()) -> Path:
    """Write a wheel that installs nothing, but is one."""
    lines = [
        f"Name: {name}",
        "Version: 1.0",
        "Summary: nothing",
        f"License-Expression: {licence}",
        *(f"Requires-Dist: {need}" for need in needs),
    ]
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}-1.0.dist-info/METADATA", "\n".join(["Metadata-Version: 2.4", *lines, "", ""]))
        archive.writestr(f"{name}-1.0.dist-info/licenses/LICENSE", f"the terms of {name}")
    return path


def build(folder: Path, *options: str | Path) -> Made:
    SigningKey.generate().save(folder / "release.key")
    command = (sys.executable, "-m", "deploy.bundle.build", "--key", folder / "release.key", "--out", folder / "out", *options)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    made = subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    (archive,) = (folder / "out").glob("*.tar")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return Made(archive, folder / archive.stem, archive.with_suffix(".pem"))
