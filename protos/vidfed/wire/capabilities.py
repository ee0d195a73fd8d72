"""What this program speaks, in the names by which a member's entry states it; what for is told in `security.identity.capabilities`.

Whoever adds a field to a signed message that an older program would refuse adds the field's name there, and here.
"""

from __future__ import annotations

from vidfed.index import Algorithm
from vidfed.security.identity.capabilities import CASEWORK, FILMS, MANY_CODES, OFFICERS, PROTOCOL, STANDING, hashes

SPOKEN = frozenset(
    {PROTOCOL, MANY_CODES, CASEWORK, OFFICERS, STANDING, FILMS, *(hashes(algorithm.name.lower()) for algorithm in Algorithm)}
)
