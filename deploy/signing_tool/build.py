"""Makes the signing tool, one file: `make signing-tool`."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import zipapp
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OWN = (
    "federation/vidfed/cli/__init__.py",
    "federation/vidfed/cli/printable.py",
    "federation/vidfed/cli/system.py",
    "security/vidfed/security",
)
LIBRARIES = ("tuf", "securesystemslib")
"""Pure Python, Apache-2.0 or MIT. What they could use beside the standard library they do without."""


def build(target: Path) -> Path:
    """Write the tool to `target` and return it."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work, "app")
        skipped = shutil.ignore_patterns("__pycache__", "*.pyc", "cli", "audit", "member", "pkcs11.py", "tls.py")
        for name in OWN:
            inside = folder / name.split("/", 1)[1]
            inside.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, inside, ignore=skipped)
            else:
                shutil.copyfile(ROOT / name, inside)
        for name in LIBRARIES:
            package = Path(str(import_module(name).__file__)).parent
            shutil.copytree(package, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        here = Path(__file__).parent
        shutil.copyfile(here / "certificates.py", folder / "vidfed/security/crypto/certificates.py")
        shutil.copyfile(here / "app.py", folder / "__main__.py")
        target.parent.mkdir(parents=True, exist_ok=True)
        zipapp.create_archive(folder, target, interpreter="/usr/bin/env python3", compressed=True)
    return target


def main() -> None:
    """Parse the command line and make the tool."""
    parser = argparse.ArgumentParser(prog="make signing-tool", description="Make the one file with which administrators sign offline.")
    parser.add_argument("--out", default=ROOT / "dist/vidfed-sign.pyz", type=Path, help="file to write (default: dist/vidfed-sign.pyz)")
    made = build(parser.parse_args().out)
    print(f"{made}: {made.stat().st_size / 1e6:.1f} MB; run it as: python3 {made.name} sign draft.json --key anna.key")


if __name__ == "__main__":
    main()
