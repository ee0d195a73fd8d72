"""Keys and key files: what is refused, what never shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidfed.security.crypto.keys import PublicKey, SigningKey
from vidfed.security.errors import KeyFileError

if TYPE_CHECKING:
    from pathlib import Path

# RFC 8032, section 7.1, test 2
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_signatures_are_those_of_rfc_8032() -> None:
    key = SigningKey(SEED)
    assert key.public.raw == PUBLIC
    assert key.sign(b"\x72") == SIGNATURE
    assert key.public.holds(b"\x72", SIGNATURE)


@given(st.binary(max_size=100), st.integers(0, 511))
def test_a_flipped_bit_of_a_signature_does_not_hold(message: bytes, bit: int) -> None:
    key = SigningKey(SEED)
    signature = bytearray(key.sign(message))
    signature[bit // 8] ^= 1 << bit % 8
    assert not key.public.holds(message, bytes(signature))


@pytest.mark.parametrize("length", [0, 1, 63, 65, 128])
def test_a_signature_of_the_wrong_length_does_not_hold(length: int) -> None:
    assert not SigningKey(SEED).public.holds(b"", bytes(length))


def test_a_saved_key_is_private_and_comes_back(tmp_path: Path) -> None:
    key = SigningKey.generate()
    key.save(tmp_path / "signing.key")
    assert (tmp_path / "signing.key").stat().st_mode & 0o777 == 0o600
    assert SigningKey.load(tmp_path / "signing.key").public == key.public


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o601])
def test_a_key_file_that_others_can_touch_is_refused_with_the_command_that_repairs_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "signing.key"
    SigningKey.generate().save(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"chmod 600 {path}"):
        SigningKey.load(path)


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"signing\.key: no such key file"):
        SigningKey.load(tmp_path / "signing.key")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"seed"',
        b"{}",
        b'{"kind": "vidfed-ed25519-seed/2", "public": "", "seed": ""}',
        b'{"kind": "vidfed-ed25519-seed/1", "public": ""}',
        b'{"kind": "vidfed-ed25519-seed/1", "public": "", "seed": 5}',
        b'{"kind": "vidfed-ed25519-seed/1", "public": "", "seed": "AAAA"}',
        b'{"kind": "vidfed-ed25519-seed/1", "public": "", "seed": "not base64"}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_key_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "signing.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=str(path)):
        SigningKey.load(path)


def test_a_key_file_whose_secret_is_not_that_of_its_public_half_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    SigningKey.generate().save(path)
    fields = json.loads(path.read_bytes())
    fields["public"] = SigningKey.generate().public.text
    path.write_text(json.dumps(fields))
    with pytest.raises(KeyFileError, match="damaged"):
        SigningKey.load(path)


def test_nothing_secret_is_in_any_text_of_a_key() -> None:
    key = SigningKey(SEED)
    shown = f"{key!r} {key} {key:} {vars(type(key))}"
    assert key.public.key_id in shown
    assert SEED.hex() not in shown
    assert "TM0Imyj/ltqdtsNG7BFODw" not in shown  # the seed's base64
    assert not hasattr(key, "__dict__")


def test_an_error_about_a_damaged_key_file_does_not_quote_it(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    path.write_bytes(b'{"kind": "vidfed-ed25519-seed/1", "public": "", "seed": "c2VjcmV0c2VjcmV0"}')
    path.chmod(0o600)
    with pytest.raises(KeyFileError) as caught:
        SigningKey.load(path)
    assert "c2Vj" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("text", ["", "AAAA", "ä", "A" * 44, "====", "not base64 at all"])
def test_a_public_key_that_is_not_32_bytes_of_base64_is_refused(text: str) -> None:
    with pytest.raises(KeyFileError):
        PublicKey.parse(text)


def test_a_public_key_survives_its_text() -> None:
    key = SigningKey.generate().public
    assert PublicKey.parse(key.text) == key
