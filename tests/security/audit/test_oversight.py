"""Exports that prove themselves, comparing two members, who may read, what is dropped, and reports."""

from __future__ import annotations

import base64
import functools
import json
import tempfile
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.security.audit.conftest import Bench
from tests.support.administrators import Administrators
from vidfed.security.audit import Event, Operation, log_origin, witness_name
from vidfed.security.audit.compare import compare, exposure_of
from vidfed.security.audit.entries import commit_case, seal
from vidfed.security.audit.export import ExportReport, verify_export, write_export
from vidfed.security.audit.oversight import Overseer, appoint, listed, revoke
from vidfed.security.audit.reporting.asks import Asks
from vidfed.security.audit.reporting.html import render
from vidfed.security.audit.reporting.report import _count, _Gathered, blurred, combine, is_draft, make_report, read_report, sign_report
from vidfed.security.audit.retention import erase, prune
from vidfed.security.audit.verify import verify_log
from vidfed.security.clock import DAY_MS, system_clock
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.errors import AuditError, OversightError
from vidfed.security.identity.directory import Member
from vidfed.security.identity.tls import make_ca
from vidfed.security.trust.client import TufDirectory
from vidfed.security.trust.entry import Entry
from vidfed.security.trust.mirrors import FolderMirror
from vidfed.security.trust.reader import read_as_issued

if TYPE_CHECKING:
    from vidfed.security.identity.directory import Directory
    from vidfed.security.trust.anchor import Anchor

NL_SIGNER, FR_SIGNER, FR_AUDIT, ENTRY = (SigningKey(letter * 32) for letter in (b"n", b"f", b"a", b"e"))


@pytest.fixture
def bench(file_bench: Bench) -> Bench:
    return file_bench


@functools.cache
def published(nl_audit: SigningKey) -> tuple[Anchor, dict[str, bytes]]:
    """The directory of nl and fr, as an export carries it."""
    with tempfile.TemporaryDirectory() as folder:
        administrators = Administrators(Path(folder) / "federation", "test")
        for name, signer, audit in (("nl", NL_SIGNER, nl_audit), ("fr", FR_SIGNER, FR_AUDIT)):
            listed = Member(name, name, "host:1", (signer.public,), (audit.public,), make_ca("test", name).certificate, "desk")
            entry_key = ENTRY if name == "nl" else FR_SIGNER
            administrators.admit(Entry.make("test", listed, (signer, audit), {}, entry_key, 1, system_clock()))
        source = TufDirectory(Path(folder) / "state", administrators.anchor, [FolderMirror(administrators.published)])
        source.current()
        return source.anchor, source.files()


def directory(bench: Bench) -> Directory:
    anchor, files = published(bench.key)
    return read_as_issued(files, anchor, "test")


def exported(bench: Bench, path: Path, first: int, end: int, name: str = "nl", *, cosigned: bool = False) -> Path:
    anchor, files = published(bench.key)
    with closing(bench.open()) as log:
        checkpoint = log.checkpoint()
        if cosigned:
            checkpoint = checkpoint.with_signatures([checkpoint.cosigned_by(witness_name("test", "fr"), FR_AUDIT, 1_700_000_000)])
        write_export(path, log, checkpoint, first=first, end=end, member=name, anchor=anchor, directory=files)
    return path


@pytest.mark.parametrize(("size", "first", "end"), [(1, 0, 1), (10, 3, 7), (10, 0, 10), (600, 255, 258), (600, 1, 599), (513, 512, 513)])
def test_an_export_proves_itself(bench: Bench, tmp_path: Path, size: int, first: int, end: int) -> None:
    bench.fill(size)
    report = verify_export(exported(bench, tmp_path / "out", first, end))
    assert (report.findings, report.opened, report.first, report.end) == ([], end - first, first, end)
    assert report.checkpoint.size == size


def test_an_export_names_the_witnesses_whose_cosignature_holds(bench: Bench, tmp_path: Path) -> None:
    bench.fill(3)
    assert verify_export(exported(bench, tmp_path / "a", 0, 3)).witnesses == {}
    assert verify_export(exported(bench, tmp_path / "b", 0, 3, cosigned=True)).witnesses == {"fr": 1_700_000_000}


def forge(path: Path, line: int, **changed: object) -> None:
    lines = path.read_text().splitlines()
    lines[line] = json.dumps(json.loads(lines[line]) | changed, ensure_ascii=False)
    path.write_text("\n".join(lines) + "\n")


def test_an_entry_changed_in_an_export_is_found(bench: Bench, tmp_path: Path) -> None:
    bench.fill(10)
    path = exported(bench, tmp_path / "out", 2, 8)
    body = json.loads(path.read_text().splitlines()[3])["body"]
    forge(path, 3, body=body.replace("identification", "prosecution"))
    assert verify_export(path).findings == ["entry 4: its content is not what was logged"]


def test_a_leaf_changed_in_an_export_is_found(bench: Bench, tmp_path: Path) -> None:
    bench.fill(10)
    path = exported(bench, tmp_path / "out", 2, 8)
    forge(path, 3, commitment="A" * 43 + "=", body="", salt="")
    assert any("do not lead to the checkpoint's root" in finding for finding in verify_export(path).findings)


@pytest.mark.parametrize("cut", [1, 2, 4, 7])
def test_an_export_cut_short_is_refused(bench: Bench, tmp_path: Path, cut: int) -> None:
    bench.fill(10)
    path = exported(bench, tmp_path / "out", 2, 8)
    path.write_text("\n".join(path.read_text().splitlines()[:-cut]) + "\n")
    with pytest.raises(AuditError):
        verify_export(path)


def test_an_export_with_an_entry_left_out_or_trailing_junk_is_refused(bench: Bench, tmp_path: Path) -> None:
    bench.fill(10)
    path = exported(bench, tmp_path / "out", 2, 8)
    lines = path.read_text().splitlines()
    for changed in ([*lines[:3], *lines[4:]], [*lines, lines[-1]], [*lines, "junk"], lines[1:]):
        path.write_text("\n".join(changed) + "\n")
        with pytest.raises(AuditError):
            verify_export(path)


@pytest.mark.parametrize(("name", "value"), [("before", []), ("after", ["A" * 43 + "="] * 9), ("end", 7), ("first", 1), ("member", "xx")])
def test_an_export_with_another_head_is_refused(bench: Bench, tmp_path: Path, name: str, value: object) -> None:
    bench.fill(10)
    path = exported(bench, tmp_path / "out", 2, 8)
    forge(path, 0, **{name: value})
    with pytest.raises(AuditError):
        verify_export(path)


def test_an_export_under_another_root_shows_its_words_and_does_not_hold(bench: Bench, tmp_path: Path) -> None:
    bench.fill(3)
    path = exported(bench, tmp_path / "out", 0, 3)
    assert verify_export(path).anchor.words == published(bench.key)[0].words
    other = Administrators(tmp_path / "other", "test").anchor
    forge(path, 0, anchor=base64.b64encode(other.content).decode())
    with pytest.raises(AuditError, match="trust directory"):
        verify_export(path)


def test_an_export_without_a_file_of_its_directory_is_refused(bench: Bench, tmp_path: Path) -> None:
    bench.fill(3)
    path = exported(bench, tmp_path / "out", 0, 3)
    files = json.loads(path.read_text().splitlines()[0])["directory"]
    for name in files:
        forge(path, 0, directory={other: content for other, content in files.items() if other != name})
        if "root" in name:  # the root of trust itself, which stands there on its own
            continue
        with pytest.raises(AuditError, match="trust directory"):
            verify_export(path)


def test_a_supervisor_who_knows_the_case_can_check_it_and_nobody_can_read_it(bench: Bench) -> None:
    with closing(bench.open()) as log:
        log.append(bench.entry(case_reference="2026-17"))
        entry = log.storage.entry(0)
    assert entry.case_salt is not None
    assert entry.fields()["case"] == commit_case(entry.case_salt, "2026-17") != commit_case(entry.case_salt, "2026-18")


def pair(tmp_path: Path) -> tuple[Bench, Bench]:
    """nl, which asks, and fr, which answers."""
    folders = [tmp_path / name for name in ("nl", "fr")]
    for folder in folders:
        folder.mkdir()
    nl, fr = (Bench(folder, folder / "audit.db", origin=log_origin("test", folder.name)) for folder in folders)
    fr.key = FR_AUDIT
    return nl, fr


def both(nl: Bench, fr: Bench, tmp_path: Path) -> tuple[ExportReport, ExportReport]:
    exports = []
    for name, bench in (("nl", nl), ("fr", fr)):
        with closing(bench.open()) as log:
            path, size = tmp_path / f"{name}.export", len(log)
            anchor, files = published(nl.key)
            write_export(path, log, log.checkpoint(), first=0, end=size, member=name, anchor=anchor, directory=files)
        report = verify_export(path)
        assert report.findings == []
        exports.append(report)
    return exports[0], exports[1]


def converse(nl: Bench, fr: Bench, *, skip_nl: int = -1, skip_fr: int = -1, other_answer: int = -1) -> None:
    with closing(nl.open()) as ours, closing(fr.open()) as theirs:
        for number in range(5):
            if number != skip_nl:
                ours.append(nl.entry(number, event=Event.LOOKUP_RECEIVED, member="fr"))
            answer = {"answer_digest": b"z" * 32} if number == other_answer else {}
            if number != skip_fr:
                theirs.append(fr.entry(number, event=Event.LOOKUP_ANSWERED, member="nl", **answer))


def test_two_honest_logs_agree(tmp_path: Path) -> None:
    nl, fr = pair(tmp_path)
    converse(nl, fr)
    result = compare(*both(nl, fr, tmp_path))
    assert (result.agreed, result.findings) == (5, [])


def carry(nl: Bench, fr: Bench, *, skip_nl: int = -1, skip_fr: int = -1) -> None:
    """Let nl send five entries of conversations that fr takes; each logs them, but for what it hides."""
    with closing(nl.open()) as ours, closing(fr.open()) as theirs:
        for number in range(5):
            if number != skip_nl:
                ours.append(nl.entry(number, event=Event.CASEWORK_SENT, member="fr", outcome="TAKEN", details={"kind": "ask"}))
            if number != skip_fr:
                theirs.append(fr.entry(number, event=Event.CASEWORK_RECEIVED, member="nl", outcome="TAKEN", details={"kind": "ask"}))


def test_conversations_are_compared_at_both_ends(tmp_path: Path) -> None:
    nl, fr = pair(tmp_path)
    carry(nl, fr)
    result = compare(*both(nl, fr, tmp_path))
    assert (result.agreed, result.findings) == (5, [])


def test_an_entry_deleted_by_who_took_it_or_by_who_sent_it(tmp_path: Path) -> None:
    nl, fr = pair(tmp_path)
    carry(nl, fr, skip_fr=1, skip_nl=3)
    not_taken, not_sent = compare(*both(nl, fr, tmp_path)).findings
    assert "whose log has no such entry" in not_taken
    assert "whose log has not sent it" in not_sent


def test_exposure_names_all_that_a_member_was_told_and_wrote() -> None:
    blank = {"pseudonym": "nl-7", "member": "nl", "outcome": "ANSWERED", "records": [], "details": {}}
    entries = [
        blank | {"time_ms": 1, "event": "lookup-answered", "records": ["FR-old"]},
        blank | {"time_ms": 10, "event": "lookup-answered", "records": ["FR-1"], "details": {"hashes": 3}},
        blank | {"time_ms": 11, "event": "lookup-answered", "member": "de", "records": ["FR-2"]},
        blank | {"time_ms": 12, "event": "lookup-answered", "records": ["FR-1"], "pseudonym": "nl-8"},
        blank | {"time_ms": 13, "event": "casework-sent", "outcome": "SIGNED", "details": {"kind": "release", "conversation": "ab"}},
    ]
    found = exposure_of(entries, "nl", from_ms=5).fields()
    assert (found["questions"], found["hashes"]) == (2, 3)
    assert found["told"] == {"FR-1": {"first_ms": 10, "last_ms": 12, "times": 2, "persons": ["nl-7", "nl-8"]}}
    assert [(each["kind"], each["sent"]) for each in found["casework"]] == [("release (signed)", True)]


def test_report_counts_requests_and_what_came_of_them() -> None:
    report, asks = _Gathered(), Asks()
    blank = {"member": "nl", "purpose": "", "operation": "disclosure", "records": []}
    took = []
    for time_ms, event, outcome, details in (
        (1_000, "casework-received", "TAKEN", {"kind": "ask", "code": "urgent", "basis": "compared", "conversation": "a"}),
        (5_000, "casework-sent", "SIGNED", {"kind": "release", "conversation": "a"}),
        (5_500, "casework-sent", "TAKEN", {"kind": "release", "conversation": "a"}),
        (6_000, "casework-received", "TAKEN", {"kind": "ask", "code": "routine", "basis": "same-digest", "conversation": "b"}),
        (7_000, "casework-sent", "SIGNED", {"kind": "refuse", "code": "law", "conversation": "b"}),
        (8_000, "casework-received", "TAKEN", {"kind": "close", "code": "victim-identified", "conversation": "a"}),
        (9_000, "casework-received", "TAKEN", {"kind": "not-the-same", "conversation": "b"}),
    ):
        entry = blank | {"time_ms": time_ms, "event": event, "outcome": outcome, "details": details}
        _count(entry, report)
        took.append(asks.follow(entry))
    assert (report.totals["requests"], report.totals["releases"], [each for each in took if each is not None]) == (2, 1, [4_000])
    assert dict(report.tables["refusals_by_code"]) == {"law": 1}
    assert dict(report.tables["dispositions"]) == {"victim-identified": 1}
    assert dict(report.tables["false_matches"]) == {"nl": 1}


def test_an_answer_deleted_by_the_one_who_gave_it(tmp_path: Path) -> None:
    nl, fr = pair(tmp_path)
    converse(nl, fr, skip_fr=2)
    (finding,) = compare(*both(nl, fr, tmp_path)).findings
    assert "entry 2 of nl" in finding
    assert "answer of fr, whose log has none" in finding


def test_a_question_deleted_by_the_one_who_asked_it(tmp_path: Path) -> None:
    nl, fr = pair(tmp_path)
    converse(nl, fr, skip_nl=2)
    (finding,) = compare(*both(nl, fr, tmp_path)).findings
    assert "answered nl, whose log has no such question" in finding


def test_an_answer_told_otherwise(tmp_path: Path) -> None:
    nl, fr = pair(tmp_path)
    converse(nl, fr, other_answer=3)
    (finding,) = compare(*both(nl, fr, tmp_path)).findings
    assert "logged another answer" in finding


def test_a_timeout_is_no_disagreement(tmp_path: Path) -> None:
    nl, fr = pair(tmp_path)
    converse(nl, fr)
    with closing(nl.open()) as log:
        log.append(nl.entry(77, event=Event.LOOKUP_RECEIVED, member="fr", outcome="TIMEOUT", answer_digest=b""))
    result = compare(*both(nl, fr, tmp_path))
    assert (result.agreed, result.unanswered, result.findings) == (5, 1, [])


def test_compare_of_honest_logs_with_self_tests_agrees(tmp_path: Path) -> None:
    """Also where one of the two could not log it; but what tells of a record is no self-test, whatever it says."""
    nl, fr = pair(tmp_path)
    with closing(fr.open()) as log:
        log.append(fr.entry(88, event=Event.LOOKUP_ANSWERED, member="nl", purpose="self-test", records=()))
    with closing(nl.open()) as log:
        log.append(nl.entry(77, event=Event.LOOKUP_RECEIVED, member="fr", purpose="self-test", records=()))
    converse(nl, fr)
    result = compare(*both(nl, fr, tmp_path))
    assert (result.agreed, result.findings) == (5, [])
    with closing(fr.open()) as log:
        log.append(fr.entry(99, event=Event.LOOKUP_ANSWERED, member="nl", purpose="self-test", records=("r",)))
    (finding,) = compare(*both(nl, fr, tmp_path)).findings
    assert "whose log has no such question" in finding


@pytest.mark.parametrize("outcome", ["BUSY", "AUDIT_UNAVAILABLE"])
def test_a_refusal_that_is_not_logged_by_design_is_no_disagreement(tmp_path: Path, outcome: str) -> None:
    nl, fr = pair(tmp_path)
    with closing(nl.open()) as log:
        log.append(nl.entry(77, event=Event.LOOKUP_RECEIVED, member="fr", outcome=outcome))
    converse(nl, fr)
    result = compare(*both(nl, fr, tmp_path))
    assert (result.agreed, result.unanswered, result.findings) == (5, 1, [])


def overseer(tmp_path: Path, bench: Bench, **changed: Any) -> Overseer:  # noqa: ANN401 - any of `load`'s arguments
    values: dict[str, Any] = {"federation": "test", "member": "nl", "member_keys": (NL_SIGNER.public,), "now_ms": bench.now_ms}
    folder = tmp_path / "dpo"
    if not folder.exists():
        with closing(bench.open()) as log:
            appoint(folder, log, federation="test", member="nl", name="DPO", signer=NL_SIGNER, now_ms=bench.now_ms)
    return Overseer.load(folder, **(values | changed))


def test_reading_is_logged_before_it_happens(bench: Bench, tmp_path: Path) -> None:
    reader = overseer(tmp_path, bench)
    with closing(bench.open()) as log:
        position = reader.announce(log, "show", {"entries": 3}, now_ms=bench.now_ms)
        fields = log.storage.entry(position).fields()
    assert (fields["event"], fields["pseudonym"], fields["purpose"], fields["details"]["entries"]) == ("log-read", "DPO", "oversight", 3)


@pytest.mark.parametrize(
    "changed",
    [{"member": "fr"}, {"federation": "other"}, {"member_keys": (FR_SIGNER.public,)}, {"now_ms": 1}, {"now_ms": 1 << 60}],
)
def test_nobody_reads_with_an_appointment_that_does_not_hold(bench: Bench, tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(OversightError):
        overseer(tmp_path, bench, **changed)


def test_an_investigators_credential_is_no_appointment(bench: Bench, tmp_path: Path) -> None:
    overseer(tmp_path, bench)
    path = tmp_path / "dpo/appointment.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"payloadType": "application/vnd.vidfed.credential.v1+json"}))
    with pytest.raises(OversightError):
        overseer(tmp_path, bench)


def test_another_persons_key_does_not_fit_the_appointment(bench: Bench, tmp_path: Path) -> None:
    overseer(tmp_path, bench)
    SigningKey.generate().save(tmp_path / "dpo/oversight.key")
    with pytest.raises(OversightError, match="not the one that was appointed"):
        overseer(tmp_path, bench)


@pytest.mark.parametrize("who", ["DPO", "the beginning of its serial"])
def test_a_revoked_appointment_opens_nothing_and_the_attempt_is_logged(bench: Bench, tmp_path: Path, who: str) -> None:
    reader = overseer(tmp_path, bench)
    with closing(bench.open()) as log:
        taken = revoke(log, reader.appointment.serial[:6] if who != "DPO" else who, now_ms=bench.now_ms)
        assert (taken.name, [one.state(bench.now_ms) for one in listed(log.storage)]) == ("DPO", ["revoked"])
        with pytest.raises(OversightError, match="was revoked"):
            reader.announce(log, "show", {}, now_ms=bench.now_ms)
        last = log.storage.entry(len(log) - 1).fields()
        assert (last["event"], last["outcome"], last["pseudonym"]) == ("log-read", "REFUSED", "DPO")
        with pytest.raises(OversightError, match="no appointment that holds"):
            revoke(log, "DPO", now_ms=bench.now_ms)


def test_an_appointment_that_is_not_listed_opens_nothing(bench: Bench, tmp_path: Path) -> None:
    reader = overseer(tmp_path, bench)
    bench.tamper("DELETE FROM appointments")
    with closing(bench.open()) as log, pytest.raises(OversightError, match="not in the list"):
        reader.announce(log, "show", {}, now_ms=bench.now_ms)


def test_two_people_of_one_name_are_told_apart_by_serial(bench: Bench, tmp_path: Path) -> None:
    overseer(tmp_path, bench)
    with closing(bench.open()) as log:
        other = appoint(
            tmp_path / "two", log, federation="test", member="nl", name="DPO", signer=NL_SIGNER, now_ms=bench.now_ms + 1, days=1
        )
        with pytest.raises(OversightError, match="2 appointments"):
            revoke(log, "DPO", now_ms=bench.now_ms + 1)
        revoke(log, other.serial, now_ms=bench.now_ms + 1)
        assert [one.state(bench.now_ms + 1) for one in listed(log.storage)] == ["holds", "revoked"]
        assert [one.state(bench.now_ms + 400 * DAY_MS) for one in listed(log.storage)] == ["ended", "revoked"]


def test_erasing_drops_the_salt_and_the_tree_still_verifies(bench: Bench) -> None:
    bench.fill(10)
    with closing(bench.open()) as log:
        secret = log.storage.entry(4)
        assert erase(log, [4, 5], member="nl", operator="me", reason="court order", now_ms=bench.now_ms) == 2
        assert log.storage.entry(4) == secret._replace(salt=None, case_salt=None, body=None)
    with closing(bench.storage()) as storage:
        report = verify_log(storage, [bench.key.public])
    assert (report.findings, report.dropped) == ([], 2)
    assert secret.salt is not None
    assert secret.salt not in bench.path.read_bytes()
    assert not [path for path in bench.folder.iterdir() if secret.salt in path.read_bytes()]


def test_erased_salt_is_gone_while_the_log_is_open(bench: Bench) -> None:
    bench.fill(3)
    with closing(bench.open()) as log:
        log.append(bench.entry())
        secret = log.storage.entry(3).salt
        assert secret is not None
        assert [path for path in bench.folder.iterdir() if secret in path.read_bytes()], "it was never there"
        erase(log, [3], member="nl", operator="me", reason="court order", now_ms=bench.now_ms)
        assert not [path for path in bench.folder.iterdir() if secret in path.read_bytes()]


def test_an_announced_erasure_cannot_itself_be_erased(bench: Bench) -> None:
    bench.fill(3)
    with closing(bench.open()) as log:
        erase(log, [1], member="nl", operator="me", reason="x", now_ms=bench.now_ms)
        with pytest.raises(AuditError, match="announces an erasure itself"):
            erase(log, [3], member="nl", operator="me", reason="x", now_ms=bench.now_ms)
        with pytest.raises(AuditError, match="no entry 99"):
            erase(log, [99], member="nl", operator="me", reason="x", now_ms=bench.now_ms)


def test_retention_prunes_bodies_and_never_the_tree(bench: Bench) -> None:
    bench.fill(10)
    bench.now_ms += 400 * DAY_MS
    bench.fill(5)
    with closing(bench.open()) as log:
        assert prune(log, retention_days=365, member="nl", operator="cron", now_ms=bench.now_ms) == (10, 10)
        assert prune(log, retention_days=365, member="nl", operator="cron", now_ms=bench.now_ms) == (10, 0)
    with closing(bench.storage()) as storage:
        report = verify_log(storage, [bench.key.public])
    assert (report.findings, report.dropped, report.opened, report.entries) == ([], 10, 6, 16)
    bench.now_ms += 400 * DAY_MS
    with closing(bench.open()) as log:  # the first announcement goes too, and the second covers what it covered
        assert prune(log, retention_days=365, member="nl", operator="cron", now_ms=bench.now_ms) == (16, 6)
    with closing(bench.storage()) as storage:
        assert verify_log(storage, [bench.key.public]).findings == []


def entries(bench: Bench, count: int, **changed: object) -> list[dict[str, Any]]:
    return [seal(bench.entry(number, **changed)).fields() for number in range(count)]


def a_report(bench: Bench, name: str, counted: list[dict[str, Any]]) -> dict[str, Any]:
    with closing(bench.open()) as log:
        checkpoint = log.checkpoint()
    values = {"from_ms": 0, "to_ms": 1 << 60, "made_ms": bench.now_ms}
    return make_report(counted, federation="test", member=name, checkpoint=checkpoint, **values)


def test_small_counts_are_not_told(bench: Bench) -> None:
    told = a_report(bench, "nl", [*entries(bench, 3, member="br"), *entries(bench, 103), *entries(bench, 2, outcome="RATE_LIMITED")])
    assert told["tables"]["answered_by_member"] == {"br": [1, 4], "fr": [100, 104]}
    assert told["totals"]["received"] == [105, 109]
    assert told["shares"]["refusal_rate_percent"] is None
    assert not any(low == high for table in told["tables"].values() for low, high in table.values())


@given(st.integers(0, 10**6))
def test_a_told_range_holds_the_true_count_and_says_no_more(count: int) -> None:
    low, high = blurred(count)
    assert low <= count <= high
    assert blurred(low) == blurred(high) == [low, high]
    assert count == 0 or high - low >= 3


def test_a_share_says_nothing_that_the_ranges_do_not_say(bench: Bench) -> None:
    """5 of 12 would be 42 %, and no other pair within both ranges is."""
    counted = [*entries(bench, 7, details={"hits": 0}), *entries(bench, 5)]
    told = a_report(bench, "nl", counted)
    assert (told["totals"]["with_hits"], told["totals"]["answered"]) == ([5, 9], [10, 14])
    assert told["shares"]["hit_rate_percent"] == 50
    more = a_report(bench, "nl", [*counted, *entries(bench, 1)])
    assert more["shares"] == told["shares"]


@pytest.mark.parametrize(
    ("first", "end", "draft"),
    [
        ("2026-01-01", "2026-04-01", False),
        ("2026-01-01", "2026-03-31", True),
        ("2026-01-02", "2026-04-01", True),
        ("2026-01-01", "2026-12-01", True),
    ],
)
def test_only_whole_months_that_are_over_are_for_publication(first: str, end: str, draft: bool) -> None:
    bounds = [int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()) * 1000 for day in (first, end)]
    now_ms = int(datetime.fromisoformat("2026-11-24T12:00:00+00:00").timestamp()) * 1000
    assert is_draft(bounds[0], bounds[1], now_ms) is draft
    assert is_draft(bounds[0] + 1, bounds[1], now_ms)


def test_reports_of_several_members_add_up(bench: Bench) -> None:
    one, two = a_report(bench, "nl", entries(bench, 12)), a_report(bench, "fr", entries(bench, 3))
    told = combine([one, two], made_ms=bench.now_ms)
    assert told["members"] == ["fr", "nl"]
    assert told["totals"]["answered"] == [11, 18]
    assert set(told["checkpoints"]) == {"nl", "fr"}
    for wrong in ([one, one], [one, two | {"to_ms": 5}], []):
        with pytest.raises(AuditError):
            combine(wrong, made_ms=0)


def test_a_report_is_signed_by_the_member_it_is_about(bench: Bench) -> None:
    told = a_report(bench, "nl", entries(bench, 12))
    known = directory(bench)
    assert read_report(sign_report(told, NL_SIGNER).to_json(), known) == (told, "nl")
    for signer in (FR_SIGNER, SigningKey(b"x" * 32)):
        with pytest.raises(AuditError):
            read_report(sign_report(told, signer).to_json(), known)
    forged = replace(sign_report(told, NL_SIGNER), payload=json.dumps(told).replace("10, 14", "90, 94").encode())
    with pytest.raises(AuditError):
        read_report(forged.to_json(), known)


def test_a_signed_report_with_numbers_of_another_form_is_refused(bench: Bench) -> None:
    for wrong in ([5], [4, 2], [1.5, 2], ["<script>", 2], 7):
        told = a_report(bench, "nl", [])
        told["totals"]["received"] = wrong
        with pytest.raises(AuditError):
            read_report(sign_report(told, NL_SIGNER).to_json(), directory(bench))


def test_the_page_holds_nothing_from_outside_and_escapes_what_it_shows(bench: Bench) -> None:
    told = a_report(bench, "nl", entries(bench, 12, purpose="<script>alert(1)</script>", operation=Operation.CONSULTATION))
    page = render(told, sign_report(told, NL_SIGNER), "nl")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<svg") >= 3
    assert "src=" not in page
    assert "http://" not in page
    assert "https://" not in page


def test_a_share_with_fewer_than_five_opposite_is_left_out(bench: Bench) -> None:
    told = a_report(bench, "nl", [*entries(bench, 10), *entries(bench, 4, details={"hits": 0})])
    assert told["totals"]["with_hits"] == [10, 14]
    assert told["shares"]["hit_rate_percent"] is None


@pytest.mark.parametrize(("count", "told"), [(9, None), (10, {"median": 105, "p90": 109})])
def test_nine_times_give_no_quantiles(bench: Bench, count: int, told: dict[str, int] | None) -> None:
    received = [
        seal(bench.entry(100 + number, event=Event.LOOKUP_RECEIVED, details={"took_ms": 100 + number})).fields() for number in range(count)
    ]
    assert a_report(bench, "nl", received)["times_ms"]["being_answered"] == told


@pytest.mark.parametrize(("drafts", "draft"), [((False, False), False), ((True, False), True), ((False, True), True)])
def test_a_sum_with_one_draft_is_a_draft(bench: Bench, drafts: tuple[bool, bool], draft: bool) -> None:
    reports = [a_report(bench, name, entries(bench, 12)) | {"draft": each} for name, each in zip(("nl", "fr"), drafts, strict=True)]
    assert combine(reports, made_ms=bench.now_ms)["draft"] is draft
