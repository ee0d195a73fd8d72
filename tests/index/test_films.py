"""Films hashed: what ffmpeg decodes, when it is shown, and what is said where that is not all."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pdqhash
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.support.patience import PATIENCE_S
from vidfed.index.cli import hash_command
from vidfed.index.codes import frame_kind, frame_times, is_kind, kind_title
from vidfed.index.hashing.film import programs
from vidfed.index.hashing.results import FileHashes, Reason
from vidfed.index.hashing.workers import hash_files
from vidfed.synthetic.films import film_frames, modify_film, write_film

if TYPE_CHECKING:
    from pathlib import Path

FRAMES = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film in several containers, and what is wrong with some."""
    folder = tmp_path_factory.mktemp("films")
    film = write_film(folder / "a-film.mp4", film_frames(3, 4), arguments=("-movflags", "+faststart", "-g", "8"))
    for suffix in ("avi", "mkv", "ts", "webm"):
        quickly = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8") if suffix == "webm" else ()
        modify_film(film, folder / f"b-film.{suffix}", *quickly)
    modify_film(film, folder / "c-turned.mp4", "-vf", "transpose=1")
    (folder / "d-cut.mp4").write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    write_film(folder / "e-plain.mp4", [Image.new("RGB", (160, 120), (9, 9, 9))] * FRAMES)
    sound = ["-f", "lavfi", "-i", "sine=d=1", str(folder / "f-sound.m4a")]
    subprocess.run(["ffmpeg", "-v", "error", *sound], check=True)
    (folder / "g-list.mp4").write_text("#EXTM3U\n#EXTINF:1,\n" + str(film) + "\n")
    (folder / "h-empty.mp4").write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom")
    return folder


@pytest.fixture(scope="module")
def hashed(folder: Path) -> dict[str, FileHashes]:
    files = hash_files(sorted(folder.iterdir()))
    return {file.path.name: file for file in files if isinstance(file, FileHashes)}


def bits(left: bytes, right: bytes) -> int:
    return (int.from_bytes(left) ^ int.from_bytes(right)).bit_count()


def test_frames_are_those_that_the_film_shows_at_each_second(hashed: dict[str, FileHashes]) -> None:
    drawn = list(film_frames(3, 4))
    film = hashed["a-film.mp4"]
    assert (film.duration_ms, film.notes, film.width, film.height) == (4_000, (), 160, 120)
    whole = [code for code in film.codes if code.kind.startswith("second:")]
    for code in whole:
        times = frame_times(code.kind)
        assert times is not None
        vector, _ = pdqhash.compute(np.asarray(drawn[times[0] // 1000 * FRAMES]))
        assert bits(code.code, np.packbits(vector).tobytes()) <= 10


@pytest.mark.parametrize("suffix", ["avi", "mkv", "ts", "webm"])
def test_every_container_gives_the_same_frames(hashed: dict[str, FileHashes], suffix: str) -> None:
    first, other = ([code for code in hashed[name].codes if code.kind.startswith("second:")] for name in ("a-film.mp4", f"b-film.{suffix}"))
    assert all(min(bits(code.code, each.code) for each in other) <= 16 for code in first)


def test_a_cut_film_gives_the_frames_it_has_and_says_so(hashed: dict[str, FileHashes]) -> None:
    film = hashed["d-cut.mp4"]
    assert 0 < film.frames < hashed["a-film.mp4"].frames
    assert [note.reason for note in film.notes] == [Reason.PARTLY_DECODED]
    assert "decoded up to 00:00:0" in str(film.notes[0])


@pytest.mark.parametrize(
    ("name", "reason", "said"),
    [
        ("e-plain.mp4", Reason.PLAIN, "too plain"),
        ("f-sound.m4a", Reason.NO_PICTURE, "it has audio only"),
        ("h-empty.mp4", Reason.DAMAGED, "moov atom not found"),
    ],
)
def test_what_shows_nothing_has_its_digests_and_the_reason(hashed: dict[str, FileHashes], name: str, reason: Reason, said: str) -> None:
    film = hashed[name]
    assert (len(film.digests), film.codes, film.notes[0].reason) == (3, (), reason)
    assert said in str(film.notes[0])


def test_a_playlist_is_no_film(hashed: dict[str, FileHashes]) -> None:
    assert hashed["g-list.mp4"].codes == ()


def test_without_ffmpeg_there_are_digests_and_a_line_that_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidfed.index.hashing.film.programs.shutil.which", lambda _name: None)
    (film,) = hash_files([folder / "a-film.mp4"])
    assert isinstance(film, FileHashes)
    assert (len(film.digests), [note.reason for note in film.notes]) == (3, [Reason.NO_DECODER])
    assert "apt install ffmpeg" in str(film.notes[0])


def test_a_program_that_decodes_opens_no_other_file(folder: Path) -> None:
    """Inside its walls ffmpeg is asked to read a second film by name."""
    other = folder / "b-film.mkv"
    with (folder / "a-film.mp4").open("rb") as film, programs._started("ffprobe", film.fileno(), 5, [str(other)]) as program:
        _, said = program.communicate(timeout=PATIENCE_S)
    assert program.returncode != 0
    assert b"Permission denied" in said


def test_frames_are_printed_as_the_vpdq_tools_write_them(folder: Path, hashed: dict[str, FileHashes]) -> None:
    ran = CliRunner().invoke(hash_command, ["--vpdq", str(folder / "a-film.mp4")])
    rows = [line.split(",") for line in ran.stdout.splitlines()]
    expected = [code for code in hashed["a-film.mp4"].codes if code.kind.startswith("second:")]
    assert [(int(number), int(quality), code) for number, quality, code, _ in rows] == [
        (number, code.quality, code.code.hex()) for number, code in enumerate(expected)
    ]
    assert [float(seconds) for *_, seconds in rows] == sorted(float(seconds) for *_, seconds in rows)
    assert CliRunner().invoke(hash_command, ["--vpdq", str(folder / "f-sound.m4a")]).exit_code == 1


def test_the_kind_of_a_frame_says_when_it_is_shown() -> None:
    kind = frame_kind(73_500, 77_254)
    assert (kind, frame_times(kind), is_kind(kind)) == ("second:73.5-77.25", (73_500, 77_250), True)
    assert is_kind(frame_kind(359_999_990, 360_000_000, trimmed=True))
    assert kind_title("second-trimmed:73.5-77") == "film at 00:01:13 with borders trimmed"
    assert frame_times("frame:3") is None
