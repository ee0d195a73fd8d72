"""The transparency report as one HTML page: no script, no file besides, nothing loaded from anywhere; bars drawn as inline SVG."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from vidfed.security.audit.report import MIN_COUNT, TABLES, TOTALS, range_text
from vidfed.security.clock import as_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidfed.security.audit.report import Range
    from vidfed.security.crypto.envelope import Envelope

_ROW = 24  # px
_LABEL = 230
_BAR = 380
_WIDTH = _LABEL + _BAR + 110
_HOW = (
    f"Counts are told as ranges of five, counts below {MIN_COUNT} as 1\u20134, so that no number points to a single case. "
    "Totals are rounded by themselves and need not be the sums of what stands below. "
    "In the bars, dark is the least and light the most it can be."
)
_DRAFT = (
    '<p class="draft">DRAFT, not for publication: it does not cover whole months that are over. '
    "Drafts over times that overlap can be subtracted from each other, which tells what their ranges hide.</p>"
)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1b2430; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { padding: .2rem 1rem .2rem 0; text-align: left; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
pre { white-space: pre-wrap; word-break: break-all; background: #f2f4f7; padding: .8rem; font-size: 12px; }
.draft { border: 2px solid #a33; color: #a33; padding: .5rem .8rem; }
svg { max-width: 100%; height: auto; } .note { color: #566273; }
@media print { body { margin: 0; } }
"""


def render(report: Mapping[str, Any], envelope: Envelope, signer: str) -> str:
    """Return the page.

    Args:
        report: as made or combined.
        envelope: the signed report; shown at the end, so that the page carries its own proof.
        signer: the member that signed it.
    """
    members = ", ".join(map(str, report["members"]))
    period = f"{as_text(report['from_ms'])[:10]} to {as_text(report['to_ms'])[:10]}"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>Lookups of {escape(members)}, {period}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Lookups in federation {escape(str(report['federation']))}: {escape(members)}</h1>",
        f"<p>{period} (end not included), made {as_text(report['made_ms'])}, signed by {escape(signer)}.</p>",
        _DRAFT if report["draft"] else "",
        f'<p class="note">{_HOW}</p>',
        "<table>",
    ]
    parts += [f'<tr><td>{escape(text)}</td><td class="n">{range_text(report["totals"][name])}</td></tr>' for name, text in TOTALS.items()]
    shares = report["shares"]
    for name, text in (("hit_rate_percent", "Hit rate"), ("refusal_rate_percent", "Refused")):
        value = "not told (too few)" if shares.get(name) is None else f"{int(shares[name])} %"
        parts.append(f'<tr><td>{text}</td><td class="n">{value}</td></tr>')
    parts.append("</table>")
    for name, title in TABLES.items():
        if table := report["tables"].get(name):
            parts.append(f"<h2>{escape(title)}</h2>{_bars(title, table)}")
    parts.append("<h2>Response times</h2><table><tr><th></th><th>median</th><th>9 of 10 within</th></tr>")
    for name, found in report["times_ms"].items():
        told = (
            f'<td class="n">{int(found["median"])} ms</td><td class="n">{int(found["p90"])} ms</td>'
            if found
            else "<td>too few</td><td></td>"
        )
        parts.append(f"<tr><td>{escape(str(name)).replace('_', ' ')}</td>{told}</tr>")
    parts.append("</table><h2>What this rests on</h2><p>The checkpoint of each log that was counted:</p>")
    parts += [f"<pre>{escape(str(note))}</pre>" for note in report["checkpoints"].values()]
    parts.append(f"<p>The signed report itself (DSSE):</p><pre>{escape(envelope.to_json().decode())}</pre></body></html>")
    return "\n".join(parts) + "\n"


def _bars(title: str, table: Mapping[str, Range]) -> str:
    """Draw one bar for each row: the sure part dark, the range light, the range in words beside it."""
    most = max(high for _, high in table.values()) or 1
    height = _ROW * len(table) + 4
    drawn = [
        f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" font-size="13">'
    ]
    for number, (label, found) in enumerate(table.items()):
        top = number * _ROW
        sure, possible = (bound * _BAR / most for bound in found)
        drawn += [
            f'<text x="{_LABEL - 8}" y="{top + 16}" text-anchor="end">{escape(str(label)[:32]) or "(none)"}</text>',
            f'<rect x="{_LABEL}" y="{top + 4}" width="{possible:.1f}" height="16" fill="#b9cbe4"/>',
            f'<rect x="{_LABEL}" y="{top + 4}" width="{sure:.1f}" height="16" fill="#2b5797"/>',
            f'<text x="{_LABEL + possible + 6:.1f}" y="{top + 16}">{range_text(found)}</text>',
        ]
    return "".join(drawn) + "</svg>"
