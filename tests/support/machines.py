"""Machines of a test: fresh systems, each with a network of its own, joined by a cable; and the commands of a guide, run on them."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.support.fresh_system import PATH, Said, unpack_fresh_system

if TYPE_CHECKING:
    from types import TracebackType

_PROMPT = re.compile(r"^([a-z]+)([#$]) (.*)$")
_PATIENCE_S = 30.0


class Typed(NamedTuple):
    """One command of a guide: its line, on which machine, as root or not, and what is typed."""

    line: int
    machine: str
    as_root: bool
    command: str


def typed_in(document: Path) -> list[Typed]:
    """Return the commands of a guide whose prompts name machines."""
    found: list[Typed] = []
    inside = False
    for number, line in enumerate(document.read_text().splitlines(), 1):
        if line.startswith("```"):
            inside = line == "```shell-session"
        elif inside and (prompt := _PROMPT.match(line)):
            found.append(Typed(number, prompt[1], prompt[2] == "#", prompt[3]))
        elif inside and found and found[-1].command.endswith("\\"):
            found[-1] = found[-1]._replace(command=f"{found[-1].command}\n{line}")
    return found


class Machine:
    """A fresh system with processes and a network of its own, at first with loopback only. All of it ends with the block."""

    def __init__(self, root: Path, packages: tuple[str, ...]) -> None:
        root.mkdir()
        unpack_fresh_system(root, packages)
        self.root = root
        self._exports: list[str] = []
        for path in ("proc", "dev/shm", "dev/pts"):
            (root / path).mkdir(exist_ok=True, parents=True)
        stands = root / "usr/local/bin/systemctl"
        stands.write_text("#!/usr/bin/python3\n" + Path(__file__).with_name("stands_for_systemctl.py").read_text())
        stands.chmod(0o755)

    def __enter__(self) -> Self:
        mounts = f"mount -t proc proc {self.root}/proc && mount -t tmpfs shm {self.root}/dev/shm"
        begin = f"{mounts} && ip link set lo up && echo up && exec sleep infinity"
        command = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", begin)
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout
        assert self._holder.stdout.readline() == "up\n"
        self.pid = int(Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._holder.kill()  # --kill-child: its processes go with it
        self._holder.wait()
        assert self._holder.stdout
        self._holder.stdout.close()

    def enter(self, *command: str, timeout: float = 300) -> Said:
        """Run a command of this machine's, not of the fresh system's, in its network."""
        whole = ("nsenter", "--target", str(self.pid), "--net", "--mount", "--pid", *command)
        ran = subprocess.run(
            whole,
            env={"PATH": PATH, "LANG": "C.UTF-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout,
        )
        return Said(ran.returncode, ran.stdout)

    def run(self, command: str, user: str = "root", folder: str = "/root") -> Said:
        """Type a command; what was exported by an earlier one holds."""
        if command.startswith("export "):
            self._exports.append(command)
        lines = "\n".join(["set -o pipefail", f"cd {folder}", *self._exports, command])
        who = () if user == "root" else ("runuser", "-u", user, "--")
        return self.enter("chroot", str(self.root), *who, "/bin/bash", "-c", lines)


def join_by_cable(one: Machine, other: Machine, addresses: tuple[str, str]) -> None:
    """Give two machines a network between them."""
    name = f"vf{one.pid}"
    subprocess.run(("ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p"), check=True)
    for machine, end, address in ((one, name, addresses[0]), (other, f"{name}p", addresses[1])):
        subprocess.run(("ip", "link", "set", end, "netns", str(machine.pid)), check=True)
        for command in (("addr", "add", f"{address}/24", "dev", end), ("link", "set", end, "up")):
            said = machine.enter("ip", *command)
            assert said.status == 0, said.text


def eventually(machine: Machine, command: str, **how: str) -> Said:
    """Type a command until it succeeds, for what other machines must have seen first."""
    until = time.monotonic() + _PATIENCE_S
    while (said := machine.run(command, **how)).status and time.monotonic() < until:
        time.sleep(0.5)
    return said
