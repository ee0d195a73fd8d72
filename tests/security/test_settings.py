"""The configuration file: what it does not know is an error that names file, section and setting."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidfed.security.errors import HomeError
from vidfed.security.member.home import config_text
from vidfed.security.settings import check_above_zero, check_listen, check_not_below_zero, read_section, read_settings

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Section:
    name: str
    count: int = 1
    rate: float = 1.0
    on: bool = False
    members: tuple[str, ...] = ()
    listen: str = "127.0.0.1:0"

    def __post_init__(self) -> None:
        check_above_zero(self, "rate")
        check_not_below_zero(self, "count")
        check_listen(self, "listen")


def read(tmp_path: Path, text: str) -> Section:
    path = tmp_path / "vidfed.toml"
    path.write_text(text)
    return read_section(read_settings(path), "part", Section, path)


def test_a_section_is_read_with_its_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, '[part]\nname = "x"\nrate = 2\nmembers = ["nl"]') == Section("x", rate=2.0, members=("nl",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[part]\nname = "x"\ncuont = 2', r"vidfed\.toml: \[part\] has no setting 'cuont'; known are name, count"),
        ("[part]\ncount = 2", r"vidfed\.toml: \[part\] lacks the setting 'name'"),
        ("", r"vidfed\.toml: \[part\] lacks the setting 'name'"),
        ("[part]\nname = 5", r"vidfed\.toml: \[part\] name must be of type str, not int"),
        ('[part]\nname = "x"\ncount = "2"', r"vidfed\.toml: \[part\] count must be of type int"),
        ('[part]\nname = "x"\ncount = true', r"vidfed\.toml: \[part\] count must be of type int"),
        ('[part]\nname = "x"\ncount = 2.0', r"vidfed\.toml: \[part\] count must be of type int"),
        ('[part]\nname = "x"\non = 1', r"vidfed\.toml: \[part\] on must be of type bool"),
        ('[part]\nname = "x"\nmembers = "nl"', r"vidfed\.toml: \[part\] members must be a list of texts"),
        ('[part]\nname = "x"\nmembers = [1]', r"vidfed\.toml: \[part\] members must be a list of texts"),
        ('[part]\nname = "x"\nrate = nan', r"vidfed\.toml: \[part\] rate must be a finite number"),
        ('[part]\nname = "x"\nrate = inf', r"vidfed\.toml: \[part\] rate must be a finite number"),
        ('[part]\nname = "x"\ncount = -1', r"vidfed\.toml: \[part\] count must not be below 0"),
        ('[part]\nname = "x"\nrate = 0', r"vidfed\.toml: \[part\] rate must be above 0"),
        ("part = 5", r"vidfed\.toml: part must be a section, written \[part\]"),
        ("[[part]]\nname = 'x'", r"vidfed\.toml: part must be a section, written \[part\]"),
        ("[part\n", r"vidfed\.toml: .*line 1"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_setting(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(HomeError, match=said):
        read(tmp_path, text)


@pytest.mark.parametrize("address", ["", "7443", "127.0.0.1", "127.0.0.1:", ":7443", "127.0.0.1:99999", "::1:7443", "host:-1", "a:1:2"])
def test_what_is_no_address_is_named(tmp_path: Path, address: str) -> None:
    with pytest.raises(HomeError, match=r"vidfed\.toml: \[part\] listen must be host:port"):
        read(tmp_path, f'[part]\nname = "x"\nlisten = "{address}"')


@pytest.mark.parametrize("address", ["127.0.0.1:7443", "node.nl.example:7443", "0.0.0.0:0", "[::]:7443", "[::1]:65535"])
def test_an_address_is_host_and_port(tmp_path: Path, address: str) -> None:
    assert read(tmp_path, f'[part]\nname = "x"\nlisten = "{address}"').listen == address


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="vidfed node init"):
        read_settings(tmp_path / "vidfed.toml")


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "vidfed.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(HomeError, match=r"vidfed\.toml"):
        read_settings(tmp_path / "vidfed.toml")


@given(st.text(st.characters(codec="utf-8")) | st.lists(st.text(st.characters(codec="utf-8")), max_size=3))
def test_what_is_written_into_the_file_is_read_back(value: object) -> None:
    assert tomllib.loads(f"x = {config_text(value)}") == {"x": value}
