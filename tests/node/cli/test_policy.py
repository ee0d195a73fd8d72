"""`vidfed node policy`, from the outside."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from tests.support.sockets import SocketFederation
from vidfed.index import Algorithm
from vidfed.node.cli.node import node
from vidfed.node.operations.doctor import examine
from vidfed.node.operations.status import read_status
from vidfed.node.policy.file import not_in_force, read_policy
from vidfed.node.records.known import open_store
from vidfed.node.records.lifecycle import retract
from vidfed.node.records.record import Record
from vidfed.node.serving.metrics import NodeCollector
from vidfed.security.audit.changes import SEEN_FILE, Seen
from vidfed.security.clock import system_clock
from vidfed.security.member.audit_log import open_log

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.security.member.home import MemberHome

POLICY = """
[[rule]]
name = "trainees"
members = ["fr"]
roles = ["trainee"]
purposes = ["identification"]
algorithms = ["md5"]

[[rule]]
name = "neighbours"
members = ["fr"]
purposes = ["identification"]
withheld_series = ["Tulip"]
"""
RECORDS = [
    Record({Algorithm.PDQ: bytes(32)}, series="Tulip", reference="aa"),
    Record({Algorithm.PDQ: b"\x01" * 32}, series="Rose", reference="bb"),
]


@pytest.fixture
def home(tmp_path: Path) -> MemberHome:
    made = SocketFederation(tmp_path, "nl", "fr").homes["nl"]
    (made.folder / "policy.toml").write_text(POLICY)
    with open_store(made) as store:
        store.upsert(RECORDS, now_ms=1)
        store.upsert([Record({Algorithm.PDQ: b"\x02" * 32}, reference="cc")], now_ms=1)
        retract(store, "cc", "wrong", now_ms=2)
    return made


def run(home: MemberHome, *arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(node, ["policy", *map(str, arguments), "--home", str(home.folder)])
    assert result.exit_code == status, result.output
    return result


def explained(home: MemberHome, reference: str, *more: str, member: str = "fr") -> dict[str, Any]:
    said = run(home, "explain", "--member", member, "--record", reference, "--purpose", "identification", *more, "--json").stdout
    (found,) = json.loads(said)
    found["failed"] = [step["name"] for step in found["steps"] if not step["passed"]]
    assert isinstance(found, dict)
    return found


def test_check_shows_the_rules(home: MemberHome) -> None:
    said = run(home, "check").stdout
    assert "1. trainees: fr with one of the roles trainee, for identification" in said
    assert "2. neighbours: fr, for identification" in said
    assert len(json.loads(run(home, "check", "--json").stdout)["rules"]) == 2


def test_check_refuses_what_it_does_not_understand(home: MemberHome, tmp_path: Path) -> None:
    draft = tmp_path / "draft.toml"
    draft.write_text(POLICY.replace('"fr"', '"rf"'))
    assert "members: 'rf' is not in the trust directory; known are fr, nl" in run(home, "check", draft, status=1).stderr


def test_check_warns_of_a_series_that_no_record_is_of(home: MemberHome, tmp_path: Path) -> None:
    draft = tmp_path / "draft.toml"
    draft.write_text(POLICY.replace("Tulip", "Tulpi"))
    assert "withheld_series: no record is of the series 'tulpi'" in run(home, "check", draft).stderr


def test_check_warns_of_a_rule_below_one_that_always_decides_before_it(home: MemberHome, tmp_path: Path) -> None:
    assert "never decides" not in run(home, "check").stderr
    draft = tmp_path / "draft.toml"
    trainees, neighbours = POLICY.split("\n\n")
    draft.write_text(f"{neighbours}\n{trainees}\n")
    assert "rule trainees never decides: rule neighbours above it is for everybody" in run(home, "check", draft).stderr


def test_a_member_that_has_left_the_directory_does_not_make_the_policy_in_force_wrong(tmp_path: Path) -> None:
    """Whoever is removed, no other operator is alarmed as if by a mistake of their own; what is changed after that is read strictly."""
    federation = SocketFederation(tmp_path, "nl", "fr")
    home, path = federation.homes["nl"], federation.homes["nl"].folder / "policy.toml"
    path.write_text(POLICY)
    with closing(open_log(home)) as log:
        Seen(home.state_file(SEEN_FILE), "nl", log, system_clock).policy(read_policy(path).to_json())
    federation.administrators.remove("fr")
    assert "Warning: fr is named and is not in the trust directory any more" in run(home, "check").stderr
    assert read_status(home).policy == "2 rules for fr; not in the trust directory: fr"
    right, *_ = NodeCollector(home, home.directory_source()).parts()["policy"]()
    assert (right.name, right.samples[0].value) == ("vidfed_node_policy_right", 1)
    path.write_text(POLICY.replace("Tulip", "Rose"))
    assert "'fr' is not in the trust directory" in run(home, "check", status=1).stderr
    assert read_status(home).policy.startswith("NOT USABLE")


def test_a_draft_that_is_not_there_is_no_policy_without_rules(home: MemberHome, tmp_path: Path) -> None:
    missing = tmp_path / "no-such-draft.toml"
    assert "does not exist" in run(home, "check", missing, status=2).stderr
    assert "does not exist" in run(home, "explain", "--member", "fr", "--record", "aa", "--policy", missing, status=2).stderr


def test_explain_names_the_step_that_withholds(home: MemberHome) -> None:
    assert explained(home, "bb")["told"]
    assert explained(home, "aa")["failed"] == ["series"]
    assert explained(home, "cc")["failed"] == ["state"]
    assert explained(home, "bb", "--role", "trainee")["failed"] == ["search"]
    assert explained(home, "bb", member="nl")["failed"] == ["rule"]
    assert explained(home, "bb", member="de")["failed"] == ["directory", "rule"]


def test_explain_tells_people_the_same(home: MemberHome) -> None:
    said = run(home, "explain", "--member", "fr", "--record", "aa").stdout
    assert "fr, no role, identification: record aa" in said
    assert "NO   series       Tulip; withheld are tulip" in said
    assert "=> to fr it looks like no hit (series)" in said
    assert "=> fr is refused whatever it asks for this purpose" in said  # for the other purposes


def test_explain_refuses_a_role_or_purpose_or_record_that_there_is_not(home: MemberHome) -> None:
    assert "'chief' is unknown" in run(home, "explain", "--member", "fr", "--record", "aa", "--role", "chief", status=2).stderr
    assert "'fun' is unknown" in run(home, "explain", "--member", "fr", "--record", "aa", "--purpose", "fun", status=2).stderr
    assert "no record has the reference" in run(home, "explain", "--member", "fr", "--record", "zz", status=1).stderr


WIDER = POLICY.replace('withheld_series = ["Tulip"]', 'distances = "bands"').replace(
    'name = "neighbours"', 'name = "The neighbours (2026)"'
)


def draft_of(tmp_path: Path, text: str) -> Path:
    draft = tmp_path / "new policy.toml"
    draft.write_text(text)
    return draft


def test_apply_shows_who_gains_and_loses_what_and_installs_the_file_whole(home: MemberHome, tmp_path: Path) -> None:
    draft, path = draft_of(tmp_path, WIDER), home.folder / "policy.toml"
    path.chmod(0o640)
    shown = run(home, "apply", draft, "--dry-run").stdout
    assert "fr: GAINS 1 records, loses 0: told of 2, was 1" in shown
    assert "    distances: exact -> bands (for identification)" in shown
    assert "nl: nothing changes; told of 0 records" in shown
    assert path.read_text() == POLICY
    said = json.loads(run(home, "apply", draft, "--yes", "--json").stdout)
    assert (said["records"], said["installed"]) == (2, True)
    assert [(each["member"], each["gains"], each["loses"]) for each in said["members"]] == [("fr", 1, 0), ("nl", 0, 0)]
    assert path.read_text() == WIDER
    assert path.stat().st_mode & 0o777 == 0o640


def test_apply_counts_what_one_purpose_gains_although_the_whole_stays_as_large(home: MemberHome, tmp_path: Path) -> None:
    """Told for investigation instead of identification: the union over the purposes does not change, what is told does."""
    said = json.loads(
        run(home, "apply", draft_of(tmp_path, POLICY.replace('"identification"', '"investigation"')), "--dry-run", "--json").stdout
    )
    fr = said["members"][0]
    assert (fr["told_before"], fr["told_after"], fr["gains"], fr["loses"]) == (1, 1, 1, 1)
    assert "refused -> answered (for investigation)" in fr["settings"]


def test_apply_counts_no_record_that_the_new_rules_find_by_nothing(home: MemberHome, tmp_path: Path) -> None:
    said = json.loads(run(home, "apply", draft_of(tmp_path, POLICY + 'algorithms = ["md5"]\n'), "--dry-run", "--json").stdout)
    assert (said["members"][0]["told_after"], said["members"][0]["loses"]) == (0, 1)


def test_apply_installs_nothing_that_is_no_policy_and_nothing_without_a_yes(home: MemberHome, tmp_path: Path) -> None:
    path = home.folder / "policy.toml"
    assert (
        "lacks the setting 'purposes'" in run(home, "apply", draft_of(tmp_path, POLICY.replace("purposes", "# purposes")), status=1).stderr
    )
    assert "add --yes" in run(home, "apply", draft_of(tmp_path, WIDER), status=2).stderr
    assert "--json asks nothing" in run(home, "apply", draft_of(tmp_path, WIDER), "--json", status=2).stderr
    assert path.read_text() == POLICY


def test_apply_over_a_file_that_is_no_policy_does_not_say_that_nobody_was_told(home: MemberHome, tmp_path: Path) -> None:
    (home.folder / "policy.toml").write_text("[[rule")
    shown = run(home, "apply", draft_of(tmp_path, WIDER), "--yes").stdout
    assert "fr: told of 2 records; what it was told of before is not known" in shown
    assert "in place of a file that is no policy" in shown


def test_a_right_file_that_the_node_does_not_go_by_is_told_everywhere(home: MemberHome) -> None:
    """The log was full when it changed: the older, wider policy is in force, and the file looks as if it were not."""
    path = home.folder / "policy.toml"
    with closing(open_log(home)) as log:
        Seen(home.state_file(SEEN_FILE), "nl", log, system_clock).policy(read_policy(path).to_json())
    path.write_text(POLICY.replace('"fr"', '"nl"'))
    later = path.stat().st_ctime_ns // 1_000_000 + 60_000
    with pytest.MonkeyPatch.context() as patch:
        for module in ("node.operations.status", "node.operations.doctor", "node.serving.metrics", "node.operations.policy_change"):
            patch.setattr(f"vidfed.{module}.system_clock", lambda: later)
        assert "NOT what the node goes by" in read_status(home).policy
        right, *_ = NodeCollector(home, home.directory_source()).parts()["policy"]()
        assert right.samples[0].value == 0
        (found,) = [each for each in examine(home).findings if each.point == "policy"]
        assert (found.passed, "NOT what the node goes by" in found.said) == (False, True)
        assert "is not known" in run(home, "apply", path, "--dry-run").stdout


def test_a_file_that_changed_just_now_or_that_no_node_has_gone_by_yet_is_not_said_to_be_another(home: MemberHome) -> None:
    path = home.folder / "policy.toml"
    changed_ms = path.stat().st_ctime_ns // 1_000_000
    policy = read_policy(path)
    assert not_in_force(home, policy, changed_ms + 60_000) == "", "no node has run"
    with closing(open_log(home)) as log:
        Seen(home.state_file(SEEN_FILE), "nl", log, system_clock).policy(policy.to_json())
    path.write_text(POLICY.replace('"fr"', '"nl"'))
    changed_ms = path.stat().st_ctime_ns // 1_000_000
    assert not_in_force(home, read_policy(path), changed_ms + 1_000) == "", "it may still be taken over"
    assert "NOT what the node goes by" in not_in_force(home, read_policy(path), changed_ms + 60_000)
    assert not_in_force(home, policy, changed_ms + 60_000) == ""


def test_a_tag_that_no_record_has_is_warned_of_also_where_another_rule_names_none(home: MemberHome, tmp_path: Path) -> None:
    draft = tmp_path / "draft.toml"
    draft.write_text(POLICY.replace('withheld_series = ["Tulip"]', 'withheld_tags = ["seekrit"]'))
    assert "withheld_tags: no record has the tag 'seekrit'" in run(home, "check", draft).stderr
