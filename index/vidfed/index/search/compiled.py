"""The compiled loops, where the machine has them: `kernels.py`, loaded when first needed."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

_logger = logging.getLogger(__name__)


@cache
def kernels() -> tuple[ModuleType | None, str]:
    """The compiled loops, or None and the reason why there are none. Takes a second, and several the first time on a machine."""
    try:
        from vidfed.index.search import kernels as module  # noqa: PLC0415 - needs a second to load, or a compiler
    except Exception as error:  # noqa: BLE001 - whatever a compiler fails with, the scan is right, only slower
        _logger.warning("compiled search not available, every query scans every row: %s: %s", type(error).__name__, error)
        return None, f"{type(error).__name__}: {error}"
    return module, ""


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A view nobody can write to: the type of array the compiled loops are compiled for."""
    view = array.view()
    view.flags.writeable = False
    return view
