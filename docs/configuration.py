"""Writes docs/configuration.md from the program itself: `python docs/configuration.py`. A test says whether it is current."""

from __future__ import annotations

import dataclasses
import re
import textwrap
import typing
from pathlib import Path

from vidfed.casework.settings import CaseworkSection
from vidfed.federation.gateway.settings import GatewaySection
from vidfed.node.config import NodeSection, StoreSection
from vidfed.node.policy.policy import Limits, Rule
from vidfed.node.sources.outbox import OutboxSection
from vidfed.node.sources.settings import KINDS
from vidfed.security.member.audit_log import AuditSection
from vidfed.security.member.home import MemberSection, TrustSection
from vidfed.security.member.logs import LogSection

PAGE = Path(__file__).with_suffix(".md")
_SECTIONS = {
    "member": MemberSection,
    "trust": TrustSection,
    "node": NodeSection,
    "store": StoreSection,
    "gateway": GatewaySection,
    "casework": CaseworkSection,
    "log": LogSection,
    "audit": AuditSection,
}
_FURTHER = {"[outbox]": OutboxSection} | {f'[source.NAME]` with `kind = "{kind}"': section for kind, section in KINDS.items()}
"""Sections that a new configuration does not have; connect.md says what they are for."""
_HEAD = """\
# Configuration

<!-- Written by docs/configuration.py from the program; a test keeps it current. -->

Everything a member's services can be told is in two files of its folder: `vidfed.toml`, read when a service starts, and `policy.toml`,
taken over while the node runs ([policy.md](policy.md)). Units are in the names; paths are relative to the folder. An unknown section or
setting, or a value of another type or that makes no sense, is an error that names file, section and setting: `vidfed node doctor` (of
`[gateway]`, `vidfed gateway status`) shows it before a restart does.
"""
_TYPES = {str: "text", int: "whole number", float: "number", bool: "true or false", tuple[str, ...]: "list of texts"}


def described(kind: type) -> dict[str, str]:
    """Return what a dataclass's docstring says of each field; LookupError if it leaves one out."""
    said: dict[str, str] = {}
    names: list[str] = []
    blocks = [textwrap.dedent((each.__doc__ or "").partition("Attributes:")[2]) for each in reversed(kind.__mro__)]
    for line in "\n".join(blocks).splitlines():
        if match := re.match(r"([a-z_]+(?:, [a-z_]+)*): (.*)", line):
            names = match[1].split(", ")
            said |= dict.fromkeys(names, match[2])
        else:
            said |= {name: f"{said[name]} {line.strip()}".strip() for name in names}
    fields = {field.name for field in dataclasses.fields(kind)}
    if missing := sorted(fields - said.keys()):
        raise LookupError(f"{kind.__name__} does not describe {', '.join(missing)}")
    return said


def page() -> str:
    """Return the whole page."""
    parts = [_HEAD]
    headings = {f"[{name}]": kind for name, kind in _SECTIONS.items()} | _FURTHER
    for heading, kind in headings.items():
        hints, said = typing.get_type_hints(kind), described(kind)
        more = ": [connect.md](connect.md)" if heading in _FURTHER else ""
        parts.append(f"## `{heading}`{more}\n\n| setting | type | not said | meaning |\n|---|---|---|---|")
        parts += [
            f"| `{field.name}` | {_TYPES[hints[field.name]]} | {_default(field)} | {_cell(said[field.name])} |"
            for field in dataclasses.fields(kind)
        ]
        parts.append("")
    parts.append("## `[[rule]]` in `policy.toml`\n\n| setting | meaning |\n|---|---|")
    for kind in (Rule, Limits):
        parts += [f"| `{name}` | {_cell(text)} |" for name, text in described(kind).items() if name != "limits"]
    return "\n".join(parts) + "\n"


def _default(field: dataclasses.Field[object]) -> str:
    if field.default is dataclasses.MISSING:
        return "must be said"
    shown = {True: "true", False: "false", "": "empty", (): "empty"}
    return shown.get(field.default, f"`{field.default}`") if isinstance(field.default, bool | str | tuple) else f"`{field.default}`"


def _cell(text: str) -> str:
    return (text[:1].upper() + text[1:]).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
