"""What the desk itself refuses. What the libraries refuse keeps its own errors and words."""

from __future__ import annotations


class DeskError(Exception):
    """Root of everything the desk raises on purpose; its text is for the person at the desk, who reads it in the own language.

    Attributes:
        text: in English, with places for values as `%(name)s`; as it is in the catalogues.
        values: for those places.
    """

    def __init__(self, text: str, **values: object) -> None:
        super().__init__(text % values if values else text)
        self.text = text
        self.values = values


class FormError(DeskError):
    """A form was not filled in as it must be; the text says which field and how."""


class TooMuchError(DeskError):
    """More was dropped or sent than is taken."""

    def __init__(self, limit: str) -> None:
        super().__init__(
            "More than the desk takes at once (%(limit)s): give the path of its folder instead, under Whole cases.", limit=limit
        )


class DiskError(DeskError):
    """What was dropped could not be written down."""


class GoneError(DeskError):
    """What a page speaks of is not here any more: it ended with an earlier run of the desk, or made room."""
