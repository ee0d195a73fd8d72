"""What the desk itself refuses. What the libraries refuse keeps its own errors and words."""

from __future__ import annotations


class DeskError(Exception):
    """Root of everything the desk raises on purpose; its text is for the person at the desk."""


class FormError(DeskError):
    """A form was not filled in as it must be; the text says which field and how."""


class TooMuchError(DeskError):
    """More was dropped or sent than is taken."""

    def __init__(self, limit: int, why: str = "") -> None:
        super().__init__(why or f"more than the desk takes at once ({limit:,}): give the path of its folder instead")


class GoneError(DeskError):
    """What a page speaks of is not here any more: it ended with an earlier run of the desk, or made room."""
