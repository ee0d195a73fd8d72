"""What a member's programs understand, as its entry in the trust directory says it.

Signed messages are read strictly: a field that is not known refuses the message. So two versions live together by the asking side alone: a
field that came later goes into a message only if everybody it is addressed to says that it knows it.

    if all_speak(directory, audience, FILMS):
        ...  # write the field

What stands here are names. Which of them this program speaks is `vidfed.wire.capabilities.SPOKEN`, and a member's node states that in the
member's entry by itself. A name keeps its meaning for ever; what means something else gets another name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vidfed.security.identity.directory import Directory

PROTOCOL = "protocol/1"
"""The signed messages of version 0.2: what everybody speaks."""
MANY_CODES = "many-codes"
"""Several codes of a record's picture, and which of its views one is of."""
CASEWORK = "casework"
"""Conversations about records, sealed from person to person, and news of records that were told."""
OFFICERS = "officers"
"""Believes decisions on release, and seals, by the lists of officers in members' entries; its own entry has one."""
STANDING = "standing"
"""Standing lookups: by a mandate, what became known since an epoch."""
FILMS = "films"
"""Frames of one film, with their places in it."""


def hashes(algorithm: str) -> str:
    """Return the name of the capability to compare hashes of an algorithm, e.g. `hash/pdq`."""
    return f"hash/{algorithm}"


def all_speak(directory: Directory, audience: Iterable[str], *capabilities: str) -> bool:
    """Tell whether every member of an audience says that it understands all of these. One that is not in the directory says nothing."""
    members = (directory.members.get(member) for member in audience)
    return all(member is not None and member.speaks.issuperset(capabilities) for member in members)
