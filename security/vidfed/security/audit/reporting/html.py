"""The transparency report as one HTML page: no script, no file besides, nothing loaded from anywhere; bars drawn as inline SVG.

The template escapes whatever it is given: a report may be another member's.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jinja2

from vidfed.security.audit.reporting.report import MIN_COUNT, TABLES, TOTALS, range_text
from vidfed.security.clock import as_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidfed.security.crypto.envelope import Envelope

_SHARES = {"hit_rate_percent": "Hit rate", "refusal_rate_percent": "Refused"}


def render(report: Mapping[str, Any], envelope: Envelope, signer: str) -> str:
    """Return the page.

    Args:
        report: as made or combined.
        envelope: the signed report; shown at the end, so that the page carries its own proof.
        signer: the member that signed it.
    """
    return _template().render(
        report=report, envelope=envelope, signer=signer, min_count=MIN_COUNT, totals=TOTALS, shares=_SHARES, tables=TABLES
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vidfed.security.audit"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,  # a field that is not there is an error, not a gap in what is published
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(moment=as_text, range_text=range_text)
    return environment.get_template("report.html")
