"""On a process's PYTHONPATH: its indexes write segments of a few dozen rows, as those of a test."""

from __future__ import annotations

from vidfed.index.search import merger

_FEW = {"first_seal_rows": 24, "seal_rows": 12, "most_rows": 150, "large_rows": 60}


def _tiny(*, made: type[merger.Sizes] = merger.Sizes) -> merger.Sizes:
    return made(**_FEW)


merger.Sizes = _tiny  # type: ignore[misc,assignment]  # before hash_index takes the name
