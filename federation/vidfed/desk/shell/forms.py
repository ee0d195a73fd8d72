"""Forms as they are posted: small, with each field read by name."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from vidfed.desk.shell.errors import FormError, TooMuchError

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_FORM_BYTES = 8 << 20
"""Of a posted form: room for 100,000 pasted digests, which is more than a draft takes."""
MAX_FIELDS = 200


class Form:
    """The fields of a posted form."""

    def __init__(self, fields: dict[str, list[str]]) -> None:
        self._fields = fields

    @classmethod
    async def of(cls, request: Request) -> Form:
        """Read a request's body.

        Raises:
            TooMuchError: it is larger than any form of the desk.
            FormError: it is no form.
        """
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_FORM_BYTES:
                raise TooMuchError(f"{MAX_FORM_BYTES >> 20} MiB")
        try:
            return cls(parse_qs(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS))
        except ValueError:
            raise FormError("the form could not be read") from None

    def text(self, name: str, *, needed: str = "") -> str:
        """Return a field without blanks at its ends; empty if it is not there.

        Args:
            name: of the field.
            needed: what to say if it is empty; not needed if empty.

        Raises:
            FormError: it is needed, and empty.
        """
        value = self._fields.get(name, [""])[0].strip()
        if needed and not value:
            raise FormError(needed)
        return value

    def all(self, name: str) -> list[str]:
        """Return all values of a field."""
        return [value for value in self._fields.get(name, []) if value]

    def fields(self) -> list[tuple[str, str]]:
        """Return all fields that hold something, to be posted again."""
        return [(name, value) for name, values in self._fields.items() for value in values if value]

    def ticked(self, name: str) -> bool:
        """Tell whether a box is ticked."""
        return bool(self._fields.get(name))
