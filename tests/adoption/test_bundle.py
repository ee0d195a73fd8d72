"""The archive for machines without internet: what is in it, who signed it, and that a machine which has nothing works from it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deploy.bundle.build import EXTRAS, BundleError, read_wheel
from tests.adoption.bundles import build, make_wheel
from tests.support.fresh_system import needs_root, run_inside, unpack_fresh_system
from vidfed.security.crypto.keys import SigningKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.adoption.bundles import Made

ROOT = Path(__file__).parents[2]
MOST_MB_OF_AN_ASKER = 300


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A bundle of our own wheel and two that hold nothing."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "wheels").mkdir()
    make_wheel(folder / "wheels", "pip")
    make_wheel(folder / "wheels", "alembic", needs=("pip>=1",))
    return build(folder, "--wheels", folder / "wheels", "--python", "{}.{}".format(*sys.version_info))


def openssl_verifies(key: Path, file: Path, signature: Path) -> bool:
    command = ("openssl", "pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin", "-in", file, "-sigfile", signature)
    return subprocess.run(list(map(str, command)), capture_output=True, check=False).returncode == 0


def test_a_bundle_names_everything_in_it_and_all_of_it_is_signed(small: Made) -> None:
    sums = small.archive.with_name(f"{small.archive.name}.sha256")
    assert openssl_verifies(small.key, sums, sums.with_name(f"{sums.name}.sig"))
    assert sums.read_text().split()[0] == hashlib.sha256(small.archive.read_bytes()).hexdigest()

    inside = small.folder / "SHA256SUMS"
    assert openssl_verifies(small.key, inside, small.folder / "SHA256SUMS.sig")
    listed = {name: digest for digest, _, name in (line.partition("  ./") for line in inside.read_text().splitlines())}
    files = {path.relative_to(small.folder).as_posix(): path for path in small.folder.rglob("*") if path.is_file()}
    assert listed.keys() == files.keys() - {"SHA256SUMS", "SHA256SUMS.sig"}
    assert all(hashlib.sha256(files[name].read_bytes()).hexdigest() == digest for name, digest in listed.items())
    assert {"install.sh", "uninstall.sh", "install.md", "systemd/vidfed-node@.service", "systemd/vidfed-backup@.timer"} <= listed.keys()
    assert all(os.access(small.folder / script, os.X_OK) for script in ("install.sh", "uninstall.sh"))

    bill = json.loads((small.folder / "sbom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    described = [bill["metadata"]["component"], *bill["components"]]
    assert {component["name"] for component in described} == {"vidfed", "pip", "alembic"}
    wheels = {one["url"]: one["hashes"][0]["content"] for component in described for one in component["externalReferences"]}
    assert wheels == {name: digest for name, digest in listed.items() if name.startswith("wheels/")}
    needed = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    assert needed["pkg:pypi/alembic@1.0"] == ["pkg:pypi/pip@1.0"]
    assert "pkg:pypi/alembic@1.0" in needed[bill["metadata"]["component"]["purl"]]
    terms = (small.folder / "LICENCES.txt").read_text()
    assert "alembic 1.0: MIT\n" in terms
    assert "the terms of pip" in terms


def test_the_installer_takes_the_parts_that_the_bundle_was_made_with() -> None:
    assert f"extras={EXTRAS}\n" in (ROOT / "deploy/bundle/install.sh").read_text()


def swap_a_wheel(folder: Path) -> None:
    make_wheel(folder / "wheels", "alembic", licence="0BSD")


def slip_a_wheel_in(folder: Path) -> None:
    make_wheel(folder / "wheels", "numpy")


def sign_it_themselves(folder: Path) -> None:
    slip_a_wheel_in(folder)
    shutil.copy(folder / "wheels/numpy-1.0-py3-none-any.whl", folder / "x")
    sums = (folder / "SHA256SUMS").read_bytes()
    (folder / "SHA256SUMS.sig").write_bytes(SigningKey.generate().sign(sums))


def lose_the_signature(folder: Path) -> None:
    (folder / "SHA256SUMS.sig").unlink()


@pytest.mark.parametrize(
    ("attack", "told"),
    [
        (swap_a_wheel, "not those that were signed"),
        (slip_a_wheel_in, "files here that nobody signed"),
        (sign_it_themselves, "not by the key"),
        (lose_the_signature, "not by the key"),
    ],
)
def test_a_bundle_that_was_touched_is_not_installed(small: Made, tmp_path: Path, attack: Callable[[Path], None], told: str) -> None:
    folder = shutil.copytree(small.folder, tmp_path / "bundle")
    attack(folder)
    target = tmp_path / "program"
    # As docs/install.md has it: the key beside the folder, named from where one is.
    command = (folder / "install.sh", "--key", small.key.name, "--part", "investigator", "--prefix", target)
    ran = subprocess.run(list(map(str, command)), cwd=small.key.parent, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert told in ran.stderr
    assert not list(tmp_path.glob("program*"))


def test_nobody_is_trusted_by_the_bundle_s_own_word(small: Made, tmp_path: Path) -> None:
    command = (str(small.folder / "install.sh"), "--part", "investigator", "--prefix", str(tmp_path / "program"))
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "--key is missing" in ran.stderr


@pytest.mark.parametrize("licence", ["", "GPL-3.0-only", "AGPL-3.0-or-later"])
def test_a_package_that_may_not_be_handed_on_is_not_packed(tmp_path: Path, licence: str) -> None:
    with pytest.raises(BundleError, match="licence"):
        read_wheel(make_wheel(tmp_path, "other", licence))
    assert read_wheel(make_wheel(tmp_path, "other", "LGPL-3.0-only")).licence == "LGPL-3.0-only"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The bundle as it is handed out, for every version of Python there is here; fetches the wheels."""
    return build(tmp_path_factory.mktemp("whole"))


def megabytes(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_symlink()) / 1e6


@needs_root
@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
def test_a_fresh_machine_without_network_is_set_up_from_the_bundle_and_cleared_again(whole: Made, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    unpack_fresh_system(root)
    shutil.copytree(whole.folder, root / "media/bundle")
    shutil.copy(whole.key, root / "media/release.pem")
    before = {path for path in root.glob("*/*") if "media" not in path.parts}
    installed = run_inside(root, "/media/bundle/install.sh --key /media/release.pem")
    assert installed.status == 0, installed.text

    said = run_inside(root, "ping -c1 -W1 192.0.2.1 || python3 -c 'import socket; socket.create_connection((\"192.0.2.1\", 80), 1)'")
    assert said.status != 0, "there was a network after all"
    # As the user it made, with what it installed, a whole federation, searched, answered and verified.
    demo = run_inside(root, "runuser -u vidfed -- env HOME=/srv/vidfed vidfed demo --folder /srv/vidfed/demo", timeout=600)
    assert demo.status == 0, demo.text[-3000:]
    assert "COMPLETE; answered 3" in " ".join(demo.text.split())
    facts = run_inside(root, "stat -c '%U %a %n' /srv/vidfed /srv/backup; getent passwd vidfed; ls /etc/systemd/system").text
    for fact in ("vidfed 700 /srv/vidfed", "vidfed 700 /srv/backup", "/usr/sbin/nologin", "vidfed-node@.service", "vidfed-backup@.timer"):
        assert fact in facts
    completed = run_inside(root, ". /usr/share/bash-completion/completions/vidfed && complete -p vidfed")
    assert completed.status == 0, completed.text
    again = run_inside(root, "/media/bundle/install.sh --key /media/release.pem")
    assert again.status == 0, "a second run finds all in place: " + again.text

    removed = run_inside(root, "/opt/vidfed/uninstall.sh")
    assert removed.status == 0, removed.text
    assert "hold data and stay" in removed.text
    assert (root / "srv/vidfed/demo").is_dir(), "data were deleted"
    run_inside(root, "rm -r /srv/vidfed/* /srv/vidfed/.[!.]*")
    assert run_inside(root, "/media/bundle/install.sh --key /media/release.pem && /opt/vidfed/uninstall.sh").status == 0
    assert (
        "vidfed"
        not in run_inside(
            root, "getent passwd; ls /opt /srv /etc/systemd/system /usr/local/bin /usr/share/bash-completion/completions"
        ).text
    )
    left = {path for path in root.glob("*/*") if "media" not in path.parts} - before
    assert left <= {root / "etc/shadow-", root / "etc/gshadow-"}, "more is left than what userdel keeps as it was"


@needs_root
@pytest.mark.exhaustive
@pytest.mark.timeout(600)
def test_every_python_it_names_gets_an_investigator_s_program_of_under_300_mb_without_network(whole: Made, tmp_path: Path) -> None:
    facts = dict(line.split("=") for line in (whole.folder / "BUNDLE").read_text().splitlines())
    picture = tmp_path / "noise.png"
    code = "import os, sys; from PIL import Image; Image.frombytes('RGB', (300, 200), os.urandom(180000)).save(sys.argv[1])"
    subprocess.run((sys.executable, "-c", code, str(picture)), check=True)
    rows = []
    for version in facts["pythons"].split():
        prefix = tmp_path / f"vidfed{version}"
        (python,) = (path for path in interpreters_here(version))
        command = (whole.folder / "install.sh", "--key", whole.key, "--part", "investigator", "--prefix", prefix, "--python", python)
        installed = subprocess.run(("unshare", "--net", *map(str, command)), capture_output=True, text=True, check=False)
        assert installed.returncode == 0, installed.stderr
        assert megabytes(prefix.resolve()) < MOST_MB_OF_AN_ASKER
        assert not list(prefix.glob("lib/python*/site-packages/faiss")), "the asker's part brings what only nodes need"
        hashed = subprocess.run(
            ("unshare", "--net", f"{prefix}/bin/vidfed", "hash", "--json", str(picture)), capture_output=True, text=True, check=False
        )
        assert hashed.returncode == 0, hashed.stderr
        rows.append(hashed.stdout)
    assert len(set(rows)) == 1, "the same picture has other hashes under another Python"


def interpreters_here(version: str) -> list[str]:
    from deploy.bundle.build import interpreters  # noqa: PLC0415 - beside the one test that asks

    return [interpreters((version,))[version]]


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_the_wheel_alone_gives_a_working_program_in_a_clean_environment(whole: Made, tmp_path: Path) -> None:
    (wheel,) = (whole.folder / "wheels").glob("vidfed-*.whl")
    subprocess.run((sys.executable, "-m", "venv", str(tmp_path / "clean")), check=True)
    clean = tmp_path / "clean/bin"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIDFED_"))} | {
        "HOME": str(tmp_path)
    }

    def run(*command: str | Path) -> str:
        ran = subprocess.run(list(map(str, command)), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    run(clean / "pip", "install", "--quiet", wheel)
    assert run(clean / "vidfed", "--version").startswith("vidfed ")
    refused = subprocess.run(
        (str(clean / "vidfed"), "node", "status"), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "[node]" in refused.stderr, "it does not say which part is missing"
    run(clean / "pip", "install", "--quiet", f"{wheel}[node]")
    assert "COMPLETE; answered 3" in " ".join(run(clean / "vidfed", "demo").split())
