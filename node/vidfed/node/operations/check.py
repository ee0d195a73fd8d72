"""`vidfed node check`: the technical and security protocol of an accession.

Each point passes or fails with a sentence; nothing is changed.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from dataclasses import dataclass
from enum import Enum, unique
from typing import TYPE_CHECKING

import grpc
import numpy as np

from vidfed.casework.errors import CaseworkError
from vidfed.cli.printable import printable
from vidfed.index import HashError
from vidfed.node.errors import NodeError
from vidfed.node.operations.status import read_status
from vidfed.node.search.canary import canary_hashes
from vidfed.rpc.channels import blocking_channel
from vidfed.security.audit import AuditEntry, Event, Operation
from vidfed.security.clock import DAY_MS, MINUTE_MS, SECOND_MS, as_text, system_clock
from vidfed.security.crypto.certificates import check_identity
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.errors import KeyFileError, SecurityError
from vidfed.security.identity.credentials import SEALING_KEY_BYTES, Credential
from vidfed.security.identity.tls import leaf_expires_ms, verify_peer
from vidfed.security.member.audit_log import open_log
from vidfed.security.trust.entry import Entry
from vidfed.v1 import lookup_pb2 as pb
from vidfed.v1 import lookup_pb2_grpc as rpc
from vidfed.wire.answers import read_answer_with_digest
from vidfed.wire.envelope import from_message, to_message
from vidfed.wire.requests import write_request
from vidfed.wire.statuses import Status, WireError
from vidfed.wire.values import (
    ANSWER_TYPE,
    LOOKUP_METHOD,
    MESSAGE_ID_BYTES,
    REQUEST_TYPE,
    FailureKind,
    HashColumn,
    LookupRequest,
    Purpose,
    RequestHeader,
    Urgency,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vidfed.security.identity.directory import Directory, Member
    from vidfed.security.member.home import MemberHome

LEAF_LEFT_MS = 14 * DAY_MS
DISK_FREE_BYTES = 2 * 2**30  # a log and an index of some million records
_CALL_S = 10.0
SELF_TEST = "self-test"
"""Who asks, by the log, and why."""
_CLOCK_MS = 5 * SECOND_MS  # a tenth of what a message may be off


@unique
class FindingState(Enum):
    """How a point stands."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One point: what was looked at, how it stands, and a sentence that ends with what to do about it."""

    point: str
    state: FindingState
    said: str

    @property
    def passed(self) -> bool:
        """Whether it is no failure."""
        return self.state is not FindingState.FAILED


@dataclass(frozen=True, slots=True)
class Report:
    """What was found of one node at one moment; `what` names the command that looked."""

    what: str
    federation: str
    member: str
    checked_ms: int
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether every point passed."""
        return all(finding.passed for finding in self.findings)

    def to_fields(self) -> dict[str, object]:
        """Return the JSON form."""
        findings = [{"point": each.point, "state": each.state.value, "said": each.said} for each in self.findings]
        fields = {"schema": f"vidfed.node-{self.what}/1", "passed": self.passed, "federation": self.federation, "member": self.member}
        return fields | {"checked_ms": self.checked_ms, "findings": findings}

    def lines(self) -> Iterator[str]:
        """Yield the report for people."""
        yield f"vidfed node {self.what}: {self.member} of federation {self.federation}, {as_text(self.checked_ms)}"
        for finding in self.findings:
            yield f"  {finding.state.value:<8} {finding.point:<13} {finding.said}"
        warnings = sum(finding.state is FindingState.WARNING for finding in self.findings)
        yield ("PASSED" if self.passed else "NOT PASSED") + (f", {warnings} to look at" if warnings else "")


class FailedError(Exception):
    """A point fails; the text says why and what to do."""


class WarnedError(Exception):
    """A point will fail, or hides a mistake; the text says why and what to do."""


def check_node(home: MemberHome, *, before_start: bool = False) -> Report:
    """Run the protocol against a member's folder and the nodes it can reach, its own first; `before_start`, without the own node."""
    check = Checks(home)
    left_out = {"index", f"node {home.member}"} if before_start else set()
    findings = [check.run(point, test) for point, test in check.points() if point not in left_out]
    return Report("check", home.federation, home.member, system_clock(), tuple(findings))


class Checks:
    """The points of an accession, each a function that returns what it found or raises."""

    def __init__(self, home: MemberHome) -> None:
        self._home = home
        self._source = home.directory_source()
        self._causes: dict[str, str] = {}

    def run(self, point: str, test: Callable[[], str]) -> Finding:
        """Look at one point."""
        try:
            return Finding(point, FindingState.OK, test())
        except WarnedError as error:
            return Finding(point, FindingState.WARNING, str(error))
        except KeyFileError as error:
            # What is wrong with one key, as a rule a passphrase that is not at hand, is wrong with all; it is told once.
            what, _, cause = str(error).partition(": ")
            told = self._causes.setdefault(cause, point)
            return Finding(point, FindingState.FAILED, str(error) if told == point else f"{what}: as for {told!r} above")
        except (FailedError, SecurityError, NodeError, HashError, WireError, CaseworkError, OSError) as error:
            return Finding(point, FindingState.FAILED, str(error))

    def points(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Yield the points in order."""
        yield "directory", self._directory
        yield "clock", self._clock
        yield "keys", self._keys
        yield "permissions", self._permissions
        yield "tls", self._tls
        yield "disk", self._disk
        yield "index", self._index
        yield from self.nodes()

    def nodes(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Yield a self-test of every node, the own one first."""
        try:
            members = self._source.current().members
        except SecurityError:
            return  # the first point has said so
        for member in sorted(members, key=lambda one: (one != self._home.member, one)):
            yield f"node {member}", lambda asked=member: self._ask(asked)  # type: ignore[misc]  # bound now

    def _directory(self) -> str:
        directory = self._source.ready()
        own = directory.members.get(self._home.member)
        if own is None:
            reason = directory.left_out.get(self._home.member, "the administrators have not added it")
            raise FailedError(f"version {directory.version} does not list {self._home.member}: {reason}")
        standing = "in quarantine" if own.quarantined else "a member"
        return f"version {directory.version} lists {own.id}, {standing}; to be confirmed before {as_text(directory.expires_ms)}"

    def _clock(self) -> str:
        ahead_ms = self._source.current().issued_ms - system_clock()
        if ahead_ms > _CLOCK_MS:
            raise FailedError(f"this clock is at least {ahead_ms // SECOND_MS} s behind: run NTP")
        return "not behind the directory; the nodes below refuse a question from a clock that is a minute off"

    def _keys(self) -> str:
        own, home = self._source.current().member(self._home.member), self._home
        entry = Entry.load(home.entry_path)
        if home.signer.public not in own.signing_keys:
            raise FailedError(f"the signing key {home.signer.public.key_id} is not the one in the directory: publish member.json")
        if home.audit_signer.public != own.audit_keys[0]:
            raise FailedError("the audit key is not the one in the directory: publish member.json")
        if home.entry_signer.public != entry.key:
            raise FailedError("the entry key is not the one that signed member.json")
        if own.entry_key != entry.key:
            listed = own.entry_key.key_id if own.entry_key else "none"
            raise FailedError(
                f"the administrators delegated to the entry key {listed}, this member has {entry.key.key_id}: whoever holds the other one "
                "speaks for this member. CALL THE ADMINISTRATORS, compare the words, and have the entry replaced "
                "(vidfed node rotate entry-key, vidfed trust propose add-member)"
            )
        keys = (("signing", home.signer), ("audit", home.audit_signer), ("entry", home.entry_signer))
        return f"{', '.join(f'{name} key {key.public.key_id}' for name, key in keys)} are those of the directory"

    def _permissions(self) -> str:
        folder = self._home.folder
        for path in (folder, folder / "keys", *(folder / "keys").iterdir()):
            if path.stat().st_mode & 0o077:
                raise FailedError(f"{path} is open to others: chmod go= {path}")
        return "folder and keys are the owner's alone"

    def _tls(self) -> str:
        leaf = self._home.node_tls()
        check_identity(leaf)
        verify_peer(leaf.certificate, self._source.current(), system_clock())
        expires_ms = leaf_expires_ms(leaf.certificate)
        if expires_ms < system_clock() + LEAF_LEFT_MS:
            raise FailedError(f"the certificate ends {as_text(expires_ms)}: vidfed node rotate certificate")
        return f"the certificate is by this member's CA and ends {as_text(expires_ms)}"

    def _disk(self) -> str:
        free = shutil.disk_usage(self._home.folder).free
        if free < DISK_FREE_BYTES:
            raise FailedError(f"{free / 2**30:.1f} GiB free, at least {DISK_FREE_BYTES / 2**30:.0f} are needed")
        return f"{free / 2**30:.1f} GiB free"

    def _index(self) -> str:
        status = read_status(self._home)
        if not status.serving:
            raise FailedError("the node does not run: vidfed node serve")
        if status.index_version != status.store_version:
            raise FailedError("the index is not that of the records")
        return f"equals the {status.records} records"

    def _ask(self, member_id: str) -> str:
        """Ask a node a signed self-test about its canary: it must read the question, search, log and sign. Logged here as it is there."""
        directory = self._source.current()
        member = directory.member(member_id)
        request, call = self._self_test(directory, member)
        try:
            with blocking_channel(member.endpoint, self._home.node_tls(), directory, member) as channel:
                reply = rpc.NodeServiceStub(channel).Lookup(call, timeout=_CALL_S)
        except grpc.RpcError as error:
            self._log_self_test(member_id, request.digest, FailureKind.UNREACHABLE.name, b"")
            raise FailedError(f"{member.endpoint}: {error.code().name.lower().replace('_', ' ')}") from None
        answer, answer_digest = read_answer_with_digest(from_message(reply).verify(ANSWER_TYPE, member.signing_keys))
        header = answer.header
        self._log_self_test(member_id, request.digest, header.status.name, answer_digest)
        if header.request_digest != request.digest or header.issuer != member.id:
            raise FailedError("answers another question, or for another member")
        off_ms = abs(header.answered_ms - system_clock())
        if off_ms > MINUTE_MS:
            raise FailedError(f"its clock and this one are {off_ms // SECOND_MS} s apart: run NTP")
        if off_ms > _CLOCK_MS:
            raise WarnedError(f"its clock and this one are {off_ms // SECOND_MS} s apart, at 60 s nothing is answered: run NTP")
        status = header.status.name.lower().replace("_", " ")
        if header.status in {Status.BUSY, Status.RATE_LIMITED}:
            raise WarnedError(f"reached at {member.endpoint}, but it takes no self-test now: {status}: try again in a minute")
        if header.status is not Status.ANSWERED:
            detail = f" ({printable(header.detail)})" if header.detail else ""
            raise FailedError(f"reached at {member.endpoint}; it answers a self-test with {status}{detail}: {header.status.advice}")
        found = {match.algorithm for hit in answer.hits for match in hit.matches}
        if lacking := [each.algorithm.label for each in canary_hashes(directory.federation, member_id) if each.algorithm not in found]:
            raise FailedError(f"reached at {member.endpoint}; it did not find its own canary by {', '.join(lacking)}: its search is broken")
        return f"reached at {member.endpoint}; it searched its canary and signed the answer"

    def _log_self_test(self, member_id: str, request_digest: bytes, outcome: str, answer_digest: bytes) -> None:
        """Log what came of asking, as a gateway does of a lookup: the other side has logged it too."""
        entry = AuditEntry(
            time_ms=system_clock(),
            operation=Operation.CONSULTATION,
            event=Event.LOOKUP_RECEIVED,
            member=member_id,
            pseudonym=SELF_TEST,
            purpose=Purpose.SELF_TEST.code,
            request_digest=request_digest,
            answer_digest=answer_digest,
            outcome=outcome,
        )
        with contextlib.closing(open_log(self._home)) as log:
            log.append(entry)

    def _self_test(self, directory: Directory, member: Member) -> tuple[Envelope, pb.LookupCall]:
        home, now_ms, person = self._home, system_clock(), SigningKey.generate()
        credential = Credential(
            home.federation,
            home.member,
            secrets.token_hex(16),
            "self-test",
            person.public,
            bytes(SEALING_KEY_BYTES),
            now_ms - MINUTE_MS,
            now_ms + MINUTE_MS,
        )
        header = RequestHeader(
            federation=home.federation,
            issuer=home.member,
            audience=(member.id,),
            message_id=secrets.token_bytes(MESSAGE_ID_BYTES),
            issued_ms=now_ms,
            expires_ms=now_ms + int(_CALL_S * SECOND_MS),
            method=LOOKUP_METHOD,
            directory_version=directory.version,
            purpose=Purpose.SELF_TEST,
            legal_basis="self-test",
            offence_type="none",
            case_reference="self-test",
            pseudonym=credential.pseudonym,
            urgency=Urgency.ROUTINE,
        )
        columns = tuple(
            HashColumn(each.algorithm, np.frombuffer(each.code, np.uint8)[None, :], np.zeros(1, np.uint32), 0)
            for each in canary_hashes(home.federation, member.id)
        )
        envelope = Envelope(REQUEST_TYPE, write_request(LookupRequest(header, 1, columns))).signed_by(person, home.signer)
        return envelope, pb.LookupCall(credential=to_message(credential.to_envelope(home.signer)), request=to_message(envelope))
