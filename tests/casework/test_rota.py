"""Who is on duty when: nights, weekends, the change of the clocks, gaps; and what makes no sense is refused by the entry's number."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from vidfed.casework.duty.rota import read_rota
from vidfed.security.clock import MINUTE_MS
from vidfed.security.errors import HomeError

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.casework.duty.rota import Rota

PARIS = ZoneInfo("Europe/Paris")
ROTA = """\
time_zone = "Europe/Paris"
[[shift]]
people = ["day"]
days = ["mon", "tue", "wed", "thu", "fri"]
from = "08:00"
to = "18:00"
[[shift]]
people = ["night"]
days = ["mon", "tue", "wed", "thu"]
from = "18:00"
to = "08:00"
[[shift]]
people = ["weekend"]
days = ["fri"]
from = "18:00"
to = "17:00"
[[escalation]]
after_minutes = 60
life_at_risk_minutes = 5
people = ["head"]
"""


@pytest.fixture
def rota(tmp_path: Path) -> Rota:
    (tmp_path / "duty.toml").write_text(ROTA)
    found = read_rota(tmp_path / "duty.toml")
    assert found
    return found


def moment(day: int, hour: int, minute: int = 0, *, month: int = 6) -> int:
    """Return a time of 2026 in Paris; 1 June is a Monday."""
    return int(datetime(2026, month, day, hour, minute, tzinfo=PARIS).timestamp()) * 1000


@pytest.mark.parametrize(
    ("when", "people"),
    [
        (moment(1, 8), ("day",)),
        (moment(1, 17, 59), ("day",)),
        (moment(1, 18), ("night",)),
        (moment(2, 7, 59), ("night",)),
        (moment(5, 3), ("night",)),
        (moment(5, 19), ("weekend",)),
        (moment(6, 16, 59), ("weekend",)),
        (moment(6, 17), ()),
        (moment(7, 12), ()),
        (moment(1, 7, 59), ()),
        (moment(2, 8, month=11), ("day",)),
        (moment(2, 7, 59, month=11), ()),
    ],
)
def test_who_is_on_duty(rota: Rota, when: int, people: tuple[str, ...]) -> None:
    assert rota.on_duty(when).people == people


@pytest.mark.parametrize(("text", "people"), [("2026-06-01T06:00Z", "day"), ("2026-12-01T06:59Z", "night"), ("2026-12-01T07:00Z", "day")])
def test_local_time_counts_in_summer_and_in_winter(rota: Rota, text: str, people: str) -> None:
    assert rota.on_duty(int(datetime.fromisoformat(text).timestamp()) * 1000).people == (people,)


def test_gap_is_where_the_first_moment_without_anybody_is(rota: Rota) -> None:
    assert rota.gap(moment(1, 12)) == moment(6, 17)
    assert rota.gap(moment(7, 12)) == moment(7, 12)


def test_rota_without_a_gap_has_none(tmp_path: Path) -> None:
    days = '["mon", "tue", "wed", "thu", "fri", "sat", "sun"]'
    (tmp_path / "duty.toml").write_text(f'[[shift]]\npeople = ["a"]\ndays = {days}\nfrom = "07:00"\nto = "07:00"\n')
    whole = read_rota(tmp_path / "duty.toml")
    assert whole
    assert whole.gap(moment(1, 12)) is None


def test_who_is_called_after_whom(rota: Rota) -> None:
    waits = [(4, True), (5, True), (59, False), (60, False)]
    assert [rota.level(minutes * MINUTE_MS, life_at_risk=risk) for minutes, risk in waits] == [0, 1, 0, 1]
    assert rota.called(0, moment(7, 12)).people == rota.called(1, moment(1, 12)).people == ("head",)


def test_no_file_is_no_rota(tmp_path: Path) -> None:
    assert read_rota(tmp_path / "duty.toml") is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"Europe/Paris"', '"Europe/Atlantis"', "time_zone 'Europe/Atlantis' is not known"),
        ('from = "08:00"', 'from = "8 o"', r"\[\[shift\]\] 1: from must be a time"),
        ('["day"]', "[]", r"\[\[shift\]\] 1 names nobody"),
        ('["day"]', '"day"', "people must be a list"),
        ('days = ["fri"]', 'days = ["friday"]', r"\[\[shift\]\] 3: 'friday' is no day"),
        ('days = ["fri"]', "days = []", r"\[\[shift\]\] 3: days is empty"),
        ('people = ["night"]', 'mail = ["night"]', "'night' is no mail address"),
        ('people = ["night"]', 'mial = ["a@b"]', "no setting 'mial'"),
        ("after_minutes = 60", "after_minutes = 0", "minutes must be numbers above 0"),
        ("life_at_risk_minutes = 5", "", "lacks 'life_at_risk_minutes'"),
        ("[[escalation]]", "[escalation]", r"must be written \[\[escalation\]\]"),
        ("time_zone", "timezone", "no setting 'timezone'"),
        ("time_zone", "time_zone =", "duty.toml"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "duty.toml").write_text(ROTA.replace(old, new))
    with pytest.raises(HomeError, match=said):
        read_rota(tmp_path / "duty.toml")
