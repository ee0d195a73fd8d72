"""Stands for systemctl on a machine of a test, where no systemd runs: starts and stops units by what their own files say.

Heeded: drop-ins (also those for a prefix of the name), User, WorkingDirectory, Environment, LoadCredential, CacheDirectory, ExecStart.
Not heeded: the confinement, for which there are tests of its own (tests/support/unit_filter.py). A timer runs its service once.
"""

import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

UNITS = Path("/etc/systemd/system")
RUN = Path("/run/units")
PATIENCE_S = 60.0


def settings(unit: str) -> dict[str, list[str]]:
    """Return what a unit's file and its drop-ins say, with the instance's name put in."""
    name, _, kind = unit.rpartition(".")
    template, _, instance = name.partition("@")
    words = template.split("-")
    folders = [UNITS / f"{'-'.join(words[:count])}-.{kind}.d" for count in range(1, len(words))]
    folders += [UNITS / f"{template}@.{kind}.d", UNITS / f"{unit}.d"]
    found: dict[str, list[str]] = {}
    for path in (UNITS / f"{template}@.{kind}", *(file for folder in folders for file in sorted(folder.glob("*.conf")))):
        for key, value in re.findall(r"^([A-Za-z]+)=(.*)$", path.read_text(), flags=re.MULTILINE):
            found.setdefault(key, []).append(value.replace("%i", instance).replace("%%", "%"))
    return found


def start(unit: str) -> None:
    """Start a unit, and wait until a service has said its first line or a job is done."""
    if unit.endswith(".timer"):
        unit = unit.removesuffix(".timer") + ".service"
    said = settings(unit)
    user = pwd.getpwnam(said["User"][-1])
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": user.pw_dir}
    for line in said.get("Environment", []):
        environment |= dict(word.split("=", 1) for word in shlex.split(line))
    for line in said.get("LoadCredential", []):
        name, _, source = line.partition(":")
        folder = Path("/run/credentials", unit)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
        for path, mode in ((folder, 0o500), (folder / name, 0o400)):
            path.chmod(mode)
            os.chown(path, user.pw_uid, user.pw_gid)
        environment["CREDENTIALS_DIRECTORY"] = str(folder)
    for name in said.get("CacheDirectory", []):
        Path("/var/cache", name).mkdir(mode=0o700, exist_ok=True)
        os.chown(Path("/var/cache", name), user.pw_uid, user.pw_gid)
    RUN.mkdir(exist_ok=True)
    log = RUN / f"{unit}.log"
    with log.open("wb") as out:
        command = shlex.split(said["ExecStart"][-1])
        where = said.get("WorkingDirectory", ["/"])[-1]
        os.umask(0o077)
        whole = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", *command)
        process = subprocess.Popen(
            whole, cwd=where, env=environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
        )
    (RUN / f"{unit}.pid").write_text(str(process.pid))
    if said["Type"][-1] == "oneshot":
        if process.wait():
            sys.exit(f"{unit}: {log.read_text()}")
        return
    until = time.monotonic() + PATIENCE_S
    while " on " not in log.read_text() and "keeping " not in log.read_text():
        if process.poll() is not None or time.monotonic() > until:
            sys.exit(f"{unit}: {log.read_text()}")
        time.sleep(0.05)


def stop(unit: str) -> None:
    """Stop a service as its unit would: SIGTERM, and wait."""
    path = RUN / f"{unit}.pid"
    if not path.exists():
        return
    pid = int(path.read_text())
    path.unlink()
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    until = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{pid}/stat").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        if time.monotonic() > until:
            sys.exit(f"{unit}: does not end")
        time.sleep(0.05)


def main() -> None:
    """Do what systemctl is asked for."""
    verb, *rest = [word for word in sys.argv[1:] if not word.startswith("-")]
    for name in rest:
        unit = name if name.endswith((".service", ".timer")) else f"{name}.service"
        if unit == "postgresql.service":
            for cluster in Path("/etc/postgresql").glob("*/*"):
                subprocess.run(("pg_ctlcluster", "--skip-systemctl-redirect", cluster.parent.name, cluster.name, "start"), check=True)
        elif verb in {"enable", "start"}:
            start(unit)
        elif verb in {"stop", "disable"}:
            stop(unit)
        elif verb == "restart":
            stop(unit)
            start(unit)


main()
