"""Who decides on release for a member: a list that only grows, and that the member's own machines cannot lengthen by themselves.

Each line of it is one of three:

- *accepted*: persons whom the federation's administrators accepted as officers, with the threshold of their signatures: the first ones, and
  again where none is left who could sign. The requests' digests stand in the administrators' delegation. Those before are officers no more.
- *added*: a person for whom an officer listed there has signed.
- *removed*: a key that is an officer's no more, for good. The member says so alone: that must be quick, and takes nobody in.

So whoever has the member's entry key, its CA and its signing key can take an officer out, and can put none in. A line once published stays:
the publisher refuses a list that leaves one out or alters it, and so does every reader that has seen it (`check_continues`). Else a removed
officer, together with the member's operator, could go back to before the removal.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import PublicKey
from vidfed.security.documents import PSEUDONYM, read_document
from vidfed.security.errors import DirectoryError, EnrolmentError, EnvelopeError, KeyFileError, SignatureError
from vidfed.security.identity.enrolment_request import ENROLMENT_TYPE, Request, Statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OFFICER_ROLE = "release-officer"
MAX_LINES = 128
"""In a list: ten officers who each serve three years, for twelve years; then the administrators accept those there are anew."""
MAX_OFFICERS = 64
"""Requests in a list: each takes 1.5 KiB and two signatures to verify."""
_FORM = {"kind": str, "lines": list}
_KIND = "vidfed-officers/1"

Rounds = tuple[tuple[str, ...], ...]
"""Digests of the requests that the administrators accepted together, hex and sorted; one tuple for each time they did."""


@dataclass(frozen=True, slots=True)
class Officer:
    """One officer as all members know them.

    Attributes:
        pseudonym: the only name others see.
        key: signs.
        sealing_key: X25519, 32 bytes: what is sealed for this officer is sealed for it.
        by: who vouches: pseudonym of the officer who co-signed; empty for the administrators.
    """

    pseudonym: str
    key: PublicKey
    sealing_key: bytes
    by: str = ""


@dataclass(frozen=True, slots=True)
class Officers:
    """A member's officers.

    Attributes:
        present: who decides now.
        former: who did.
        waiting: whom the administrators have not accepted yet; they decide nothing.
        rounds: whom the administrators accepted.
        digests: of the list up to each of its lines that hold: what a later list must begin with.
    """

    present: tuple[Officer, ...] = ()
    former: tuple[Officer, ...] = ()
    waiting: tuple[Officer, ...] = ()
    rounds: Rounds = ()
    digests: tuple[str, ...] = ()

    def find(self, pseudonym: str, key: PublicKey, *, ever: bool = False) -> Officer | None:
        """Return the officer of this name and key: one who is there, or who `ever` was."""
        listed = (*self.present, *self.former) if ever else self.present
        return next((each for each in listed if (each.pseudonym, each.key) == (pseudonym, key)), None)


@dataclass(frozen=True, slots=True)
class Accepted:
    """Persons whom the administrators accept, or are asked to, together."""

    requests: tuple[Request, ...]

    @property
    def round(self) -> tuple[str, ...]:
        """The digests that the administrators sign."""
        return tuple(sorted(request.id for request in self.requests))


@dataclass(frozen=True, slots=True)
class Added:
    """A person for whom an officer has signed."""

    request: Request


@dataclass(frozen=True, slots=True)
class Removed:
    """A key that is an officer's no more."""

    key: PublicKey


Line = Accepted | Added | Removed


@dataclass(frozen=True, slots=True)
class OfficerList:
    """The list as a member publishes it; `judge` tells what it is worth."""

    lines: tuple[Line, ...] = ()

    @property
    def rounds(self) -> Rounds:
        """Whom the list says the administrators accept."""
        return tuple(line.round for line in self.lines if isinstance(line, Accepted))

    def to_json(self) -> bytes:
        """Write the file that `from_json` reads."""
        return json.dumps({"kind": _KIND, "lines": [_written(line) for line in self.lines]}, indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> OfficerList:
        """Read a list. Each request in it is signed by the key that it names.

        Raises:
            DirectoryError: malformed, or longer than a list may be.
        """
        fields = read_document(content, _FORM, DirectoryError, "list of officers")
        if fields["kind"] != _KIND:
            raise DirectoryError("list of officers: not one of this version")
        if len(fields["lines"]) > MAX_LINES:
            raise DirectoryError(f"list of officers: {len(fields['lines'])} lines, at most {MAX_LINES} are read")
        if sum(len(line["accepted"]) if _is(line, "accepted") else _is(line, "added") for line in fields["lines"]) > MAX_OFFICERS:
            raise DirectoryError(f"list of officers: more than {MAX_OFFICERS} persons")
        return cls(tuple(_read(line) for line in fields["lines"]))

    def judge(self, federation: str, member: str, rounds: Rounds) -> Officers:
        """Return whom the list makes officers.

        Args:
            federation: its id.
            member: whose list it is.
            rounds: whom the administrators accepted.

        Raises:
            DirectoryError: a line does not hold; the message says which and why.
        """
        if self.rounds[: len(rounds)] != rounds:
            raise DirectoryError("list of officers: it does not name those whom the administrators accepted")
        present: dict[PublicKey, Officer] = {}
        former: dict[PublicKey, Officer] = {}
        taken = 0
        waiting: tuple[Officer, ...] = ()
        digests: list[str] = []
        for number, line in enumerate(self.lines, 1):
            what = f"list of officers, line {number}"
            if isinstance(line, Accepted):
                officers = [_officer(request, federation, member, what) for request in line.requests]
                if len({each.key for each in officers}) != len(officers) or len({each.pseudonym for each in officers}) != len(officers):
                    raise DirectoryError(f"{what}: the same person twice")
                if taken == len(rounds):
                    if number < len(self.lines):
                        raise DirectoryError(f"{what}: the administrators have not accepted it, and something follows it")
                    waiting = tuple(officers)
                    break
                former |= present
                present = {each.key: each for each in officers}
                former = {key: each for key, each in former.items() if key not in present}
                taken += 1
            elif isinstance(line, Added):
                officer = _officer(line.request, federation, member, what, tuple(present.values()))
                if officer.key in present or officer.key in former:
                    raise DirectoryError(f"{what}: the key of {officer.pseudonym} is, or was, an officer's already")
                if any(officer.pseudonym == each.pseudonym for each in present.values()):
                    raise DirectoryError(f"{what}: {officer.pseudonym} is an officer already, with another key; that one goes first")
                present[officer.key] = officer
            else:
                if line.key not in present:
                    raise DirectoryError(f"{what}: the key that is removed is no officer's")
                former[line.key] = present.pop(line.key)
            before = digests[-1] if digests else ""
            digests.append(hashlib.sha256(before.encode() + json.dumps(_written(line), sort_keys=True).encode()).hexdigest())
        return Officers(tuple(present.values()), tuple(former.values()), waiting, rounds, tuple(digests))


def check_continues(before: Officers, after: Officers) -> None:
    """Return if a list goes on from one that was published before, or the administrators have begun it anew since.

    Raises:
        DirectoryError: it leaves a line out, or alters one.
    """
    if after.rounds[: len(before.rounds)] != before.rounds:
        return  # a member that left and came back: whom it has now the administrators have seen
    if after.digests[: len(before.digests)] != before.digests:
        raise DirectoryError("list of officers: a line that was published before is missing or altered; a list only grows")


def _officer(request: Request, federation: str, member: str, what: str, there: Sequence[Officer] | None = None) -> Officer:
    """Return whom a request makes an officer; one of those `there` must have signed it, unless that is None."""
    statement: Statement = request.statement
    if not PSEUDONYM.fullmatch(statement.pseudonym):
        raise DirectoryError(f"{what}: the pseudonym is not of its form")
    if (statement.federation, statement.member) != (federation, member):
        raise DirectoryError(f"{what}: the request of {statement.pseudonym} was made to another member or federation")
    if OFFICER_ROLE not in statement.roles:
        raise DirectoryError(f"{what}: {statement.pseudonym} did not ask to be {OFFICER_ROLE}")
    by = "" if there is None else cosigner(request, there)
    if by is None:
        raise DirectoryError(f"{what}: no officer who was there has signed for {statement.pseudonym}")
    return Officer(statement.pseudonym, statement.signing_key, statement.sealing_key, by)


def cosigner(request: Request, there: Iterable[Officer]) -> str | None:
    """Return the pseudonym of an officer among those `there` who has signed somebody's request; None if none has."""
    for each in there:
        if each.key == request.statement.signing_key:
            continue
        try:
            request.envelope.verify(ENROLMENT_TYPE, [each.key])
        except (SignatureError, EnvelopeError):
            continue
        return each.pseudonym
    return None


def _is(line: object, kind: str) -> bool:
    return isinstance(line, dict) and line.keys() == {kind} and (kind != "accepted" or isinstance(line[kind], list))


def _written(line: Line) -> dict[str, Any]:
    if isinstance(line, Accepted):
        return {"accepted": [json.loads(request.envelope.to_json()) for request in line.requests]}
    if isinstance(line, Added):
        return {"added": json.loads(line.request.envelope.to_json())}
    return {"removed": line.key.text}


def _read(line: Any) -> Line:  # noqa: ANN401 - JSON of whatever kind
    try:
        if _is(line, "accepted") and line["accepted"]:
            return Accepted(tuple(map(_read_request, line["accepted"])))
        if _is(line, "added"):
            return Added(_read_request(line["added"]))
        if _is(line, "removed") and isinstance(line["removed"], str):
            return Removed(PublicKey.parse(line["removed"]))
    except (KeyFileError, EnvelopeError, EnrolmentError) as error:
        raise DirectoryError(f"list of officers: {error}") from None
    raise DirectoryError("list of officers: a line of no kind that this version knows")


def _read_request(envelope: object) -> Request:
    return Request.of(Envelope.from_json(json.dumps(envelope).encode()))
