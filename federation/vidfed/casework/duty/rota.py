"""`duty.toml`: who is on duty when, and who is called after them. Read anew at each call, so that a change counts at once.

time_zone = "Europe/Paris"

[[shift]]                      # begins on these days; one that ends before it begins ends on the next day
people = ["fr-1"]
days = ["mon", "tue", "wed", "thu", "fri"]
from = "08:00"
to = "18:00"
mail = ["duty@unit.example"]

[[escalation]]                 # in order; counted from when the ask began to press
after_minutes = 60
life_at_risk_minutes = 5
people = ["fr-head"]
mail = ["head@unit.example"]
"""

from __future__ import annotations

import tomllib
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from vidfed.security.clock import DAY_MS, MINUTE_MS, SECOND_MS
from vidfed.security.errors import HomeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

DUTY_FILE = "duty.toml"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
AHEAD_DAYS = 7  # for which a rota is looked through for gaps
_ANY = frozenset({"people", "mail"})
_FIELDS = {"shift": {"people", "mail", "days", "from", "to"}, "escalation": {"people", "mail", "after_minutes", "life_at_risk_minutes"}}


@dataclass(frozen=True, slots=True)
class Called:
    """Who is called: pseudonyms, which the operator's program knows how to reach, and mail addresses."""

    people: tuple[str, ...] = ()
    mail: tuple[str, ...] = ()

    def __or__(self, other: Called) -> Called:
        """Both, each once."""
        return Called(tuple(dict.fromkeys(self.people + other.people)), tuple(dict.fromkeys(self.mail + other.mail)))

    def __bool__(self) -> bool:
        """Whether there is anybody."""
        return bool(self.people or self.mail)


@dataclass(frozen=True, slots=True)
class Shift:
    """One shift of every week: days on which it begins (0 is Monday), and local times; `end` up to `begin` is on the next day."""

    who: Called
    days: frozenset[int]
    begin: time
    end: time

    def covers(self, local: datetime) -> bool:
        """Tell whether a local moment lies in it."""
        now, today = local.time(), local.weekday()
        if self.begin < self.end:
            return today in self.days and self.begin <= now < self.end
        return (today in self.days and now >= self.begin) or ((today - 1) % len(DAYS) in self.days and now < self.end)


@dataclass(frozen=True, slots=True)
class Level:
    """Who is called if nobody has taken care after so many minutes: in general, and where a life is at risk."""

    who: Called
    after_minutes: float
    life_at_risk_minutes: float


@dataclass(frozen=True, slots=True)
class Rota:
    """Who is on duty when, in one time zone, and who is called after them, in order."""

    zone: zoneinfo.ZoneInfo
    shifts: tuple[Shift, ...]
    levels: tuple[Level, ...]

    @property
    def people(self) -> tuple[str, ...]:
        """Everybody in it, by pseudonym."""
        return _together([*(shift.who for shift in self.shifts), *(level.who for level in self.levels)]).people

    def on_duty(self, now_ms: int) -> Called:
        """Return who is on duty; nobody where no shift covers the moment."""
        local = self._local(now_ms)
        return _together(shift.who for shift in self.shifts if shift.covers(local))

    def called(self, level: int, now_ms: int) -> Called:
        """Return who is called at a level: 0 those on duty, or everybody of the escalation if nobody is; above that, the escalation."""
        if level:
            return self.levels[level - 1].who
        return self.on_duty(now_ms) or _together(each.who for each in self.levels)

    def level(self, pressing_for_ms: int, *, life_at_risk: bool) -> int:
        """Return the level that is reached when something has pressed for so long."""
        waits = [each.life_at_risk_minutes if life_at_risk else each.after_minutes for each in self.levels]
        return sum(pressing_for_ms >= minutes * MINUTE_MS for minutes in waits)

    def gap(self, now_ms: int) -> int | None:
        """Return when next, within a week, nobody is on duty; None: somebody always is."""
        begin = self._local(now_ms)
        ends = [
            datetime.combine((begin + timedelta(days=day)).date(), shift.end, self.zone)
            for day in range(AHEAD_DAYS + 1)
            for shift in self.shifts
        ]
        moments = sorted(int(end.timestamp()) * SECOND_MS for end in ends)
        last_ms = now_ms + AHEAD_DAYS * DAY_MS
        return next((moment for moment in (now_ms, *(m for m in moments if now_ms < m <= last_ms)) if not self.on_duty(moment)), None)

    def _local(self, now_ms: int) -> datetime:
        return datetime.fromtimestamp(now_ms / SECOND_MS, UTC).astimezone(self.zone)


def read_rota(path: Path) -> Rota | None:
    """Return the rota of a file; None: there is no such file.

    Raises:
        HomeError: it cannot be read or makes no sense; the message names file and entry.
    """
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HomeError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HomeError(f"{path}: {error}") from None
    try:
        return _rota(fields)
    except ValueError as error:
        raise HomeError(f"{path}: {error}") from None


def _rota(fields: dict[str, Any]) -> Rota:
    if unknown := sorted(fields.keys() - {"time_zone", "shift", "escalation"}):
        raise ValueError(f"no setting {unknown[0]!r}; known are time_zone, [[shift]], [[escalation]]")
    try:
        zone = zoneinfo.ZoneInfo(str(fields.get("time_zone", "UTC")))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"time_zone {fields['time_zone']!r} is not known, for example Europe/Paris") from None
    shifts = [_shift(table, place) for place, table in _tables(fields, "shift")]
    levels = [_level(table, place) for place, table in _tables(fields, "escalation")]
    for attribute in ("after_minutes", "life_at_risk_minutes"):
        waits = [getattr(level, attribute) for level in levels]
        if waits != sorted(waits):
            raise ValueError(f"[[escalation]]: {attribute} must grow from one to the next")
    return Rota(zone, tuple(shifts), tuple(levels))


def _tables(fields: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    tables = fields.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"{name} must be written [[{name}]]")
    for number, table in enumerate(tables, 1):
        place = f"[[{name}]] {number}"
        if unknown := sorted(table.keys() - _FIELDS[name]):
            raise ValueError(f"{place} has no setting {unknown[0]!r}; known are {', '.join(sorted(_FIELDS[name]))}")
        if missing := sorted(_FIELDS[name] - table.keys() - _ANY):
            raise ValueError(f"{place} lacks {missing[0]!r}")
        if not table.keys() & _ANY:
            raise ValueError(f"{place} names nobody: give people, mail or both")
        yield place, table


def _shift(table: dict[str, Any], place: str) -> Shift:
    days = _texts(table, "days", place)
    if unknown := sorted(set(days) - set(DAYS)):
        raise ValueError(f"{place}: {unknown[0]!r} is no day: {', '.join(DAYS)}")
    if not days:
        raise ValueError(f"{place}: days is empty")
    return Shift(_who(table, place), frozenset(map(DAYS.index, days)), _time(table, "from", place), _time(table, "to", place))


def _level(table: dict[str, Any], place: str) -> Level:
    minutes = [table["after_minutes"], table["life_at_risk_minutes"]]
    if not all(isinstance(each, int | float) and not isinstance(each, bool) and each > 0 for each in minutes):
        raise ValueError(f"{place}: minutes must be numbers above 0")
    return Level(_who(table, place), *minutes)


def _who(table: dict[str, Any], place: str) -> Called:
    mail = _texts(table, "mail", place)
    if wrong := next((each for each in mail if "@" not in each or not each.isprintable() or " " in each), None):
        raise ValueError(f"{place}: {wrong!r} is no mail address")
    who = Called(_texts(table, "people", place), mail)
    if not who:
        raise ValueError(f"{place} names nobody")
    return who


def _texts(table: dict[str, Any], name: str, place: str) -> tuple[str, ...]:
    value = table.get(name, [])
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise ValueError(f"{place}: {name} must be a list of texts")
    return tuple(value)


def _time(table: dict[str, Any], name: str, place: str) -> time:
    try:
        return time.fromisoformat(str(table[name]))
    except ValueError:
        raise ValueError(f"{place}: {name} must be a time as in 08:00") from None


def _together(all_of_them: Iterator[Called] | Sequence[Called]) -> Called:
    found = Called()
    for each in all_of_them:
        found |= each
    return found
