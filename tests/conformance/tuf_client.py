#!/usr/bin/env python
"""Our use of python-tuf in the command protocol of the public conformance suite, so that the suite can be pointed at it.

Protocol: https://github.com/theupdateframework/tuf-conformance/blob/main/CLIENT-CLI.md. In a checkout of the suite:
`pytest tuf_conformance --entrypoint ".venv/bin/python tests/conformance/tuf_client.py"`, both paths from here.

The suite's repositories have no members, so what runs here is the client with `reader`'s limits, without our rules on top of it.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient import Updater

from vidfed.security.trust.reader import LIMITS


def init(arguments: argparse.Namespace) -> None:
    """Take the trusted root; nothing is asked of the repository."""
    Path(arguments.metadata_dir, "root.json").write_bytes(Path(arguments.trusted_root).read_bytes())


def refresh(arguments: argparse.Namespace) -> None:
    """Bring the metadata up to date."""
    _updater(arguments).refresh()


def download(arguments: argparse.Namespace) -> None:
    """Bring the metadata up to date and take one file."""
    updater = _updater(arguments, arguments.target_dir, arguments.target_base_url)
    info = updater.get_targetinfo(arguments.target_name)
    if info is None:
        raise RepositoryError(f"no target {arguments.target_name}")
    if updater.find_cached_target(info) is None:
        updater.download_target(info)


def _updater(arguments: argparse.Namespace, target_dir: str | None = None, target_base_url: str | None = None) -> Updater:
    limits = replace(LIMITS, max_delegations=32)  # the suite's trees are deeper than ours may be
    return Updater(arguments.metadata_dir, arguments.metadata_url, target_dir, target_base_url, config=limits, bootstrap=None)


def main(given: list[str] | None = None) -> int:
    """Run one command; the exit status is 1 if it did not succeed fully."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--metadata-dir", "--metadata-url", "--target-name", "--target-base-url", "--target-dir"):
        parser.add_argument(name)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("trusted_root")
    commands.add_parser("refresh")
    commands.add_parser("download")
    arguments = parser.parse_args(given)
    try:
        {"init": init, "refresh": refresh, "download": download}[arguments.command](arguments)
    except (RepositoryError, DownloadError, OSError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 - the protocol's way to say it
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
