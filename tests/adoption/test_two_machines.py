"""docs/two-machines.md, typed on two fresh systems with a network between them, and on two laptops that have none."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.adoption.bundles import build
from tests.support.fresh_system import PACKAGES, needs_root
from tests.support.machines import Machine, join_by_cable, typed_in

if TYPE_CHECKING:
    from tests.adoption.bundles import Made
    from tests.support.machines import Typed

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/two-machines.md"
ADDRESSES = ("10.77.0.1", "10.77.0.2")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return build(tmp_path_factory.mktemp("bundle"), "--python", "3.11")


@needs_root
@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_two_machines_and_two_laptops_come_to_a_first_lookup_by_the_guide(bundle: Made, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir(mode=0o777)
    stick.chmod(0o777)
    (stick / "words").write_text("four words drawn by lot\n")
    (stick / "words").chmod(0o600)
    said: dict[int, str] = {}
    with ExitStack() as stack:
        machines = {name: Machine(tmp_path / name, (*PACKAGES, "nftables", "postgresql")) for name in ("nl", "fr")}
        for machine in machines.values():
            shutil.copytree(bundle.folder, machine.root / "media/bundle")
            shutil.copy(bundle.key, machine.root / "media/release.pem")
            stack.enter_context(machine)
            (machine.root / "media/stick").mkdir()
            assert machine.enter("mount", "--bind", str(stick), f"{machine.root}/media/stick").status == 0
        join_by_cable(machines["nl"], machines["fr"], ADDRESSES)
        for step in typed_in(GUIDE):
            if anchor := re.search(r"newcomers start from \S+, words (\S+)\.", "".join(said.values())):
                step = step._replace(command=re.sub(r"--words \S+", f"--words {anchor[1]}", step.command))  # noqa: PLW2901 - as read aloud
            status, text = type_at(machines[step.machine], step) if step.machine in machines else type_on_laptop(tmp_path, stick, step)
            assert status == 0, f"{GUIDE.name}:{step.line}: {step.command}\n{text}"
            said[step.line] = text
        found = next(text for text in said.values() if "COMPLETE" in text)
        assert "COMPLETE; answered 2, refused by policy 0, no answer 0;" in " ".join(found.split())
        assert "Lavande" in found
        tables = machines["nl"].run("runuser -u postgres -- psql -tA vidfed_nl -c 'select count(*) from records'")
        assert tables.text.split()[-1] == "1", "nl's records are not on PostgreSQL"

        rules = "\n".join(re.findall(r"```nft\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL))
        (machines["nl"].root / "root/rules").write_text(rules)
        checked = machines["nl"].run("nft --check --file /root/rules")
        assert checked.status == 0, checked.text


def type_at(machine: Machine, step: Typed) -> tuple[int, str]:
    return machine.run(step.command) if step.as_root else machine.run(step.command, user="vidfed", folder="/srv/vidfed")


def type_on_laptop(tmp_path: Path, stick: Path, step: Typed) -> tuple[int, str]:
    """Type a command on an administrator's laptop, which has no network at all."""
    laptop = tmp_path / f"laptop-{step.machine}"
    if not laptop.exists():
        laptop.mkdir()
        shutil.copy(stick / "words", laptop / "words")
    command = step.command.replace("/media/stick", str(stick)).replace("vidfed ", f"{sys.executable} -m vidfed.cli ", 1)
    ran = subprocess.run(
        ("unshare", "--net", "bash", "-c", command), cwd=laptop, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    for path in stick.iterdir():  # a stick knows no owners
        path.chmod(0o600 if path.name == "words" else 0o666)
    return ran.returncode, ran.stdout
