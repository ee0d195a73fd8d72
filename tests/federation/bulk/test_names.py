"""File names that are no text: common on old Windows disks and in archives."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from vidfed.federation.bulk.sources import read_pictures
from vidfed.federation.bulk.store import BulkStore
from vidfed.index.find import find_files

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_whose_name_is_no_utf_8_is_asked_about_and_shown_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "seized"
    folder.mkdir()
    with open(os.fsencode(folder) + b"/\xff\xfe-latin.bin", "wb") as file:  # noqa: PTH123 - a path of bytes
        file.write(b"x")
    (folder / os.fsdecode(b"\xfe-link")).symlink_to("nowhere")
    for _ in range(2):  # and not again when the command is given again
        with BulkStore(tmp_path / "out", {"case": "1"}) as store:
            read_pictures(store, find_files([folder]), any_quality=False, full_size=False, stop=threading.Event(), on_read=lambda: None)
            (entry,) = store.entries([])
            assert entry.item.label.endswith("\\udcff\\udcfe-latin.bin")
            assert [name.endswith("\\xfe-link") for name in store.failures()] == [True]
