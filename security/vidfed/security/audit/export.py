"""A range of the log in one file that proves itself: `vidfed audit verify FILE` needs nothing else.

JSON lines. The first says whose log it is, with a checkpoint (and the witnesses' cosignatures), the signed trust directory that names the
keys, and the hashes that join the range to the checkpoint's root; then one line for each entry; the last counts them. Whoever checks it
compares one thing by another channel: the words of the root where the federation's trust starts.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vidfed.security.audit.entries import SealedEntry
from vidfed.security.audit.merkle import HASH_BYTES, Frontier, complete_after, heights_after, read_frontier
from vidfed.security.audit.notes import Checkpoint, witness_name
from vidfed.security.audit.verify import DropsAnnounced
from vidfed.security.documents import read_document
from vidfed.security.errors import AuditError, DirectoryError
from vidfed.security.files import PRIVATE_MODE, write_whole
from vidfed.security.trust.anchor import Anchor
from vidfed.security.trust.reader import read_as_issued

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from vidfed.security.audit.log import AuditLog
    from vidfed.security.identity.directory import Directory

KIND = "vidfed-audit-export/1"
MAX_LINE_BYTES = 16 * 1024 * 1024  # the signed directory of the largest federation, in base64
_HEAD = {
    "kind": str,
    "federation": str,
    "member": str,
    "first": int,
    "end": int,
    "checkpoint": str,
    "before": list,
    "after": list,
    "anchor": str,
    "directory": dict,
}
_LINE = {"position": int, "time_ms": int, "commitment": str, "salt": str, "case_salt": str, "body": str}


@dataclass(slots=True)
class ExportReport:
    """What an export file proves.

    Attributes:
        member: whose log.
        federation: and of which federation.
        anchor: the root of trust in it. It proves nothing by itself: its words are to be compared with the administrators'.
        first, end: the positions [first, end) it holds.
        checkpoint: what the range is proven against.
        witnesses: members whose cosignatures of it hold, with the time in s.
        opened: entries whose content is what was logged.
        dropped: entries without content.
        entries: the opened ones' (position, fields).
        findings: what is wrong; empty if nothing is.
    """

    federation: str
    member: str
    anchor: Anchor
    first: int
    end: int
    checkpoint: Checkpoint
    witnesses: dict[str, int] = field(default_factory=dict)
    opened: int = 0
    dropped: int = 0
    entries: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


def write_export(
    path: Path,
    log: AuditLog,
    checkpoint: Checkpoint,
    *,
    first: int,
    end: int,
    member: str,
    anchor: Anchor,
    directory: Mapping[str, bytes],
) -> None:
    """Write entries [first, end) with what proves them under `checkpoint`: the root of trust, and the directory's signed files by name.

    Raises:
        AuditError: the range is not in the log, or the log is damaged.
        OSError: the file cannot be written.
    """
    if not 0 <= first < end <= checkpoint.size:
        raise AuditError(f"entries {first} to {end - 1} are not under the checkpoint of {checkpoint.size} entries")
    read = log.storage.read_hashes
    head = {
        "kind": KIND,
        "federation": anchor.federation,
        "member": member,
        "first": first,
        "end": end,
        "checkpoint": checkpoint.text,
        "before": [_text(root) for root in read_frontier(read, first).roots],
        "after": [_text(root) for root in complete_after(read, end, checkpoint.size)],
        "anchor": _text(anchor.content),
        "directory": {name: _text(content) for name, content in directory.items()},
    }
    lines = [json.dumps(head)]
    for position, entry in log.storage.entries(first, end):
        body = entry.body.decode() if entry.body is not None else ""
        salts = {"salt": _text(entry.salt or b""), "case_salt": _text(entry.case_salt or b"")}
        line = {"position": position, "time_ms": entry.time_ms, "commitment": _text(entry.commitment), **salts, "body": body}
        lines.append(json.dumps(line, ensure_ascii=False))
    lines.append(json.dumps({"entries": end - first}))
    write_whole(path, ("\n".join(lines) + "\n").encode(), mode=PRIVATE_MODE)


def verify_export(path: Path) -> ExportReport:
    """Check an export file by itself.

    Raises:
        AuditError: it is not an export file, or its head does not hold together; nothing in it can be used then.
    """
    lines = _lines(path)
    head = read_document(next(lines, b""), _HEAD, AuditError, f"{path}: line 1")
    if head["kind"] != KIND:
        raise AuditError(f"{path}: not an export of this version")
    report, directory = _open(head, path)
    before, after = (_hashes(head[name], path) for name in ("before", "after"))
    heights = heights_after(report.end, report.checkpoint.size)
    if report.first.bit_count() != len(before) or len(heights) != len(after):
        raise AuditError(f"{path}: the hashes do not join the entries to the checkpoint")
    edge, drops, missing = Frontier(report.first, before), DropsAnnounced(), []
    last = b""
    for line in lines:
        last = line
        if edge.size == report.end:
            break
        position, entry = _entry(line, path)
        if position != edge.size:
            raise AuditError(f"{path}: entry {position} where {edge.size} should be")
        edge.append(entry.leaf_hash)
        if entry.body is None:
            missing.append(position)
        elif not entry.opens():
            report.findings.append(f"entry {position}: its content is not what was logged")
        else:
            drops.read(position, entry)
            report.entries.append((position, entry.fields()))
    if edge.size != report.end or last != json.dumps({"entries": report.end - report.first}).encode():
        raise AuditError(f"{path}: cut short, or longer than it says")
    if next(lines, None) is not None:
        raise AuditError(f"{path}: trailing junk")
    for root, height in zip(after, heights, strict=True):
        edge.append_complete(root, height)
    if edge.root() != report.checkpoint.root:
        report.findings.append("the entries do not lead to the checkpoint's root: some were changed, added or removed")
    report.opened, report.dropped = len(report.entries), len(missing)
    _judge_signatures(report, directory)
    return report


def _open(head: dict[str, Any], path: Path) -> tuple[ExportReport, Directory]:
    try:
        anchor = Anchor.read(base64.b64decode(head["anchor"], validate=True))
        files = {name: base64.b64decode(content, validate=True) for name, content in head["directory"].items()}
        directory = read_as_issued(files, anchor, str(path))
        directory.member(head["member"])
        if anchor.federation != head["federation"]:
            raise DirectoryError(f"it is of federation {anchor.federation}")
    except (DirectoryError, ValueError, TypeError) as error:
        raise AuditError(f"{path}: the trust directory in it does not hold: {error}") from None
    checkpoint = Checkpoint.parse(head["checkpoint"])
    if not 0 <= head["first"] < head["end"] <= checkpoint.size:
        raise AuditError(f"{path}: entries {head['first']} to {head['end'] - 1} cannot be under a checkpoint of {checkpoint.size}")
    return ExportReport(head["federation"], head["member"], anchor, head["first"], head["end"], checkpoint), directory


def _judge_signatures(report: ExportReport, directory: Directory) -> None:
    try:
        report.checkpoint.verify_log(report.federation, report.member, directory.member(report.member).audit_keys)
    except AuditError as error:
        report.findings.append(f"the checkpoint: {error}")
    for member in directory.members.values():
        if member.id != report.member:
            for cosigned in report.checkpoint.cosignatures(witness_name(report.federation, member.id), member.audit_keys):
                report.witnesses[member.id] = max(cosigned.time_s, report.witnesses.get(member.id, 0))


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                if len(line) > MAX_LINE_BYTES or not line.endswith(b"\n"):
                    raise AuditError(f"{path}: a line that is too long, or cut short")
                yield line[:-1]
    except OSError as error:
        raise AuditError(f"{path}: {error.strerror}") from None


def _entry(line: bytes, path: Path) -> tuple[int, SealedEntry]:
    fields = read_document(line, _LINE, AuditError, f"{path}: an entry")
    commitment, salt, case_salt = (_bytes(fields[name], path) for name in ("commitment", "salt", "case_salt"))
    body = fields["body"].encode() or None
    return fields["position"], SealedEntry(fields["time_ms"], commitment, salt or None, case_salt or None, body)


def _hashes(texts: list[Any], path: Path) -> list[bytes]:
    hashes = [_bytes(text, path) for text in texts]
    if any(len(found) != HASH_BYTES for found in hashes):
        raise AuditError(f"{path}: a hash that is not of {HASH_BYTES} bytes")
    return hashes


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _bytes(text: object, path: Path) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError):
        raise AuditError(f"{path}: not base64") from None
