"""Makes the bundle: one signed archive with which a machine without internet is set up (`make bundle KEY=release.key`, docs/install.md).

Beside the archive lie its checksum, the signature over that checksum and the public key; inside it every file is summed and signed again,
so that what is checked before the archive is opened is checked again by what installs from it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import email.parser
import email.policy
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from deploy.signing_tool.build import build as build_signing_tool
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.errors import SecurityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vidfed.security.crypto.keys import Signer

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.11", "3.12", "3.13")
COMPILED_HERE = "pdqhash"
"""The only dependency without wheels: it is compiled, once for each version of Python."""
EXTRAS = "desk,hsm,mysql,node,postgresql"
"""What the bundle holds beyond the investigator's part; `install.sh` names the same."""
SCRIPTS = ("install.sh", "uninstall.sh")
_FORBIDDEN = re.compile(r"(?<!L)A?GPL|GNU (Affero )?General Public", flags=re.IGNORECASE)
_LICENCE_FILES = re.compile(r"(^|/)(LICEN[CS]E|COPYING|NOTICE|AUTHORS)[^/]*$", flags=re.IGNORECASE)


class BundleError(Exception):
    """The bundle cannot be made; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """What is read of one wheel."""

    path: Path
    name: str
    version: str
    licence: str
    summary: str
    requires: tuple[str, ...]
    licence_texts: tuple[tuple[str, str], ...]
    native: tuple[str, ...]
    """Shared libraries of others that the wheel carries, by their names in it."""

    @property
    def purl(self) -> str:
        """The package URL: what vulnerability scanners look a component up by."""
        return f"pkg:pypi/{canonicalize_name(self.name)}@{self.version}"


def read_wheel(path: Path) -> Wheel:
    """Read a wheel's metadata.

    Raises:
        BundleError: it is no wheel, says no licence, or one that may not be handed out with this program.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            (folder,) = {name.split("/", 1)[0] for name in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)}
            fields = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(archive.read(f"{folder}/METADATA"))
            texts = tuple(
                (name, archive.read(name).decode("utf-8", "replace"))
                for name in sorted(names)
                if name.startswith(f"{folder}/") and _LICENCE_FILES.search(name)
            )
            native = tuple(sorted(name for name in names if re.search(r"(^|/)[^/]*\.libs/[^/]+$", name)))
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise BundleError(f"{path}: not a wheel: {error}") from None
    licence = _licence(fields)
    if not licence:
        raise BundleError(f"{path.name}: its metadata names no licence; find out, before it is handed on")
    if _FORBIDDEN.search(licence):
        raise BundleError(f"{path.name}: its licence is {licence}; that is not handed out with this program (docs/dependencies.md)")
    return Wheel(
        path,
        str(fields["Name"]),
        str(fields["Version"]),
        licence,
        str(fields["Summary"] or "").strip(),
        tuple(str(value) for value in fields.get_all("Requires-Dist", ())),
        texts,
        native,
    )


def _licence(fields: Any) -> str:  # noqa: ANN401 - email.message.Message, whose stubs differ by policy
    """Return what a wheel says of its licence: the SPDX expression, else the classifiers, else the first line of the free text."""
    if fields["License-Expression"]:
        return str(fields["License-Expression"]).strip()
    classifiers = [str(value).rsplit(" :: ", 1)[-1] for value in fields.get_all("Classifier", ()) if str(value).startswith("License ::")]
    if classifiers:
        return " or ".join(classifiers)
    return next((line.strip() for line in str(fields["License"] or "").splitlines() if line.strip()), "")


def interpreters(wanted: Iterable[str]) -> dict[str, str]:
    """Return a path of an interpreter for each version that this machine has.

    Raises:
        BundleError: there is none.
    """
    found: dict[str, str] = {}
    for version in wanted:
        for candidate in (f"python{version}", *sorted(str(path) for path in _pyenv(version))):
            program = shutil.which(candidate)
            if program and _is(program, version):
                found[version] = program
                break
        else:
            print(f"vidfed: no Python {version} here: the bundle will not serve machines that have only that one", file=sys.stderr)
    if not found:
        raise BundleError(f"none of Python {', '.join(wanted)} is here; {COMPILED_HERE} must be compiled for each")
    return found


def _pyenv(version: str) -> list[Path]:
    return list(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions").glob(f"{version}.*/bin/python"))


def _is(program: str, version: str) -> bool:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    ran = subprocess.run((program, "-c", code), capture_output=True, text=True, check=False)
    return ran.returncode == 0 and ran.stdout.strip() == version


def fetch(pythons: dict[str, str], requirements: Path, into: Path) -> None:
    """Bring the wheels of everything in `requirements`, each checked against its hash there, and compile the one that has none.

    Raises:
        BundleError: pip could not.
    """
    for version, program in pythons.items():
        print(f"vidfed: wheels for Python {version}", file=sys.stderr)
        _pip(
            (program, "-m", "pip", "wheel", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
            ("--no-binary", COMPILED_HERE, "--wheel-dir", str(into), "--requirement", str(requirements)),
        )
    # With which the wheels are installed: a machine may have Python and no pip. The one file that is not pinned by us, but is signed.
    _pip(
        (next(iter(pythons.values())), "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"),
        ("--dest", str(into), "pip"),
    )


def _pip(command: tuple[str, ...], options: tuple[str, ...]) -> None:
    ran = subprocess.run((*command, "--disable-pip-version-check", *options), capture_output=True, text=True, check=False)
    if ran.returncode:
        raise BundleError(f"{' '.join(command)}:\n{ran.stderr.strip()}")


def build_own_wheel(into: Path) -> Path:
    """Build this program's wheel and return its path.

    Raises:
        BundleError: it could not be built.
    """
    command = (sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(into))
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    made = sorted(into.glob("vidfed-*.whl"))
    if ran.returncode or len(made) != 1:
        raise BundleError(f"the wheel could not be built:\n{ran.stderr.strip()}")
    return made[0]


def sbom(own: Wheel, wheels: list[Wheel], made: dt.datetime) -> dict[str, Any]:
    """Return the software bill of materials as CycloneDX 1.6: one component for each package, with all its files and their hashes."""
    packages: dict[str, list[Wheel]] = {}
    for wheel in wheels:
        packages.setdefault(wheel.purl, []).append(wheel)
    by_name = {canonicalize_name(files[0].name): purl for purl, files in packages.items()}
    needs = {purl: sorted(_needed(files[0], by_name) - {purl}) for purl, files in packages.items()}
    content = {
        "metadata": {
            "timestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "tools": {"components": [{"type": "application", "name": "vidfed deploy/bundle/build.py", "version": own.version}]},
            "component": _component(own.purl, [own]) | {"type": "application"},
        },
        "components": [_component(purl, files) for purl, files in sorted(packages.items()) if purl != own.purl],
        "dependencies": [{"ref": purl, "dependsOn": needed} for purl, needed in sorted(needs.items())],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
    head = {"$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.6"}
    return head | {"serialNumber": f"urn:uuid:{serial}", "version": 1} | content


def _component(purl: str, files: list[Wheel]) -> dict[str, Any]:
    first = files[0]
    return {
        "type": "library",
        "bom-ref": purl,
        "name": first.name,
        "version": first.version,
        "purl": purl,
        "description": first.summary,
        "licenses": [{"license": {"name": first.licence}}],
        "externalReferences": [
            {"type": "distribution", "url": f"wheels/{one.path.name}", "hashes": [{"alg": "SHA-256", "content": sha256(one.path)}]}
            for one in files
        ],
        "properties": [{"name": "vidfed:native-library", "value": name} for name in sorted({name for one in files for name in one.native})],
    }


def _needed(wheel: Wheel, by_name: Mapping[NormalizedName, str]) -> set[str]:
    """Return what of the bundle a wheel needs, under any marker: a list of parts is better too long than too short."""
    names = (canonicalize_name(Requirement(text).name) for text in wheel.requires)
    return {by_name[name] for name in names if name in by_name}


def licences(wheels: list[Wheel]) -> str:
    """Return the list of licences, then their texts as the packages carry them."""
    packages = {wheel.purl: wheel for wheel in wheels}
    ordered = sorted(packages.values(), key=lambda wheel: canonicalize_name(wheel.name))
    lines = ["Licences of everything in this bundle, as each package states it; the texts follow.", ""]
    lines += [f"{wheel.name} {wheel.version}: {wheel.licence}" for wheel in ordered]
    for wheel in ordered:
        for name, text in wheel.licence_texts:
            lines += ["", "=" * 78, f"{wheel.name} {wheel.version}: {name}", "=" * 78, "", text.rstrip()]
    return "\n".join(lines) + "\n"


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(folder: Path, key: Signer) -> None:
    """Write SHA256SUMS over every file in `folder`, and its signature."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{sha256(path)}  ./{path.relative_to(folder).as_posix()}\n" for path in files).encode()
    (folder / "SHA256SUMS").write_bytes(sums)
    (folder / "SHA256SUMS.sig").write_bytes(key.sign(sums))


def write_archive(folder: Path, archive: Path, made: dt.datetime) -> None:
    """Pack `folder`, the same bytes for the same files: in order, of nobody, all of one time. Wheels are compressed already."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mtime = int(made.timestamp())
        member.mode = 0o755 if member.isdir() or member.name.endswith(".sh") else 0o644
        return member

    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as packed:
        for path in (folder, *sorted(folder.rglob("*"))):
            packed.add(path, path.relative_to(folder.parent).as_posix(), recursive=False, filter=plain)


def public_pem(key: Signer) -> bytes:
    """Return the public key as OpenSSL reads it."""
    return Ed25519PublicKey.from_public_bytes(key.public.raw).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def made_at() -> dt.datetime:
    """Return the time that stands in what is built: that of the commit, so that two who build the same get the same."""
    stamp = os.environ.get("SOURCE_DATE_EPOCH")
    if stamp is None:
        ran = subprocess.run(("git", "-C", str(ROOT), "log", "-1", "--format=%ct"), capture_output=True, text=True, check=False)
        stamp = ran.stdout.strip() if ran.returncode == 0 else "0"
    return dt.datetime.fromtimestamp(int(stamp), tz=dt.UTC)


def make(key: Signer, out: Path, *, wheels: Path | None, requirements: Path, pythons: tuple[str, ...]) -> Path:
    """Make the bundle in the folder `out` and return the archive's path.

    Args:
        key: signs it.
        out: made if it is not there; an older bundle of the same name there is replaced.
        wheels: a folder that already holds the wheels, with which nothing is fetched; None fetches them.
        requirements: the pinned, hashed list of what is fetched.
        pythons: versions of Python to be served.

    Raises:
        BundleError: a part is missing.
    """
    made = made_at()
    machine = platform.machine()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".bundle-") as work:
        built = Path(work, "own")
        own = read_wheel(build_own_wheel(built))
        name = f"vidfed-{own.version}-linux-{machine}"
        folder = Path(work, name)
        shelf = folder / "wheels"
        shelf.mkdir(parents=True)
        served = interpreters(pythons)
        if wheels is None:
            fetch(served, requirements, shelf)
        else:
            for path in sorted(wheels.glob("*.whl")):
                shutil.copyfile(path, shelf / path.name)
        shutil.copyfile(own.path, shelf / own.path.name)
        held = [read_wheel(path) for path in sorted(shelf.iterdir())]
        if not any(wheel.name == "pip" for wheel in held):
            raise BundleError(f"{wheels}: no wheel of pip, with which the others are installed")
        for script in SCRIPTS:
            shutil.copyfile(ROOT / "deploy/bundle" / script, folder / script)
        shutil.copytree(ROOT / "deploy/systemd", folder / "systemd")
        build_signing_tool(folder / "vidfed-sign.pyz")
        for document in ("LICENSE", "README.md", "docs/install.md"):
            shutil.copyfile(ROOT / document, folder / Path(document).name)
        (folder / "sbom.cdx.json").write_text(json.dumps(sbom(own, held, made), indent=1) + "\n", encoding="utf-8")
        (folder / "LICENCES.txt").write_text(licences(held), encoding="utf-8")
        # Read by install.sh, line by line.
        facts = {"version": own.version, "machine": machine, "pythons": " ".join(served), "glibc": platform.libc_ver()[1]}
        (folder / "BUNDLE").write_text("".join(f"{name}={value}\n" for name, value in facts.items()), encoding="utf-8")
        write_sums(folder, key)
        archive = Path(work, f"{name}.tar")
        write_archive(folder, archive, made)
        sums = f"{sha256(archive)}  {archive.name}\n".encode()
        for suffix, content in ((".tar.sha256", sums), (".tar.sha256.sig", key.sign(sums)), (".pem", public_pem(key))):
            (out / f"{name}{suffix}").write_bytes(content)
        return archive.replace(out / archive.name)


def main() -> None:
    """Parse the command line, make the bundle, say what to do with it."""
    parser = argparse.ArgumentParser(prog="make bundle", description="Make one signed archive for machines without internet.")
    parser.add_argument("--key", required=True, type=Path, help="key file to sign with; `vidfed trust keygen release.key` makes one")
    parser.add_argument("--passphrase-file", type=Path, help="file with the key's passphrase; it is asked for otherwise")
    parser.add_argument("--out", default=ROOT / "dist", type=Path, help="folder for what is made (default: dist)")
    parser.add_argument("--wheels", type=Path, help="folder that holds the wheels already: nothing is fetched")
    parser.add_argument(
        "--requirements", default=ROOT / "requirements/bundle.txt", type=Path, help="pinned, hashed list of what is fetched"
    )
    parser.add_argument("--python", action="append", dest="pythons", choices=PYTHONS, help="serve this version only; may be repeated")
    given = parser.parse_args()
    try:
        key = SigningKey.load(given.key, lambda what: _passphrase(given.passphrase_file, what))
        pythons = tuple(given.pythons or PYTHONS)
        archive = make(key, given.out, wheels=given.wheels, requirements=given.requirements, pythons=pythons)
    except (BundleError, SecurityError, OSError) as error:
        raise SystemExit(f"vidfed: {error}") from None
    print(f"{archive}: {archive.stat().st_size / 1e6:.0f} MB, signed by {key.public.key_id}")
    print(f"Hand out {archive.name}, {archive.name}.sha256 and {archive.name}.sha256.sig; {archive.stem}.pem by another way, once.")


def _passphrase(file: Path | None, what: str) -> bytes:
    from getpass import getpass  # noqa: PLC0415 - a terminal's, seldom needed

    if file is not None:
        return file.read_bytes().rstrip(b"\r\n")
    return getpass(f"Passphrase of {what}: ").encode()


if __name__ == "__main__":
    main()
