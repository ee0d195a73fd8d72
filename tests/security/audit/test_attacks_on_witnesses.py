"""The rules of tlog-witness, and what a log that lies can and cannot do. Each test is named after the attack or the rule."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from vidfed.security.audit.merkle import EMPTY_ROOT
from vidfed.security.audit.notes import MAX_SIGNATURES, Checkpoint, NoteSignature, log_origin, witness_name
from vidfed.security.audit.witness import Refusal, Witness, WitnessRefusalError
from vidfed.security.crypto.keys import PublicKey, SigningKey
from vidfed.security.identity.directory import Directory, Member

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.security.audit.conftest import Bench
    from vidfed.security.audit import AuditLog

FR, BR = SigningKey(b"f" * 32), SigningKey(b"b" * 32)


def member(name: str, key: SigningKey) -> Member:
    return Member(name, name, "host:1", (SigningKey(b"s" * 32).public,), (key.public,), b"", "")


@pytest.fixture
def directory(bench: Bench) -> Directory:
    members = {"nl": member("nl", bench.key), "fr": member("fr", FR), "br": member("br", BR)}
    return Directory("test", 1, 0, 1 << 60, MappingProxyType(members))


@pytest.fixture
def witness(tmp_path: Path, bench: Bench) -> Iterator[Witness]:
    location = bench.location if isinstance(bench.location, str) else tmp_path / "fr.db"
    with closing(Witness(location, federation="test", member="fr", signer=FR, clock=bench.clock)) as opened:
        yield opened


def grow(bench: Bench, log: AuditLog, count: int) -> Checkpoint:
    log.append_many([bench.entry(number) for number in range(count)])
    return log.checkpoint()


def forged(bench: Bench, size: int, root: bytes = bytes(32)) -> Checkpoint:
    """What a lying operator can make: anything at all, signed with the true key."""
    return Checkpoint(bench.origin, size, root).signed_by(bench.key)


def refused(witness: Witness, old: int, proof: list[bytes], note: str, directory: Directory, caller: str = "nl") -> WitnessRefusalError:
    with pytest.raises(WitnessRefusalError) as caught:
        witness.add_checkpoint(old, proof, note, directory, caller)
    return caught.value


def test_a_growing_log_is_cosigned_step_by_step(bench: Bench, log: AuditLog, witness: Witness, directory: Directory) -> None:
    old = 0
    for count in (3, 5, 300):
        now = grow(bench, log, count)
        line = witness.add_checkpoint(old, log.prove_consistency(old, now.size), now.text, directory, "nl")
        both = now.with_signatures([NoteSignature.parse(line.rstrip("\n"))])
        assert [c.time_s for c in both.cosignatures(witness_name("test", "fr"), [FR.public])] == [bench.now_ms // 1000]
        old = now.size
    assert witness.evidence() == []
    assert witness.witnessed()["nl"][1].size == 308


def test_the_same_checkpoint_may_be_cosigned_again(bench: Bench, log: AuditLog, witness: Witness, directory: Directory) -> None:
    now = grow(bench, log, 3)
    witness.add_checkpoint(0, [], now.text, directory, "nl")
    witness.add_checkpoint(3, [], now.text, directory, "nl")
    assert witness.evidence() == []


def test_an_old_size_that_is_not_the_last_one_is_told_the_last_one(
    bench: Bench, log: AuditLog, witness: Witness, directory: Directory
) -> None:
    first = grow(bench, log, 3)
    witness.add_checkpoint(0, [], first.text, directory, "nl")
    now = grow(bench, log, 4)
    for old in (0, 2):
        error = refused(witness, old, [], now.text, directory)
        assert (error.refusal, error.latest_size) == (Refusal.CONFLICT, 3)


def test_smaller_checkpoint(bench: Bench, log: AuditLog, witness: Witness, directory: Directory) -> None:
    small, large = grow(bench, log, 3), grow(bench, log, 4)
    witness.add_checkpoint(0, [], large.text, directory, "nl")
    assert refused(witness, 7, [], small.text, directory).refusal is Refusal.BAD_REQUEST
    assert refused(witness, 3, [], small.text, directory).refusal is Refusal.CONFLICT
    assert refused(witness, 0, [], small.text, directory).refusal is Refusal.CONFLICT
    assert witness.witnessed()["nl"][1].size == 7


def test_same_size_other_root(bench: Bench, log: AuditLog, witness: Witness, directory: Directory) -> None:
    true = grow(bench, log, 3)
    witness.add_checkpoint(0, [], true.text, directory, "nl")
    lie = forged(bench, 3)
    assert refused(witness, 3, [], lie.text, directory).refusal is Refusal.CONFLICT
    (evidence,) = witness.evidence()
    assert (evidence.kind, evidence.member) == ("fork", "nl")
    for note in (evidence.held, evidence.shown):
        note.verify(log_origin("test", "nl"), [bench.key.public])  # the log's own signatures convict it
    assert evidence.held.root != evidence.shown.root


def test_same_size_other_root_pretending_to_know_nothing(bench: Bench, log: AuditLog, witness: Witness, directory: Directory) -> None:
    witness.add_checkpoint(0, [], grow(bench, log, 3).text, directory, "nl")
    assert refused(witness, 0, [], forged(bench, 3).text, directory).refusal is Refusal.CONFLICT
    assert [entry.kind for entry in witness.evidence()] == ["fork"]


def test_a_longer_log_that_does_not_continue_the_cosigned_one(bench: Bench, log: AuditLog, witness: Witness, directory: Directory) -> None:
    witness.add_checkpoint(0, [], grow(bench, log, 3).text, directory, "nl")
    now = grow(bench, log, 4)
    proof = log.prove_consistency(3, 7)
    assert refused(witness, 3, proof, forged(bench, 7).text, directory).refusal is Refusal.UNPROVEN
    assert [entry.kind for entry in witness.evidence()] == ["unproven"]
    witness.add_checkpoint(3, proof, now.text, directory, "nl")  # the true one is still cosigned


def test_trailing_junk_in_a_proof(bench: Bench, log: AuditLog, witness: Witness, directory: Directory) -> None:
    witness.add_checkpoint(0, [], grow(bench, log, 3).text, directory, "nl")
    now = grow(bench, log, 4)
    assert refused(witness, 3, [*log.prove_consistency(3, 7), bytes(32)], now.text, directory).refusal is Refusal.UNPROVEN


def test_from_nothing_a_proof_must_be_empty(bench: Bench, log: AuditLog, witness: Witness, directory: Directory) -> None:
    assert refused(witness, 0, [bytes(32)], grow(bench, log, 3).text, directory).refusal is Refusal.UNPROVEN
    assert witness.evidence() == []


def test_nothing_with_another_root(bench: Bench, witness: Witness, directory: Directory) -> None:
    assert refused(witness, 0, [], forged(bench, 0).text, directory).refusal is Refusal.UNPROVEN
    witness.add_checkpoint(0, [], forged(bench, 0, EMPTY_ROOT).text, directory, "nl")


def test_a_log_of_nobody_or_signed_by_nobody(bench: Bench, log: AuditLog, witness: Witness, directory: Directory) -> None:
    now = grow(bench, log, 1)
    plain = Checkpoint(now.origin, now.size, now.root)
    for note, refusal in (
        (plain.signed_by(BR).text, Refusal.FORBIDDEN),
        (Checkpoint(log_origin("test", "xx"), 1, now.root).signed_by(bench.key).text, Refusal.UNKNOWN_LOG),
        (Checkpoint(log_origin("other", "nl"), 1, now.root).signed_by(bench.key).text, Refusal.UNKNOWN_LOG),
        (Checkpoint(log_origin("test", "fr"), 1, now.root).signed_by(FR).text, Refusal.UNKNOWN_LOG),  # oneself
        ("nonsense", Refusal.BAD_REQUEST),
    ):
        assert refused(witness, 0, [], note, directory).refusal is refusal


def test_two_witnesses_racing(bench: Bench, log: AuditLog, tmp_path: Path, directory: Directory) -> None:
    """Two processes of one witness get a smaller and a larger state at the same moment: it never goes back."""
    small, large = grow(bench, log, 3), grow(bench, log, 4)
    for attempt in range(10):
        path = tmp_path / f"race-{attempt}.db"
        workers = [Witness(path, federation="test", member="fr", signer=FR, clock=bench.clock) for _ in range(2)]
        start, outcomes = threading.Barrier(2), dict[int, bool]()

        def work(worker: Witness, note: Checkpoint, start: threading.Barrier = start, outcomes: dict[int, bool] = outcomes) -> None:
            start.wait()
            try:
                worker.add_checkpoint(0, [], note.text, directory, "nl")
                outcomes[note.size] = True
            except WitnessRefusalError:
                outcomes[note.size] = False

        threads = [threading.Thread(target=work, args=pair) for pair in zip(workers, (small, large), strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = [size for size, cosigned in outcomes.items() if cosigned]
        assert workers[0].witnessed()["nl"][1].size == winner
        for worker in workers:
            worker.close()


def test_fork_shown_to_two_members(bench: Bench, log: AuditLog, tmp_path: Path, directory: Directory) -> None:
    """fr was shown one past, br another; each alone sees nothing wrong, and comparing finds both."""
    one, two = grow(bench, log, 3), forged(bench, 3)
    with (
        closing(Witness(tmp_path / "w-fr.db", federation="test", member="fr", signer=FR, clock=bench.clock)) as fr,
        closing(Witness(tmp_path / "w-br.db", federation="test", member="br", signer=BR, clock=bench.clock)) as br,
    ):
        fr.add_checkpoint(0, [], one.text, directory, "nl")
        br.add_checkpoint(0, [], two.text, directory, "nl")
        assert fr.evidence() == br.evidence() == []
        shown = br.witnessed()["nl"][1]
        assert fr.compare(shown.text, directory) is None
        (evidence,) = fr.evidence()
        assert evidence.kind == "fork"
        assert {evidence.held.root, evidence.shown.root} == {one.root, two.root}
        fr.compare(shown.text, directory)
        assert len(fr.evidence()) == 1  # once is enough


def test_fork_at_different_sizes_is_kept_when_the_log_cannot_prove_it_is_none(
    bench: Bench, log: AuditLog, witness: Witness, directory: Directory
) -> None:
    now = grow(bench, log, 3)
    witness.add_checkpoint(0, [], now.text, directory, "nl")
    differing = witness.compare(forged(bench, 9).text, directory)
    assert differing is not None
    assert not witness.judge(*differing, None)
    assert [entry.kind for entry in witness.evidence()] == ["unproven"]


def test_an_honest_log_seen_at_different_sizes_proves_itself(bench: Bench, log: AuditLog, witness: Witness, directory: Directory) -> None:
    small, large = grow(bench, log, 3), grow(bench, log, 4)
    witness.add_checkpoint(0, [], small.text, directory, "nl")
    differing = witness.compare(large.text, directory)
    assert differing is not None
    assert witness.judge(*differing, log.prove_consistency(3, 7))
    assert witness.evidence() == []


def test_a_witness_remembers_after_a_restart(bench: Bench, log: AuditLog, tmp_path: Path, directory: Directory) -> None:
    for size in (3, 7):
        with closing(Witness(tmp_path / "w.db", federation="test", member="fr", signer=FR, clock=bench.clock)) as witness:
            now = grow(bench, log, size - len(log))
            old = witness.witnessed()["nl"][1].size if witness.witnessed() else 0
            assert old == {3: 0, 7: 3}[size]
            witness.add_checkpoint(old, log.prove_consistency(old, size), now.text, directory, "nl")


def test_junk_proof_by_another_member_accuses_nobody(bench: Bench, log: AuditLog, witness: Witness, directory: Directory) -> None:
    """br was shown nl's honest checkpoints, as every member is, and hands one in with a proof of its own making."""
    witness.add_checkpoint(0, [], grow(bench, log, 3).text, directory, "nl")
    now = grow(bench, log, 4)
    assert refused(witness, 3, [bytes(32)], now.text, directory, "br").refusal is Refusal.UNPROVEN
    assert witness.evidence() == []
    witness.add_checkpoint(3, log.prove_consistency(3, 7), now.text, directory, "nl")  # and nl is cosigned as before
    assert refused(witness, 7, [], forged(bench, 7).text, directory, "br").refusal is Refusal.CONFLICT
    assert [entry.kind for entry in witness.evidence()] == ["fork"]  # two states that nl signed speak for themselves, whoever brings them


def test_forks_are_kept_when_the_place_is_full(
    bench: Bench, log: AuditLog, witness: Witness, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidfed.security.audit.witness._MAX_EVIDENCE", {"fork": 2, "unproven": 3})
    witness.add_checkpoint(0, [], grow(bench, log, 3).text, directory, "nl")
    for size in range(4, 10):
        refused(witness, 3, [bytes(32)], forged(bench, size).text, directory)
    for root in range(3):
        refused(witness, 3, [], forged(bench, 3, bytes([root] * 32)).text, directory)
    kept = witness.evidence()
    assert [(entry.kind, entry.shown.size, entry.shown.root[0]) for entry in kept] == [
        *(("unproven", size, 0) for size in (4, 5, 6)),
        *(("fork", 3, root) for root in (0, 1)),
    ]


def test_the_same_two_states_are_evidence_once(bench: Bench, log: AuditLog, witness: Witness, directory: Directory) -> None:
    """Neither other cosignatures on the way nor a later cosigning here make it another case; else copies of one would fill the place."""
    first = grow(bench, log, 3)
    lie = forged(bench, 3)
    for number in range(3):
        bench.now_ms += 60_000
        witness.add_checkpoint(3 if number else 0, [], first.text, directory, "nl")
        strange = lie.cosigned_by(witness_name("test", "br"), BR, number + 1)
        refused(witness, 3, [], lie.with_signatures([strange]).text, directory)
    (evidence,) = witness.evidence()
    assert (evidence.held, evidence.shown) == (first, lie)


def test_a_note_costs_one_verification_a_key(bench: Bench, directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """400 lines that all claim the log's key were 400 verifications."""
    honest = forged(bench, 3)
    (signature,) = honest.signatures
    note = Checkpoint(honest.origin, honest.size, honest.root, (signature,) * MAX_SIGNATURES)
    lines = tuple(honest.cosigned_by(witness_name("test", "br"), BR, time_s + 1) for time_s in range(MAX_SIGNATURES))
    asked: list[bytes] = []
    holds = PublicKey.holds

    def counted(key: PublicKey, message: bytes, signature: bytes) -> bool:
        asked.append(key.raw)
        return holds(key, message, signature)

    monkeypatch.setattr(PublicKey, "holds", counted)
    keys = [key for member in directory.members.values() for key in member.audit_keys]
    assert note.verify(bench.origin, keys) == honest
    assert [cosigned.time_s for cosigned in Checkpoint("o", 3, bytes(32), lines).cosignatures(witness_name("test", "br"), keys)] == []
    assert [cosigned.time_s for cosigned in replace(honest, signatures=lines).cosignatures(witness_name("test", "br"), keys)] == [1]
    assert len(asked) == 3


def test_an_older_cosignature_replaces_nothing(bench: Bench, log: AuditLog, witness: Witness) -> None:
    first, second = grow(bench, log, 3), grow(bench, log, 4)
    for checkpoint in (second, first):
        witness.remember_cosignature("br", checkpoint)
    assert witness.cosignatures()["br"][1] == second
    bench.now_ms += 1
    witness.remember_cosignature("br", second)
    assert witness.cosignatures()["br"] == (bench.now_ms, second)


def test_only_the_log_s_own_and_ours_are_kept(bench: Bench, log: AuditLog, witness: Witness, directory: Directory) -> None:
    now = grow(bench, log, 3)
    strange = now.with_signatures([now.cosigned_by(witness_name("test", "br"), BR, 7), NoteSignature("x", bytes(4), bytes(64))])
    witness.add_checkpoint(0, [], strange.text, directory, "nl")
    kept = witness.witnessed()["nl"][1]
    assert [signature.name for signature in kept.signatures] == [bench.origin, witness_name("test", "fr")]
