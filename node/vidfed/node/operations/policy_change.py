"""A new policy made the policy: understood, compared with the one before over the real records, installed whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.node.errors import PolicyError
from vidfed.node.operations.operator_audit import Operation, log_operation
from vidfed.node.policy.difference import MemberDifference, RecordKinds, differences
from vidfed.node.policy.file import POLICY_FILE, not_in_force, parse_policy, read_own_policy
from vidfed.node.policy.lint import lint
from vidfed.node.records.known import open_store
from vidfed.node.records.lifecycle import RecordQuery, stored_records
from vidfed.security.clock import system_clock
from vidfed.security.files import PUBLIC_MODE, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from vidfed.node.policy.policy import Policy
    from vidfed.security.member.home import MemberHome

_SHOWN_EACH = 1_000  # records between two calls of the progress display


@dataclass(frozen=True, slots=True)
class Proposal:
    """A policy that could be installed, and what it would change.

    Attributes:
        policy: as it was understood.
        content: the bytes it was understood from, which are what is installed.
        before: in words, what it would take the place of.
        records: live records that were counted.
        differences: for each member.
        warnings: what is perhaps not meant.
    """

    policy: Policy
    content: bytes
    before: str
    records: int
    differences: list[MemberDifference]
    warnings: list[str]


def proposal(home: MemberHome, file: Path, members: Collection[str] | None, progress: Callable[[int, int], object]) -> Proposal:
    """Read a file that could become the policy and compare it with what is in force; the audit log says that the records were read.

    Args:
        home: the member's folder.
        file: the new policy.
        members: ids in the trust directory; None where it cannot be read: then only members that a policy names are compared.
        progress: called with records read and records in all.

    Raises:
        PolicyError: the file cannot be read or makes no sense.
        StoreError, AuditError: records cannot be read, or nothing can be logged.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise PolicyError(f"{file}: {error.strerror}") from None
    policy = parse_policy(file, content, members)
    before, said = _in_force(home, members)
    kinds = RecordKinds()
    with open_store(home, reads_only=True) as store:
        total = store.state().records
        log_operation(home, Operation.CONSULTATION, "READ", records=total, now_ms=system_clock())
        for number, kept in enumerate(stored_records(store, RecordQuery()), 1):
            kinds.add(kept.record)
            if number % _SHOWN_EACH == 0:
                progress(number, total)
        warnings = list(lint(store, policy))
    return Proposal(policy, content, said, len(kinds), differences(before, policy, kinds, members or ()), warnings)


def install(home: MemberHome, found: Proposal) -> None:
    """Make it the policy: after a crash the file is the old or the new one. Owner and mode stay those of the old file.

    Raises:
        PolicyError: it cannot be written; the old file is as it was.
    """
    path = home.folder / POLICY_FILE
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else PUBLIC_MODE
        write_whole(path, found.content, mode=mode)
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}; the policy is the one before") from None


def _in_force(home: MemberHome, members: Collection[str] | None) -> tuple[Policy | None, str]:
    """Return the policy that the node goes by and what it is in words; None where that is not what its file says."""
    path = home.folder / POLICY_FILE
    try:
        policy = read_own_policy(home, members)
    except PolicyError as error:
        return None, f"a file that is no policy ({error}): what a running node goes by is not known here"
    if other := not_in_force(home, policy, system_clock()):
        return None, f"one that is not known here: {other}"
    return policy, f"{path} with {len(policy.rules)} rules" if policy.rules else "a policy without rules, which answers nobody"
