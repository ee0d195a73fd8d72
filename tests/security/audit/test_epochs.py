"""A log that was put back goes on under a new name, seen by all; one that lies about what it lost is not cosigned."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.security.audit.test_attacks_on_witnesses import FR, directory, forged, grow, refused, witness
from vidfed.security.audit.epochs import EpochStart
from vidfed.security.audit.notes import Checkpoint, epoch_of, log_origin
from vidfed.security.audit.verify import KnownCheckpoint, verify_log, vouched_for
from vidfed.security.audit.witness import Refusal, Witness
from vidfed.security.errors import AuditDamagedError, AuditError, CheckpointError
from vidfed.security.member.new_epoch import begin_epoch

if TYPE_CHECKING:
    from tests.security.audit.conftest import Bench
    from vidfed.security.identity.directory import Directory

__all__ = ["directory", "witness"]  # fixtures


def put_back(bench: Bench, size: int) -> None:
    """What a backup of that size leaves: its entries, its tree, its checkpoints."""
    bench.tamper("DELETE FROM entries WHERE position >= ?", (size,))
    bench.tamper("DELETE FROM checkpoints WHERE size > ?", (size,))
    for level in range(1, 8):
        bench.tamper("DELETE FROM hashes WHERE level = ? AND position >= ?", (level, size >> level))


def begin(bench: Bench, *known: Checkpoint, reason: str = "the disk failed") -> EpochStart:
    names = {"federation": "test", "member": "nl", "reason": reason, "operator": "root"}
    return begin_epoch(bench.location, bench.key, [(each, None) for each in known], clock=bench.clock, beside=bench.beside, **names)


def test_a_log_put_back_begins_a_new_epoch_and_is_cosigned_again(bench: Bench, directory: Directory, witness: Witness) -> None:
    with closing(bench.open()) as log:
        early = grow(bench, log, 3)
        witness.add_checkpoint(0, [], early.text, directory, "nl")
        late = grow(bench, log, 4)
        witness.add_checkpoint(3, log.prove_consistency(3, 7), late.text, directory, "nl")
    put_back(bench, 5)
    with pytest.raises(AuditDamagedError, match="new-epoch"):
        bench.open()
    start = begin(bench, late, early)
    assert (start.epoch, start.kept, start.lost, start.predecessor.size) == (2, 5, 2, 7)
    with closing(bench.open()) as log:
        checkpoint = log.checkpoint()
        assert (epoch_of(checkpoint.origin, "test", "nl"), checkpoint.size) == (2, 6)
        assert refused(witness, 5, log.prove_consistency(5, 6), checkpoint.text, directory).refusal is Refusal.EPOCH
        told = log.announcements()
        line = witness.add_checkpoint(5, log.prove_consistency(5, 6), checkpoint.text, directory, "nl", told)
        assert line
        more = grow(bench, log, 2)
        witness.add_checkpoint(6, log.prove_consistency(6, 8), more.text, directory, "nl", told)
        report = verify_log(log.storage, [bench.key.public], [KnownCheckpoint("fr", late), KnownCheckpoint("fr", early)])
    assert report.holds, report.findings
    assert any("2 are lost" in note for note in report.notes)
    (seen,) = witness.epochs(directory)
    assert (seen.member, seen.start, seen.held is not None and seen.held.size) == ("nl", start, 7)
    assert refused(witness, 7, [], late.text, directory).refusal is Refusal.EPOCH  # there is no way back to the old one


def test_an_epoch_that_names_less_than_was_cosigned_is_refused(bench: Bench, directory: Directory, witness: Witness) -> None:
    with closing(bench.open()) as log:
        early = grow(bench, log, 4)
        late = grow(bench, log, 4)
        witness.add_checkpoint(0, [], late.text, directory, "nl")
    bench.beside.unlink()
    put_back(bench, 3)
    begin(bench, early)
    with closing(bench.open()) as log:
        now = log.checkpoint()
        said = refused(witness, 3, log.prove_consistency(3, now.size), now.text, directory)
        assert said.refusal is Refusal.EPOCH
        with pytest.raises(AuditError, match="another epoch"):
            witness.add_checkpoint(3, log.prove_consistency(3, now.size), now.text, directory, "nl", log.announcements())
    begin(bench, late)  # its way on: the next epoch names what that witness holds
    with closing(bench.open()) as log:
        now = log.checkpoint()
        witness.add_checkpoint(3, log.prove_consistency(3, now.size), now.text, directory, "nl", log.announcements()[-1:])


def test_entries_that_an_epoch_says_it_keeps_are_those_that_were_cosigned(bench: Bench, directory: Directory, witness: Witness) -> None:
    with closing(bench.open()) as log:
        held = grow(bench, log, 4)
        witness.add_checkpoint(0, [], held.text, directory, "nl")
    lie = EpochStart("test", "nl", 2, 1, "lost", 6, b"\1" * 32, forged(bench, 9)).signed_by(bench.key)
    now = Checkpoint(log_origin("test", "nl", 2), 7, b"\2" * 32).signed_by(bench.key)
    with pytest.raises(AuditError, match="does not lead"):
        witness.add_checkpoint(4, [b"\3" * 32] * 3, now.text, directory, "nl", [lie.text])
    assert [each.kind for each in witness.evidence()] == ["unproven"]
    assert witness.epochs(directory) == []


def test_what_was_written_after_the_loss_is_not_said_to_be_kept(bench: Bench) -> None:
    with closing(bench.open()) as log:
        early = grow(bench, log, 2)
        late = grow(bench, log, 4)
    bench.beside.unlink()
    put_back(bench, 2)
    with closing(bench.open()) as log:
        grow(bench, log, 7)
    start = begin(bench, late, early)
    assert (start.kept, start.predecessor.size) == (2, 9)


def test_a_whole_log_that_was_lost_begins_with_nothing(bench: Bench) -> None:
    with closing(bench.open()) as log:
        late = grow(bench, log, 4)
    bench.beside.unlink()
    put_back(bench, 0)
    assert (begin(bench, late).kept, begin(bench, forged(bench, 6)).epoch) == (0, 3)


def test_a_log_that_continues_all_that_is_known_of_it_begins_nothing(bench: Bench) -> None:
    with closing(bench.open()) as log:
        known = grow(bench, log, 4)
        grow(bench, log, 1)
    with pytest.raises(AuditError, match="nothing is to be begun"):
        begin(bench, known)


def test_an_announcement_of_another_or_of_several_lines_is_none(file_bench: Bench) -> None:
    file_bench.fill(4)
    with pytest.raises(CheckpointError, match="reason"):
        begin(file_bench, forged(file_bench, 9), reason="one\ntwo")
    start = begin(file_bench, forged(file_bench, 9))
    with pytest.raises(CheckpointError, match="of another log"):
        EpochStart.parse(start.text).verify("test", "fr", [file_bench.key.public])
    with pytest.raises(CheckpointError, match="no signature"):
        EpochStart.parse(start.text).verify("test", "nl", [FR.public])


def test_only_what_holds_under_another_member_s_key_vouches(bench: Bench, directory: Directory) -> None:
    with closing(bench.open()) as log:
        now = grow(bench, log, 4)
        by_fr = now.with_signatures([now.cosigned_by("vidfed/test/fr/witness", FR, 5)])
        by_other = now.with_signatures([now.cosigned_by("vidfed/test/br/witness", FR, 5)])
        known = [KnownCheckpoint("witness fr", by_fr), KnownCheckpoint("witness br", by_other), KnownCheckpoint("witness fr", now)]
        report = verify_log(log.storage, [bench.key.public], known)
    assert vouched_for(report, known, directory) == {"fr": (4, 5)}


def test_an_announcement_that_nobody_signed_is_none(bench: Bench) -> None:
    start = EpochStart("test", "nl", 2, 1, "lost", 6, b"\1" * 32, forged(bench, 9))
    with pytest.raises(CheckpointError, match="nobody signed"):
        _ = start.text
