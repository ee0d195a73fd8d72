"""How long a test waits for what must come. One number, for a wait of a test's own fails on a busy machine although the code is right."""

from __future__ import annotations

PATIENCE_S = 110.0
"""Just below the suite's limit for a test (`timeout` in pyproject.toml), so that what did not come is named before the test is ended."""
PATIENCE_MS = 1000 * PATIENCE_S
DEADLINE_S = 50.0
"""For a lookup that is to be answered: a signed question is good for a minute, whatever the machine does meanwhile."""
