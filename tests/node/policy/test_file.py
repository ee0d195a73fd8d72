"""The policy file: read strictly, taken over whole, and never left for nothing."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.memory import MemoryFederation, SettableClock
from vidfed.index import Algorithm
from vidfed.node.errors import PolicyError
from vidfed.node.policy.file import PolicyFile, read_policy, render_policy
from vidfed.node.policy.policy import Category, Distances, Limits, Policy, Requester, Rule
from vidfed.security.errors import AuditError
from vidfed.wire.values import HandlingCode, Purpose

if TYPE_CHECKING:
    from collections.abc import Callable

KNOWN = ("nl", "fr", "br")
MINIMAL = '[[rule]]\nname = "one"\nmembers = ["nl"]\npurposes = ["identification"]\n'
COMPLETE = """
[[rule]]
name = "neighbours"
members = ["nl", "fr"]
roles = ["analyst", "duty-officer"]
purposes = ["identification", "prosecution"]
algorithms = ["sha256", "pdq"]
max_distance = { pdq = 20 }
distances = "bands"
categories = [{ scale = "uk-sentencing", region = "UK", values = ["A", "B"] }, { scale = "interpol-baseline", values = ["yes"] }]
without_category = true
handling_codes = ["H0", "H1"]
withheld_series = ["Tulip "]
withheld_tags = ["HOLD"]
max_hits_per_item = 5
lookups_per_minute = 1
hashes_per_minute = 2
lookups_per_day = 3
hashes_per_day = 4
urgent_lookups_per_day = 0
urgent_hashes_per_day = 6
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return path


def test_a_missing_or_empty_file_answers_nobody(tmp_path: Path) -> None:
    assert read_policy(tmp_path / "policy.toml") == Policy()
    assert read_policy(written(tmp_path, "")) == Policy()
    assert read_policy(written(tmp_path, render_policy([]))) == Policy()


def test_every_setting_is_read(tmp_path: Path) -> None:
    categories = [Category("uk-sentencing", "UK", "A"), Category("uk-sentencing", "UK", "B"), Category("interpol-baseline", "", "yes")]
    assert read_policy(written(tmp_path, COMPLETE), KNOWN) == Policy(
        (
            Rule(
                name="neighbours",
                members=frozenset({"nl", "fr"}),
                roles=frozenset({"analyst", "duty-officer"}),
                purposes=frozenset({Purpose.IDENTIFICATION, Purpose.PROSECUTION}),
                algorithms=frozenset({Algorithm.SHA256, Algorithm.PDQ}),
                max_distance={Algorithm.PDQ: 20},
                distances=Distances.BANDS,
                categories=frozenset(categories),
                without_category=True,
                handling_codes=frozenset({HandlingCode.H0, HandlingCode.H1}),
                withheld_series=frozenset({"tulip"}),
                withheld_tags=frozenset({"hold"}),
                max_hits_per_item=5,
                limits=Limits(1, 2, 3, 4, 0, 6),
            ),
        )
    )


def test_a_rendered_policy_is_read_back(tmp_path: Path) -> None:
    (rule,) = read_policy(written(tmp_path, render_policy(["nl", "fr"], hashes_per_minute=7)), KNOWN).rules
    assert rule.members == {"nl", "fr"}
    assert rule.purposes == set(Purpose) - {Purpose.SELF_TEST}
    assert rule.limits.hashes_per_minute == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[rule]", r"policy.toml: .*line 1"),
        ("[rules]", "'rules' is unknown; a policy is a list of .*rule"),
        ("[rule]\nname = 'x'", "write each rule as .*two brackets"),
        (MINIMAL + "porpose = []", r"rule 1 \(one\): has no setting 'porpose'; known are name, members, purposes, roles"),
        (
            MINIMAL.replace("identification", "identifcation"),
            "purposes: 'identifcation' is unknown; known are identification, investigation",
        ),
        (MINIMAL.replace('"nl"', '"n1"'), r"rule 1 \(one\): members: 'n1' is not in the trust directory; known are br, fr, nl"),
        (MINIMAL.replace('"nl"', ""), "members names nobody"),
        (MINIMAL.replace('"nl"', "7"), "members must be a list of texts"),
        (MINIMAL.replace('["nl"]', '"nl"'), "members must be a list of texts"),
        (MINIMAL.replace('name = "one"\n', ""), "rule 1: lacks the setting 'name'"),
        (MINIMAL.replace("one", "One!"), "name must be up to 40 letters"),
        (MINIMAL.replace('purposes = ["identification"]', ""), "lacks the setting 'purposes'"),
        (MINIMAL.replace('"identification"', ""), "purposes is empty; leave it out, or choose of identification"),
        (MINIMAL + MINIMAL, "two rules are named 'one'"),
        (MINIMAL + 'roles = ["chief"]', "roles: 'chief' is unknown; known are investigator, analyst"),
        (MINIMAL + 'algorithms = ["pqd"]', "algorithms: 'pqd' is unknown; known are md5"),
        (MINIMAL + "max_distance = { pqd = 1 }", "max_distance: 'pqd' is unknown"),
        (MINIMAL + "max_distance = { pdq = 65 }", "max_distance: pdq must be a whole number from 0 to 64"),
        (MINIMAL + "max_distance = 31", "max_distance must be a table"),
        (MINIMAL + 'distances = "roughly"', "distances: 'roughly' is unknown; known are exact, bands"),
        (MINIMAL + 'categories = ["A"]', "categories must be a list of tables such as"),
        (MINIMAL + 'categories = [{ values = ["A"] }]', "categories: each must be a table such as"),
        (MINIMAL + 'categories = [{ scale = "s", values = [1] }]', "with values as texts"),
        (MINIMAL + 'categories = [{ scale = "s", vals = ["1"] }]', "categories: each must be a table such as"),
        (MINIMAL + "without_category = true", "without_category says something only beside categories"),
        (MINIMAL + 'categories = []\nwithout_category = "yes"', "without_category must be true or false"),
        (MINIMAL + 'handling_codes = ["H4"]', "handling_codes: 'H4' is unknown; known are H0, H1, H2, H3"),
        (MINIMAL + 'withheld_series = [""]', "withheld_series has an empty text"),
        (MINIMAL + "hashes_per_minute = 0", "hashes_per_minute must be a whole number of at least 1"),
        (MINIMAL + "hashes_per_minute = 1.5", "hashes_per_minute must be a whole number"),
        (MINIMAL + "urgent_lookups_per_day = -1", "urgent_lookups_per_day must be a whole number of at least 0"),
        (MINIMAL + "max_hits_per_item = true", "max_hits_per_item must be a whole number"),
        (MINIMAL + "max_hits_per_item = 1001", "max_hits_per_item must be a whole number of at least 1 and at most 1000"),
    ],
)
def test_what_makes_no_sense_is_refused_with_file_rule_setting_and_what_is_allowed(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PolicyError, match=said) as caught:
        read_policy(written(tmp_path, text), KNOWN)
    assert str(caught.value).startswith(str(tmp_path / "policy.toml"))


# --- followed while the node runs ---


@pytest.fixture
def federation() -> MemoryFederation:
    made = MemoryFederation()
    made.add(*KNOWN)
    return made


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def opened(federation: MemoryFederation, clock: SettableClock, tmp_path: Path) -> Callable[..., PolicyFile]:
    return lambda **more: PolicyFile(tmp_path / "policy.toml", directory_source=federation, clock=clock, **more)


def changed(tmp_path: Path, text: str, clock: SettableClock, wait_ms: int = 2_000) -> None:
    """Write the file anew, and let so much time pass."""
    path = written(tmp_path, text)
    os.utime(path, ns=(1, 1))  # whatever a copying program says about its age
    clock.now_ms = path.stat().st_ctime_ns // 1_000_000 + wait_ms


def test_a_changed_file_takes_effect_without_restart(tmp_path: Path, opened: Callable[..., PolicyFile], clock: SettableClock) -> None:
    written(tmp_path, MINIMAL)
    file = opened()
    asker = Requester("fr", frozenset(), Purpose.IDENTIFICATION)
    assert file.current().decide(asker) is None
    changed(tmp_path, MINIMAL.replace("nl", "fr"), clock)
    assert file.current().decide(asker) is not None


@pytest.mark.parametrize("broken", ["[[rule", MINIMAL + "porpose = 1", MINIMAL.replace("nl", "de")])
def test_a_broken_file_keeps_the_policy_before_it_and_raises_an_alarm(
    tmp_path: Path, opened: Callable[..., PolicyFile], clock: SettableClock, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    written(tmp_path, MINIMAL)
    file = opened()
    before = file.current()
    changed(tmp_path, broken, clock)
    with caplog.at_level(logging.ERROR):
        assert file.current() is before
        assert file.current() is before
    assert "stays in force" in file.alarm
    assert len(caplog.records) == 1
    changed(tmp_path, COMPLETE, clock)
    assert file.current().rules[0].name == "neighbours"
    assert not file.alarm


def test_a_file_that_is_being_written_is_left_to_settle(tmp_path: Path, opened: Callable[..., PolicyFile], clock: SettableClock) -> None:
    """A narrower rule, half written, may be a valid and wider one."""
    written(tmp_path, MINIMAL)
    file = opened()
    before = file.current()
    changed(tmp_path, COMPLETE[: COMPLETE.index("max_distance")], clock, wait_ms=100)
    assert file.current() is before
    changed(tmp_path, COMPLETE, clock)
    assert file.current().rules[0].distances is Distances.BANDS


def test_a_file_that_was_taken_away_answers_nobody(tmp_path: Path, opened: Callable[..., PolicyFile]) -> None:
    path = written(tmp_path, MINIMAL)
    file = opened()
    assert file.current().rules
    path.unlink()
    assert file.current() == Policy()


def test_a_policy_that_cannot_be_logged_is_not_taken_over(tmp_path: Path, opened: Callable[..., PolicyFile], clock: SettableClock) -> None:
    written(tmp_path, MINIMAL)
    log: list[Policy] = []

    def accept(policy: Policy) -> None:
        if log:
            raise AuditError("disk full")
        log.append(policy)

    file = opened(accept=accept)
    changed(tmp_path, COMPLETE, clock)
    assert file.current() == log[0]
    assert "disk full" in file.alarm


def test_a_policy_that_was_refused_is_taken_over_once_nothing_stands_in_its_way(
    tmp_path: Path, opened: Callable[..., PolicyFile], clock: SettableClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The log was full, or a member not listed yet: the file does not change when that is over, and would never be read again."""
    written(tmp_path, MINIMAL)
    is_full = False

    def accept(_policy: Policy) -> None:
        if is_full:
            raise AuditError("disk full")

    file = opened(accept=accept)
    before, is_full = file.current(), True
    changed(tmp_path, COMPLETE, clock)
    for _ in range(3):
        assert file.current() is before
        clock.now_ms += 11_000
    assert len([each for each in caplog.records if "disk full" in each.message]) == 1, "the log is not filled by what lasts"
    clock.now_ms += 600_000
    assert file.current() is before
    assert len([each for each in caplog.records if "disk full" in each.message]) == 2, "and what lasts is not forgotten"
    clock.now_ms, is_full = clock.now_ms + 11_000, False
    assert file.current().rules[0].name == "neighbours"
    assert not file.alarm


@pytest.mark.parametrize(
    ("name", "fits"), [("The neighbours (2026)", True), ("Zoë & co", True), (" a", False), ("a\\u0000b", False), ("(self-test)", False)]
)
def test_names_may_contain_spaces_and_nothing_that_hides(tmp_path: Path, name: str, fits: bool) -> None:
    path = written(tmp_path, MINIMAL.replace('name = "one"', f'name = "{name}"'))
    assert name in path.read_text()
    if fits:
        assert read_policy(path).rules[0].name == name
    else:
        with pytest.raises(PolicyError, match="name must be"):
            read_policy(path)


def test_a_wrong_file_at_the_start_is_no_policy(tmp_path: Path, opened: Callable[..., PolicyFile]) -> None:
    written(tmp_path, MINIMAL.replace("purposes", "purpose"))
    with pytest.raises(PolicyError, match="has no setting 'purpose'"):
        opened()


def test_a_member_never_seen_in_the_file_at_the_start_is_told_and_the_rest_holds(
    tmp_path: Path, opened: Callable[..., PolicyFile], caplog: pytest.LogCaptureFixture
) -> None:
    """There is no policy before it to go by."""
    written(tmp_path, MINIMAL.replace('"nl"', '"nl", "de"'))
    assert opened().current().rules
    assert "names de, not in the trust directory" in caplog.text


def test_a_member_that_left_the_directory_does_not_keep_the_node_from_starting(
    tmp_path: Path, opened: Callable[..., PolicyFile], federation: MemoryFederation
) -> None:
    written(tmp_path, MINIMAL)
    accepted = opened().current().to_json()
    federation.remove("nl")
    assert opened(accepted=lambda found: found.to_json() == accepted).current().rules


def test_the_example_in_the_documents_is_a_policy(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/policy.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    policy = read_policy(written(tmp_path, example), KNOWN)
    assert [rule.name for rule in policy.rules] == ["trainees", "neighbours"]
    settings = {each.name for each in (*fields(Rule), *fields(Limits))} - {"limits"}
    table = page[page.index("| setting |") : page.index("A role comes with")]
    assert settings - {"name"} == set(
        re.findall(r"`([a-z_]+)`", "".join(line.split("|")[1] for line in table.splitlines()[2:] if "|" in line))
    )
