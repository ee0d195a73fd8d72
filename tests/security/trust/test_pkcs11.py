"""Keys in a token, on SoftHSM2: the same ceremony, the secret never in our memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidfed.security.crypto.pkcs11 import LIBRARY_VARIABLE, TokenName
from vidfed.security.errors import KeyFileError

LIBRARY = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "1234-5678"


def test_a_token_s_key_has_a_name() -> None:
    assert TokenName.parse("pkcs11:office/anna") == TokenName("office", "anna")
    for wrong in ("anna.key", "pkcs11:", "pkcs11:office", "pkcs11:/anna", "pkcs11:office/"):
        with pytest.raises(KeyFileError, match="is named pkcs11:TOKEN/LABEL"):
            TokenName.parse(wrong)


@pytest.fixture
def token(tmp_path: Path) -> dict[str, str]:
    """Make a token of its own; the environment to use it in. Each test runs in a process of its own: the library is loaded once."""
    assert LIBRARY.exists(), "this test needs SoftHSM2: apt-get install softhsm2"
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    environment = os.environ | {"SOFTHSM2_CONF": str(tmp_path / "softhsm2.conf"), LIBRARY_VARIABLE: str(LIBRARY)}
    made = ["softhsm2-util", "--init-token", "--free", "--label", "office", "--pin", PIN, "--so-pin", "8765-4321"]
    subprocess.run(made, check=True, capture_output=True, env=environment)
    return environment


def run(environment: dict[str, str], code: str) -> str:
    head = (
        "from vidfed.security.crypto.pkcs11 import TokenKey\nfrom vidfed.security.errors import KeyFileError\npin = lambda _: b'"
        + PIN
        + "'\n"
    )
    done = subprocess.run([sys.executable, "-c", head + code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_token_signs_what_ed25519_verifies_and_finds_its_key_again(token: dict[str, str]) -> None:
    made = run(token, "k = TokenKey('pkcs11:office/anna', pin, make=True)\nprint(k.public.text, k.public.holds(b'x', k.sign(b'x')), k)")
    again = run(token, "k = TokenKey('pkcs11:office/anna', pin)\nprint(k.public.text, k.public.holds(b'y', k.sign(b'y')), k)")
    assert made == again
    assert " True <TokenKey " in made


def test_a_wrong_pin_a_missing_key_and_a_missing_token_are_said(token: dict[str, str]) -> None:
    code = """
for name, pin in (('pkcs11:office/anna', b'9999'), ('pkcs11:office/nobody', b'1234-5678'), ('pkcs11:other/anna', b'1234-5678')):
    try:
        TokenKey(name, lambda _: pin)
    except KeyFileError as error:
        print(error)
"""
    wrong_pin, no_key, no_token = run(token, code).splitlines()
    assert wrong_pin.startswith("token office: PinIncorrect")
    assert no_key == "token office: 0 Ed25519 keys of the label 'nobody'"
    assert no_token.startswith("token other: NoSuchToken")


def test_an_administrator_with_a_token_signs_a_ceremony(token: dict[str, str], tmp_path: Path) -> None:
    phrase = tmp_path / "pin"
    phrase.write_text(PIN)
    phrase.chmod(0o600)

    def vidfed(*arguments: str) -> str:
        command = [sys.executable, "-m", "vidfed.cli", "trust", *arguments, "--passphrase-file", str(phrase)]
        done = subprocess.run(command, capture_output=True, text=True, env=token, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        return done.stderr

    vidfed("keygen", "pkcs11:office/anna")
    assert (tmp_path / "anna.pub").exists()
    said = vidfed(
        "create", "federation", "--federation", "test", "--threshold", "1", "--key", "anna.pub", "--sign", "pkcs11:office/anna", "--publish"
    )
    assert "Published version 1" in said


def test_without_a_library_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from vidfed.security.crypto.pkcs11 import TokenKey  # noqa: PLC0415 - beside its only use

    monkeypatch.delenv(LIBRARY_VARIABLE, raising=False)
    with pytest.raises(KeyFileError, match=r"must name the token's PKCS#11 library|need the extra"):
        TokenKey("pkcs11:office/anna", lambda _: b"1")
