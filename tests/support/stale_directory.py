"""A trust directory that lags behind until it is asked for something newer: for tests of who asks, and when."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from vidfed.security.crypto.keys import SigningKey

if TYPE_CHECKING:
    from vidfed.security.identity.directory import Directory, DirectorySource


@dataclass(slots=True)
class BehindDirectory:
    """A `DirectorySource` that knows another signing key of one member, and an older version, than the true one.

    Attributes:
        true: what it lags behind.
        member: whose key it does not know yet.
        reachable: whether asking for something newer finds it.
        asked: for whom it was asked.
    """

    true: DirectorySource
    member: str
    reachable: bool = True
    asked: list[str] = field(default_factory=list)

    def current(self) -> Directory:
        """Return the older directory until something newer was asked for and found."""
        directory = self.true.current()
        if self.asked and self.reachable:
            return directory
        other = replace(directory.members[self.member], signing_keys=(SigningKey.generate().public,))
        members = MappingProxyType({**directory.members, self.member: other})
        return replace(directory, version=directory.version - 1, members=members)

    def refresh_for(self, member: str) -> bool:
        """Note who was asked for."""
        self.asked.append(member)
        return self.reachable
