"""Category scales: raw values kept, nothing translated without a table that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.records import record
from vidfed.index import Algorithm
from vidfed.node.records.scales import ScaleError, load_scales

if TYPE_CHECKING:
    from pathlib import Path

    from vidfed.node.records.record import Record

MAPPING = """
[[mapping]]
from_scale = "VICS"
from_region = "UK"
to_scale = "uk-sentencing"
version = "2026-01"
source = "unit handbook"
table = { 1 = "A", 2 = "B", 3 = "C" }
"""


def categorised(category: str, region: str, scale: str = "VICS") -> Record:
    return record(1, (Algorithm.MD5,), category=category, category_scale=scale, category_region=region)


def test_no_number_of_a_vics_file_is_translated_by_what_is_shipped() -> None:
    assert load_scales().translate(categorised("1", "UK"), "uk-sentencing") is None


def test_an_operators_mapping_translates_its_region_only(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(MAPPING)
    scales = load_scales([tmp_path / "own.toml"])
    assert scales.translate(categorised("1", "UK"), "uk-sentencing") == "A"
    assert scales.translate(categorised("1", "US"), "uk-sentencing") is None
    assert scales.translate(categorised("1", ""), "uk-sentencing") is None
    assert scales.translate(categorised("5", "UK"), "uk-sentencing") is None
    assert scales.translate(categorised("B", "UK", "uk-sentencing"), "uk-sentencing") == "B"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (MAPPING.replace('"A"', '"Z"'), "leads to 'Z', which the scale uk-sentencing does not have"),
        (MAPPING.replace("uk-sentencing", "nowhere"), "which no table describes"),
        (MAPPING + MAPPING, "is given twice"),
        (MAPPING.replace("version", "versoin"), "must have exactly"),
        ("[scales]", "'scales' is unknown"),
        ("[[", "own.toml"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, content: str, error: str) -> None:
    (tmp_path / "own.toml").write_text(content)
    with pytest.raises(ScaleError, match=error):
        load_scales([tmp_path / "own.toml"])
