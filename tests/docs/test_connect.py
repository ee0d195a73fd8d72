"""The three databases of docs/connect.md, each on a real server: what the page maps is what comes of it."""

from __future__ import annotations

import re
import sqlite3
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from tests.support import mariadb
from tests.support.administrators import Administrators
from vidfed.node.cli.node import node
from vidfed.node.sources.settings import parse_sources

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).resolve().parent.parent.parent / "docs/connect.md").read_text()


def block(kind: str, name: str) -> str:
    found = re.search(rf"```{kind} {name}\n(.*?)```", PAGE, flags=re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    name = request.param
    if name == "sqlite":
        with sqlite3.connect(tmp_path / "items.db") as file:
            file.executescript(block("sql", name))
        file.close()
        yield f"sqlite:///{tmp_path}/items.db"
        return
    if name == "postgresql":
        made = request.getfixturevalue("postgresql_url")
        _run(made.replace("postgresql://", "postgresql+psycopg://"), block("sql", name))
        yield made
        return
    with mariadb.server() as made:
        _run(made.replace("mysql://reader", "mysql+pymysql://writer"), block("sql", name))
        yield made


def _run(url: str, script: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in filter(str.strip, script.split(";\n")):
            connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.mark.parametrize(("url", "name"), [(each, each) for each in ("postgresql", "mariadb", "sqlite")], indirect=["url"])
def test_the_page_shows_what_comes_of_each_database(url: str, name: str, tmp_path: Path) -> None:
    Administrators(tmp_path / "federation", "test").anchor.save(tmp_path / "anchor.json")
    home = tmp_path / "nl"
    told = ["--member", "nl", "--name", "NL", "--contact", "desk", "--anchor", str(tmp_path / "anchor.json"), "--endpoint", "localhost:1"]
    assert CliRunner().invoke(node, ["init", str(home), *told]).exit_code == 0
    settings = re.sub(r'(?m)^url = "[^"]*"', f'url = "{url}"', block("toml", name))
    with (home / "vidfed.toml").open("a") as file:
        file.write(f"\n{settings}")
    source = re.search(r"\[source\.(\w+)\]", settings)
    assert source is not None
    shown = CliRunner().invoke(node, ["source", "preview", source[1], "--quick", "--home", str(home)])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines() == block("text", name).splitlines()
    followed = CliRunner().invoke(node, ["source", "sync", source[1], "--home", str(home)])
    assert followed.exit_code == 0, followed.output


def test_the_other_kinds_on_the_page_are_understood() -> None:
    text = next(each for each in re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL))
    assert parse_sources(tomllib.loads(text)["source"], Path("vidfed.toml")).keys() == {"nightly", "clearing", "partner"}
