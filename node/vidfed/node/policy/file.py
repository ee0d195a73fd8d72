"""The policy as a file: read strictly, taken over whenever it changes, never half.

What the reader does not understand is refused with file, rule, setting and what is allowed: a typo must not open what it should close.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import threading
import tomllib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vidfed.index import Algorithm
from vidfed.node.errors import PolicyError
from vidfed.node.policy.policy import EVERY_MEMBER, MOST_HITS_PER_ITEM, Category, Distances, Limits, Policy, Rule
from vidfed.security.audit.changes import SEEN_FILE, was_policy
from vidfed.security.clock import SECOND_MS, Clock, as_text, system_clock
from vidfed.security.documents import ROLES
from vidfed.security.errors import DirectoryError, SecurityError
from vidfed.wire.values import HandlingCode, Purpose

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from enum import Enum
    from pathlib import Path

    from vidfed.security.identity.directory import DirectorySource
    from vidfed.security.member.home import MemberHome

POLICY_FILE = "policy.toml"
_SETTLED_MS = SECOND_MS  # a file changed more recently may still be being written; half a rule may allow more than a whole one
_AGAIN_MS = 10 * SECOND_MS
"""How soon a refused policy is read again: what was in its way (a full disk, a member not listed yet) passes by itself."""
_ALARM_MS = 600 * SECOND_MS  # how soon the log repeats a refusal that lasts
_TAKEN_WITHIN_MS = 30 * SECOND_MS
"""A node that runs has taken a right file over by then: a second to settle, one to look, and the log's disk."""
_NAME = re.compile(r"\w(?:[\w .,&/'()+-]{0,38}[\w.)])?")
_log = logging.getLogger(__name__)


def read_policy(path: Path, members: Collection[str] | None = None) -> Policy:
    """Read a policy file; one that is missing or empty answers nobody.

    Args:
        path: the file.
        members: ids in the trust directory; a rule that names another is refused. None: that is not looked at.

    Raises:
        PolicyError: it cannot be read or makes no sense; the message names file, rule and setting, and what is allowed.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Policy()
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}") from None
    return parse_policy(path, content, members)


def parse_policy(path: Path, content: bytes, members: Collection[str] | None = None) -> Policy:
    """Understand the bytes of a policy file, as `read_policy` does; `path` is where they stand, for the errors.

    Raises:
        PolicyError: they make no sense.
    """
    try:
        document = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path}: {error}") from None
    if unknown := sorted(document.keys() - {"rule"}):
        raise PolicyError(f"{path}: {unknown[0]!r} is unknown; a policy is a list of [[rule]]")
    tables = document.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise PolicyError(f"{path}: write each rule as [[rule]], with two brackets")
    rules: list[Rule] = []
    for number, table in enumerate(tables, 1):
        rule = _RuleReader(path, number, table).rule(members)
        if rule.name in {earlier.name for earlier in rules}:
            raise PolicyError(f"{path}: two rules are named {rule.name!r}")
        rules.append(rule)
    return Policy(tuple(rules))


def read_own_policy(home: MemberHome, members: Collection[str] | None, path: Path | None = None) -> Policy:
    """Read a member's policy, or another file in its place, as its node does when it starts.

    A member named in it that has left the trust directory is no error where this very policy was taken over while it was still in it:
    what others' removal changes must not look as if the operator had made a mistake.

    Raises:
        PolicyError: as `read_policy`.
    """
    path = path or home.folder / POLICY_FILE
    policy = read_policy(path)
    return policy if was_policy(home.state_file(SEEN_FILE), policy.to_json()) else read_policy(path, members)


def not_in_force(home: MemberHome, policy: Policy, now_ms: int) -> str:
    """Say that a member's node holds another policy than this one of its file, or nothing where it does not or has never run.

    A file can be right and yet not be what the node goes by: the change could not be logged, or came while the node was down.
    """
    try:
        age_ms = now_ms - (home.folder / POLICY_FILE).stat().st_ctime_ns // 1_000_000
    except OSError:
        age_ms = _TAKEN_WITHIN_MS
    if 0 <= age_ms < _TAKEN_WITHIN_MS or was_policy(home.state_file(SEEN_FILE), policy.to_json()) is not False:
        return ""
    return f"{POLICY_FILE} is NOT what the node goes by: it holds the policy before; its log says why, or it has not run since"


class _RuleReader:
    """Reads one table; says where it stands in every error."""

    def __init__(self, path: Path, number: int, table: dict[str, Any]) -> None:
        self._table = table
        name = table.get("name")
        self._where = f"{path}: rule {number}" + (f" ({name})" if isinstance(name, str) else "")

    def rule(self, members: Collection[str] | None) -> Rule:
        names = [each.name for each in dataclasses.fields(Limits)]
        limits = {name: self._number(name, lowest=0 if name.startswith("urgent") else 1) for name in names}
        readers: dict[str, Callable[[str], object]] = {
            "name": self._name,
            "members": lambda name: self._members(name, members),
            "purposes": lambda name: self._choices(name, {each.code: each for each in Purpose}),
            "roles": lambda name: self._choices(name, {role: role for role in ROLES}),
            "algorithms": lambda name: self._choices(name, _by_value(Algorithm)),
            "max_distance": self._distances,
            "distances": lambda name: self._choice(name, self._table[name], _by_value(Distances)),
            "categories": self._categories,
            "without_category": self._flag,
            "handling_codes": lambda name: self._choices(name, {each.name: each for each in HandlingCode}),
            "withheld_series": self._folded,
            "withheld_tags": self._folded,
            "max_records_age_hours": lambda name: self._number(name, lowest=1),
            "max_hits_per_item": lambda name: self._number(name, lowest=1, highest=MOST_HITS_PER_ITEM),
        }
        if unknown := sorted(self._table.keys() - readers.keys() - limits.keys()):
            raise PolicyError(f"{self._where}: has no setting {unknown[0]!r}; known are {', '.join((*readers, *limits))}")
        for required in ("name", "members", "purposes"):
            if required not in self._table:
                raise PolicyError(f"{self._where}: lacks the setting {required!r}")
        values: dict[str, Any] = {name: reader(name) for name, reader in readers.items() if name in self._table}
        if "without_category" in values and "categories" not in values:
            raise PolicyError(f"{self._where}: without_category says something only beside categories")
        said = {name: number for name, number in limits.items() if number is not None}
        return Rule(**values, limits=Limits(**said))

    def _name(self, setting: str) -> str:
        value = self._table[setting]
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise PolicyError(
                f"{self._where}: {setting} must be up to 40 letters, digits, spaces and .,&/'()+-, and begin with a letter or digit"
            )
        return value

    def _members(self, setting: str, known: Collection[str] | None) -> frozenset[str]:
        named = self._texts(setting)
        if not named:
            raise PolicyError(f"{self._where}: {setting} names nobody; write member ids, or {EVERY_MEMBER!r} for every member")
        if known is not None and (unknown := sorted(named - {EVERY_MEMBER} - set(known))):
            listed = ", ".join(sorted(known)) or "none"
            raise PolicyError(f"{self._where}: {setting}: {unknown[0]!r} is not in the trust directory; known are {listed}")
        return named

    def _texts(self, setting: str) -> frozenset[str]:
        value = self._table[setting]
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise PolicyError(f"{self._where}: {setting} must be a list of texts")
        return frozenset(value)

    def _folded(self, setting: str) -> frozenset[str]:
        texts = frozenset(text.strip().casefold() for text in self._texts(setting))
        if "" in texts:
            raise PolicyError(f"{self._where}: {setting} has an empty text")
        return texts

    def _choices(self, setting: str, known: dict[str, Any]) -> frozenset[Any]:
        chosen = frozenset(self._choice(setting, text, known) for text in self._texts(setting))
        if not chosen:
            raise PolicyError(f"{self._where}: {setting} is empty; leave it out, or choose of {', '.join(known)}")
        return chosen

    def _choice(self, setting: str, text: object, known: dict[str, Any]) -> Any:  # noqa: ANN401 - what `known` holds
        if not isinstance(text, str) or text not in known:
            raise PolicyError(f"{self._where}: {setting}: {text!r:.60} is unknown; known are {', '.join(known)}")
        return known[text]

    def _number(self, setting: str, *, lowest: int, highest: int | None = None) -> int | None:
        value = self._table.get(setting)
        if value is not None and (type(value) is not int or value < lowest or (highest is not None and value > highest)):
            most = f" and at most {highest}" if highest is not None else ""
            raise PolicyError(f"{self._where}: {setting} must be a whole number of at least {lowest}{most}")
        return value

    def _flag(self, setting: str) -> bool:
        value = self._table[setting]
        if type(value) is not bool:
            raise PolicyError(f"{self._where}: {setting} must be true or false")
        return value

    def _distances(self, setting: str) -> MappingProxyType[Algorithm, int]:
        table = self._table[setting]
        if not isinstance(table, dict):
            raise PolicyError(f"{self._where}: {setting} must be a table, as in {{ pdq = 31, phash = 8 }}")
        distances = {}
        for name, distance in table.items():
            algorithm = self._choice(setting, name, _by_value(Algorithm))
            if type(distance) is not int or not 0 <= distance <= algorithm.maximum_distance:
                raise PolicyError(f"{self._where}: {setting}: {name} must be a whole number from 0 to {algorithm.maximum_distance}")
            distances[algorithm] = distance
        return MappingProxyType(distances)

    def _categories(self, setting: str) -> frozenset[Category]:
        tables = self._table[setting]
        form = '{ scale = "uk-sentencing", region = "UK", values = ["A", "B"] }'
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise PolicyError(f"{self._where}: {setting} must be a list of tables such as {form}")
        found: set[Category] = set()
        for table in tables:
            values, scale, region = table.get("values"), table.get("scale"), table.get("region", "")
            fits = table.keys() <= {"scale", "region", "values"} and isinstance(scale, str) and scale and isinstance(region, str)
            if not fits or not isinstance(values, list) or not values or not all(isinstance(value, str) and value for value in values):
                raise PolicyError(f"{self._where}: {setting}: each must be a table such as {form}, with values as texts")
            found.update(Category(scale, region, value) for value in values)
        return frozenset(found)


def _by_value(kind: type[Enum]) -> dict[str, Any]:
    return {each.value: each for each in kind}


class PolicyFile:
    """The policy in force: that of the file, followed while the node runs. Safe from several threads.

    A file that changed and is whole and right takes effect at the next question. One that is wrong changes nothing: the policy before it
    stays in force, and `alarm` says so until the file is put right. A file that was taken away answers nobody.
    """

    def __init__(
        self,
        path: Path,
        *,
        directory_source: DirectorySource,
        accept: Callable[[Policy], None] = lambda _policy: None,
        accepted: Callable[[Policy], bool] = lambda _policy: False,
        clock: Clock = system_clock,
    ) -> None:
        """Read the file.

        Args:
            path: the file; need not exist.
            directory_source: of the members that may be named; while it has no directory, ids are not looked at.
            accept: called with each policy before it takes effect; what it cannot log is not taken over.
            accepted: tells whether a policy was in force before this start: then nothing is said of a member that has left since.
            clock: the time, by which a file that is being written is let settle.

        Raises:
            PolicyError: the file is wrong, and there is no policy before it.
            SecurityError: `accept` failed.
        """
        self.path = path
        self._source = directory_source
        self._accept = accept
        self._clock = clock
        self._lock = threading.Lock()
        self._mark = self._look()
        policy = read_policy(path)
        members = None if accepted(policy) else self._known_members()
        if members is not None and (strangers := policy.strangers(members)):
            # There is no policy before it to go by, and who is listed is not to go without answers for one who is not.
            _log.error("the policy names %s, not in the trust directory: nobody is answered by that; a mistake?", ", ".join(strangers))
        accept(policy)
        self._policy = policy
        self.taken_ms = clock()
        self.alarm = ""
        self._refused_ms = self._said_ms = 0

    def current(self) -> Policy:
        """Return the policy in force. Cheap: looks at the file's times, and reads it only when they changed or it was refused before."""
        if self._look() != self._mark or self._is_due():
            with self._lock:
                self._follow()
        return self._policy

    def _is_due(self) -> bool:
        """Tell whether a file that was refused is to be read again."""
        return bool(self.alarm) and not 0 <= self._clock() - self._refused_ms < _AGAIN_MS

    def _follow(self) -> None:
        mark = self._look()
        if mark == self._mark and not self._is_due():
            return
        if mark is not None and 0 <= self._clock() - mark[0] // 1_000_000 < _SETTLED_MS:
            return
        try:
            policy = read_policy(self.path, self._known_members())
            if self._look() != mark:
                return  # changed while it was read
            self._accept(policy)
        except (PolicyError, SecurityError) as error:
            self._refuse(f"{error}; the policy of {as_text(self.taken_ms)} stays in force")
        else:
            self._policy, self.taken_ms, self.alarm = policy, self._clock(), ""
            _log.warning("policy changed: %d rules in force", len(policy.rules))
        self._mark = mark

    def _refuse(self, alarm: str) -> None:
        self._refused_ms = self._clock()
        if alarm != self.alarm or not 0 <= self._refused_ms - self._said_ms < _ALARM_MS:
            _log.error("policy refused: %s", alarm)
            self._said_ms = self._refused_ms
        self.alarm = alarm

    def _look(self) -> tuple[int, ...] | None:
        """Return what changes when the file does. The change time is the kernel's: no copying program can set it back."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            return (0, error.errno or 0)
        return found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino

    def _known_members(self) -> Collection[str] | None:
        try:
            return self._source.current().members.keys()
        except DirectoryError:
            return None


_TEMPLATE = """\
# Whom this node answers, and what it tells them. Without a rule nobody is answered, this member's own people included.
# The first rule that names the member, a role of the person and the purpose decides. A changed file takes effect by itself;
# before you trust it: vidfed node policy check, vidfed node policy explain. Everything a rule can say: docs/policy.md.
{rules}"""
_RULE = """
[[rule]]
name = "members"
members = [{members}]
purposes = [{purposes}]
"""
_EXAMPLE = """
# [[rule]]
# name = "neighbours"
# members = ["fr", "de"]
# purposes = ["identification", "investigation", "prosecution"]
"""


def render_policy(members: Iterable[str], **limits: int) -> str:
    """Return the text of a policy file with one rule for these members, for every purpose but self-tests; with no members, no rule.

    Args:
        members: their ids.
        limits: number settings of the rule that are not to be the usual ones.
    """
    named = ", ".join(f'"{member}"' for member in members)
    purposes = ", ".join(f'"{purpose.code}"' for purpose in Purpose if purpose is not Purpose.SELF_TEST)
    rule = _RULE.format(members=named, purposes=purposes) + "".join(f"{name} = {number}\n" for name, number in limits.items())
    return _TEMPLATE.format(rules=rule if named else _EXAMPLE)
