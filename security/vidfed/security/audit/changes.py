"""Changes of policy and of trust, noticed and logged by the node: what the configuration and the directory are, not who says they changed.

Both are files that others write. So the node compares their digests with those it saw last, when it starts and while it runs.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.security.audit.entries import AuditEntry, Event, Operation
from vidfed.security.errors import DirectoryError
from vidfed.security.files import write_private

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.security.audit.log import AuditLog
    from vidfed.security.clock import Clock
    from vidfed.security.identity.directory import DirectorySource

SEEN_FILE = "seen.json"


@dataclass(frozen=True, slots=True)
class Seen:
    """Where the node remembers what it saw last. Whoever deletes the file has everything logged anew."""

    path: Path
    member: str
    log: AuditLog
    clock: Clock

    def policy(self, content: str) -> None:
        """Log the policy, in its form as text, if it is another than last time.

        Raises:
            AuditError: it cannot be logged.
        """
        self._note("policy", Event.POLICY_CHANGED, _digest(content), {"policy": content})

    def was_policy(self, content: str) -> bool:
        """Tell whether this is the policy that was logged last."""
        return bool(was_policy(self.path, content))

    def trust(self, source: DirectorySource) -> None:
        """Log the trust directory if it is another than last time; one that cannot be used is not a change.

        Raises:
            AuditError: it cannot be logged.
        """
        try:
            directory = source.current()
        except DirectoryError:
            return
        members = ",".join(sorted(directory.members))
        details: dict[str, int | str] = {"version": directory.version, "members": members}
        # The version grows with every change the administrators or a member publish, not with the daily confirmation.
        what = json.dumps([directory.version, [directory.members[member].to_fields() for member in sorted(directory.members)]])
        self._note("trust", Event.TRUST_CHANGED, hashlib.sha256(what.encode()).hexdigest(), details)

    def _note(self, what: str, event: Event, digest: str, details: dict[str, int | str]) -> None:
        seen = self._read()
        if seen.get(what) == digest:
            return
        details |= {"digest": digest, "before": seen.get(what, "")}
        self.log.append(AuditEntry(self.clock(), Operation.ALTERATION, event, self.member, details=details))
        # After the entry: a crash in between logs the change twice, never not at all.
        write_private(self.path, json.dumps({**seen, what: digest}).encode())

    def _read(self) -> dict[str, str]:
        return _read(self.path)


def was_policy(seen: Path, content: str) -> bool | None:
    """Tell whether this is the policy that was logged last, by the file in which the node remembers what it saw; None: it saw none yet."""
    digest = _read(seen).get("policy")
    return None if digest is None else digest == _digest(content)


def _read(path: Path) -> dict[str, str]:
    try:
        seen = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return {str(what): str(digest) for what, digest in seen.items()} if isinstance(seen, dict) else {}


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()
