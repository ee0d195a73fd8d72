"""Regenerate the modules below vidfed/v1 from the .proto files: `python protos/generate.py [--check]`.

With `--check` nothing is written; the exit status is 1 when a committed module differs from what the .proto files give.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
PACKAGE = Path("vidfed/v1")


def generate(target: Path) -> None:
    """Write messages, service stubs and type stubs of every .proto file below `target`."""
    sources = sorted(str(path) for path in (HERE / PACKAGE).glob("*.proto"))
    outputs = [f"--{kind}_out={target}" for kind in ("python", "grpc_python")]
    for kind in ("mypy", "mypy_grpc"):  # named by their place, so that the environment need not be activated
        outputs += [f"--plugin=protoc-gen-{kind}={Path(sys.executable).parent / f'protoc-gen-{kind}'}", f"--{kind}_out=quiet:{target}"]
    if protoc.main(["protoc", f"--proto_path={HERE}", *outputs, *sources]):
        raise SystemExit("protoc failed; its message stands above")
    for path in (target / PACKAGE).glob("*_pb2_grpc.py*"):
        if path.name.startswith("envelope"):  # protoc writes one for every file; this one has no service
            path.unlink()


def main() -> int:
    """Regenerate, or compare with `--check`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a committed module is out of date")
    check = parser.parse_args().check
    if not check:
        generate(HERE)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = {path.name: path.read_bytes() for path in (Path(folder) / PACKAGE).iterdir()}
    committed = {path.name: path.read_bytes() for path in (HERE / PACKAGE).glob("*_pb2*.py*")}
    stale = sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))
    for name in stale:
        print(f"{PACKAGE / name} is not what the .proto files give: run `make protos`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
