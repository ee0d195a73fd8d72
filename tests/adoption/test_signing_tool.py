"""The one file that signs on a laptop which is never online: an interpreter of its own, in which nothing but PyNaCl can be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from deploy.signing_tool.build import build
from vidfed.cli.root import root
from vidfed.security.crypto.keys import PublicKey, SigningKey
from vidfed.security.trust.federation import FederationFolder

MOST_BYTES = 5_000_000
PASSPHRASE = b"four words drawn by lot"


class Laptop(NamedTuple):
    """The tool, the folder with what an interpreter may import beside the standard library, and the holder's files."""

    tool: Path
    importable: Path
    folder: Path

    def run(self, *arguments: str | Path) -> tuple[int, str]:
        """Run the tool. -S: nothing that is installed; -P: nothing of the folder one is in."""
        return self.python(self.tool, *arguments)

    def python(self, *arguments: str | Path) -> tuple[int, str]:
        command = [sys.executable, "-S", "-P", *map(str, arguments)]
        environment = {"PYTHONPATH": str(self.importable), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
        ran = subprocess.run(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        return ran.returncode, ran.stdout


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Laptop:
    folder = tmp_path_factory.mktemp("laptop")
    importable = folder / "importable"
    importable.mkdir()
    for name in ("nacl", "cffi", "_cffi_backend"):  # PyNaCl, and what it is bound with
        found = find_spec(name)
        assert found
        assert found.origin
        whole = Path(found.origin)
        source = whole.parent if whole.name == "__init__.py" else whole
        (importable / source.name).symlink_to(source)
    (folder / "words").write_bytes(PASSPHRASE)
    (folder / "words").chmod(0o600)
    return Laptop(build(folder / "vidfed-sign.pyz"), importable, folder)


def vidfed(*arguments: str | Path) -> None:
    ran = CliRunner().invoke(root, [str(argument) for argument in arguments])
    assert ran.exit_code == 0, ran.output


def test_the_tool_is_one_file_under_5_mb_and_needs_nothing_but_pynacl(laptop: Laptop) -> None:
    assert laptop.tool.stat().st_size < MOST_BYTES
    for name in ("cryptography", "click", "tuf", "vidfed", "grpc"):
        status, _ = laptop.python("-c", f"import {name}")
        assert status == 1, f"{name} can be imported: nothing is shown by this"
    status, said = laptop.run("--help")
    assert status == 0, said


def test_what_the_tool_signs_is_accepted_and_published(laptop: Laptop, tmp_path: Path) -> None:
    status, said = laptop.run("keygen", "anna.key", "--passphrase-file", "words")
    assert status == 0, said
    assert said.split("words of the key: ")[1].split(".")[0] == laptop.run("words", "anna.key.pub")[1].strip()
    ben = SigningKey.generate()
    public = {"anna": PublicKey.parse((laptop.folder / "anna.key.pub").read_text().split()[0]), "ben": ben.public}
    federation = FederationFolder.create(tmp_path / "federation", "example", public, 2)
    federation.sign(ben)
    draft = laptop.folder / "draft.json"
    draft.write_bytes(federation.draft_path.read_bytes())

    # Another key, a draft that was changed on its way: nothing is signed.
    SigningKey.generate().save(laptop.folder / "eve.key")
    status, said = laptop.run("sign", draft, "--key", "eve.key", "--yes")
    assert (status, "not one of those that can sign" in said) == (1, True), said
    changed = json.loads(draft.read_bytes())
    changed["root"]["signed"]["roles"]["root"]["threshold"] = 0
    (laptop.folder / "changed.json").write_text(json.dumps(changed))
    status, said = laptop.run("show", "changed.json")
    assert status == 1, said

    status, said = laptop.run("sign", draft, "--key", "anna.key", "--passphrase-file", "words", "--yes")
    assert status == 0, said
    assert f"words of this draft: {federation.draft().words}" in said
    assert "Signed as anna. Enough have signed." in said
    vidfed("trust", "publish", tmp_path / "federation", draft)

    # A member joins: what is shown is what is signed, judged from the anchor that is beside the draft.
    vidfed(
        *("node", "init", tmp_path / "nl", "--member", "nl", "--name", "Unit NL", "--contact", "desk@nl.example"),
        *("--anchor", tmp_path / "federation/anchor.json", "--endpoint", "node.nl.example:7443"),
    )
    vidfed("trust", "propose", "add-member", tmp_path / "federation", tmp_path / "nl/member.json")
    federation.sign(ben)
    draft.write_bytes(federation.draft_path.read_bytes())
    (laptop.folder / "anchor.json").write_bytes(federation.anchor_path.read_bytes())
    status, said = laptop.run("sign", draft, "--key", "anna.key", "--passphrase-file", "words", "--yes")
    assert status == 0, said
    assert "nl joins with the standing quarantine; words" in said
    assert "NOT COMPARED" not in said
    vidfed("trust", "publish", tmp_path / "federation", draft)
    assert "nl" in federation.directory().members

    # Another federation's anchor beside the draft: this is not the one that the laptop knows.
    other = FederationFolder.create(tmp_path / "other", "example", {"ben": ben.public}, 1)
    other.sign(ben)
    other.publish()
    status, said = laptop.run("show", draft, "--anchor", other.anchor_path)
    assert (status, "another federation" in said) == (1, True), said
