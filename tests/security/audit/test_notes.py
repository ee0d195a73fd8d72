"""Signed notes and checkpoints in the forms C2SP specifies."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidfed.security.audit.notes import Checkpoint, NoteSignature, log_origin, witness_name
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.errors import CheckpointError

KEY, OTHER = SigningKey(b"a" * 32), SigningKey(b"b" * 32)
NL, FR = log_origin("test", "nl"), witness_name("test", "fr")
PLAIN = Checkpoint(NL, 7, bytes(range(32)))
# The example of https://c2sp.org/tlog-cosignature
EXAMPLE = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
\u2014 witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
"""


def test_the_published_example_is_read_and_written_back_unchanged() -> None:
    checkpoint = Checkpoint.parse(EXAMPLE)
    assert (checkpoint.origin, checkpoint.size, len(checkpoint.signatures)) == ("example.com/behind-the-sofa", 20852163, 2)
    assert checkpoint.text == EXAMPLE


def test_the_examples_witness_signed_at_the_time_the_specification_says() -> None:
    cosignature = Checkpoint.parse(EXAMPLE).signatures[1]
    assert int.from_bytes(cosignature.value[:8], "big") == 1679315147
    assert len(cosignature.value) == 72


def test_key_ids_follow_the_specification() -> None:
    signed = PLAIN.signed_by(KEY)
    assert signed.signatures[0].key_id == hashlib.sha256(NL.encode() + b"\n\x01" + KEY.public.raw).digest()[:4]
    assert PLAIN.cosigned_by(FR, KEY, 1).key_id == hashlib.sha256(FR.encode() + b"\n\x04" + KEY.public.raw).digest()[:4]


def test_the_signed_text_is_the_three_lines() -> None:
    signed = PLAIN.signed_by(KEY)
    assert KEY.public.holds(f"{NL}\n7\n{base64.b64encode(PLAIN.root).decode()}\n".encode(), signed.signatures[0].value)
    signed.verify(NL, [KEY.public])


def test_a_cosignature_covers_the_time_and_the_three_lines() -> None:
    both = PLAIN.signed_by(KEY).with_signatures([PLAIN.cosigned_by(FR, OTHER, 1_679_315_147)])
    assert OTHER.public.holds(f"cosignature/v1\ntime 1679315147\n{PLAIN.body}".encode(), both.signatures[1].value[8:])
    assert [entry.time_s for entry in both.cosignatures(FR, [OTHER.public])] == [1_679_315_147]
    assert both.cosignatures(FR, [KEY.public]) == []
    assert Checkpoint.parse(both.text) == both


def test_a_cosignature_cannot_stand_for_the_logs_own_signature() -> None:
    forged = PLAIN.with_signatures([PLAIN.cosigned_by(NL, KEY, 1)])
    with pytest.raises(CheckpointError, match="not signed"):
        forged.verify(NL, [KEY.public])


def test_a_checkpoint_of_another_log_or_key_is_refused() -> None:
    signed = PLAIN.signed_by(KEY)
    for origin, key in ((NL, OTHER), (log_origin("test", "fr"), KEY), (log_origin("other", "nl"), KEY)):
        with pytest.raises(CheckpointError):
            signed.verify(origin, [key.public])


def test_a_checkpoint_whose_size_was_changed_is_refused() -> None:
    signed = PLAIN.signed_by(KEY)
    with pytest.raises(CheckpointError, match="does not hold"):
        Checkpoint.parse(signed.text.replace("\n7\n", "\n6\n")).verify(NL, [KEY.public])


def test_signatures_of_unknown_keys_are_ignored_beside_a_good_one() -> None:
    PLAIN.signed_by(OTHER).signed_by(KEY).verify(NL, [KEY.public])


@pytest.mark.parametrize(
    "broken",
    [
        "",
        PLAIN.body,
        PLAIN.signed_by(KEY).text.replace("\n7\n", "\n07\n"),
        PLAIN.signed_by(KEY).text.replace("\n7\n", "\n-7\n"),
        PLAIN.signed_by(KEY).text.replace("\n7\n", "\n\u0667\n"),
        PLAIN.signed_by(KEY).text.replace("\n7\n", f"\n{1 << 63}\n"),
        PLAIN.signed_by(KEY).text.replace("\n\n", "\nan extension line\n\n"),
        PLAIN.signed_by(KEY).text.replace("\u2014", "-"),
        PLAIN.signed_by(KEY).text[:-1],
        PLAIN.signed_by(KEY).text + "junk",
        PLAIN.signed_by(KEY).text.replace("vidfed", "vid\tfed"),
        PLAIN.signed_by(KEY).text + "x" * 70_000,
        "".join([PLAIN.body, "\n", *[PLAIN.signed_by(KEY).signatures[0].line] * 401]),
    ],
)
def test_what_is_not_exactly_a_checkpoint_is_refused(broken: str) -> None:
    with pytest.raises(CheckpointError):
        Checkpoint.parse(broken)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    try:
        checkpoint = Checkpoint.parse(text)
    except CheckpointError:
        return
    assert checkpoint.text == text


@given(st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32), st.from_regex(re.compile(r"[a-z/]{1,40}"), fullmatch=True))
def test_every_checkpoint_survives_being_written_and_read(size: int, root: bytes, origin: str) -> None:
    signed = Checkpoint(origin, size, root).signed_by(KEY)
    assert Checkpoint.parse(signed.text) == signed


def test_a_note_that_cannot_be_utf_8_is_refused() -> None:
    """A JSON file can hold half a character."""
    with pytest.raises(CheckpointError, match="UTF-8"):
        Checkpoint.parse("vidfed/\ud800\n0\nx\n\n\u2014 a b\n")


def test_a_signature_line_that_is_not_canonical_base64_is_refused() -> None:
    line = PLAIN.signed_by(KEY).signatures[0].line.rstrip("\n")
    assert NoteSignature.parse(line).line == line + "\n"
    for broken in (line + "=", line[:-2] + "B=", line.replace(" vidfed", " vid fed"), line.replace("vidfed", "vid+fed")):
        with pytest.raises(CheckpointError):
            NoteSignature.parse(broken)


@pytest.mark.parametrize("digits", [20, 4_301, 60_000])
def test_checkpoint_with_endless_size(digits: int) -> None:
    """Python refuses to read text of more than 4,300 digits as a number, with an error of its own kind."""
    with pytest.raises(CheckpointError, match="not a plain number"):
        Checkpoint.parse(PLAIN.signed_by(KEY).text.replace("\n7\n", f"\n{'9' * digits}\n"))


def test_the_largest_size_is_read_and_no_larger_one() -> None:
    text = PLAIN.signed_by(KEY).text
    assert Checkpoint.parse(text.replace("\n7\n", f"\n{(1 << 63) - 1}\n")).size == (1 << 63) - 1
    with pytest.raises(CheckpointError):
        Checkpoint.parse(text.replace("\n7\n", f"\n{1 << 63}\n"))
