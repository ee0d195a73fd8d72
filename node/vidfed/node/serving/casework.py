"""What a node gives to the conversations about its records: whether it may still tell of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.node.errors import NodeError
from vidfed.node.records.lifecycle import stored_record
from vidfed.security.errors import DirectoryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.node.policy.policy import PolicySource
    from vidfed.node.records.store import RecordStore
    from vidfed.security.identity.directory import DirectorySource


def telling(store: RecordStore, policy: PolicySource, source: DirectorySource) -> Callable[[str, str], bool]:
    """Return what tells whether a member would be told of a record today, for some purpose and role: by the policy in force."""

    def may_tell(member: str, reference: str) -> bool:
        try:
            entry = source.current().members.get(member)
            kept = stored_record(store, reference)
        except (DirectoryError, NodeError):
            return False
        if entry is None or entry.quarantined or kept.state != "live":
            return False
        return any(rule.names(member) and rule.tells(member, kept.record) for rule in policy.current().rules)

    return may_tell
