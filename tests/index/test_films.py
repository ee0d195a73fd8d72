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


CONTAINERS = ("avi", "mkv", "ts", "webm", "flv", "wmv", "3gp", "mov")
_CODECS = {
    "webm": ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8"),
    "flv": ("-c:v", "flv", "-q:v", "2"),
    "wmv": ("-q:v", "2"),
    "3gp": ("-c:v", "mpeg4", "-q:v", "2"),
    "mov": ("-c", "copy"),
}
_KEY = "00112233445566778899aabbccddeeff"
_ENCRYPTED = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", _KEY, "-encryption_kid", _KEY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film in several containers, and what is wrong with some."""
    folder = tmp_path_factory.mktemp("films")
    film = write_film(folder / "a-film.mp4", film_frames(3, 4), arguments=("-movflags", "+faststart", "-g", "8"))
    for suffix in CONTAINERS:
        modify_film(film, folder / f"b-film.{suffix}", *_CODECS.get(suffix, ()))
    modify_film(film, folder / "i-rate.mp4", "-vf", "select='lt(n,3)+gte(n,16)'", "-fps_mode", "vfr")
    modify_film(film, folder / "j-turned.mp4", "-c", "copy", "-metadata:s:v", "rotate=270")
    modify_film(film, folder / "k-encrypted.mp4", "-c", "copy", *_ENCRYPTED)
    command = ["ffmpeg", "-v", "error", "-i", str(film), "-c", "copy", "-f", "matroska", "-"]
    (folder / "l-no-duration.mkv").write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
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
        vector, _ = pdqhash.compute(np.asarray(drawn[times[0] * FRAMES // 1000]))
        assert bits(code.code, np.packbits(vector).tobytes()) <= 10


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_container_gives_the_same_frames(hashed: dict[str, FileHashes], suffix: str) -> None:
    first, other = ([code for code in hashed[name].codes if code.kind.startswith("second:")] for name in ("a-film.mp4", f"b-film.{suffix}"))
    assert all(min(bits(code.code, each.code) for each in other) <= 16 for code in first)


def shown(file: FileHashes) -> list[tuple[tuple[int, int], bytes]]:
    return [(times, code.code) for code in file.codes if code.kind.startswith("second:") and (times := frame_times(code.kind))]


def test_a_film_of_varying_rate_is_looked_at_by_its_own_clock(hashed: dict[str, FileHashes]) -> None:
    """Of the film frames 3 to 15 are left out, so that the third is shown until the third second begins."""
    whole = dict(shown(hashed["a-film.mp4"]))
    by_start = {times[0]: code for times, code in shown(hashed["i-rate.mp4"])}
    assert hashed["i-rate.mp4"].duration_ms == 4_000
    assert set(by_start) <= {0, 2_000, 2_500, 3_000, 3_500}
    for times, code in whole.items():
        if times[0] in by_start and times[0] >= 2_000:
            assert bits(by_start[times[0]], code) <= 16, times


def test_a_film_that_is_played_turned_is_hashed_as_it_is_shown(hashed: dict[str, FileHashes]) -> None:
    turned, drawn = hashed["j-turned.mp4"], hashed["c-turned.mp4"]
    assert (turned.width, turned.height) == (drawn.width, drawn.height) == (120, 160)
    others = [code for _, code in shown(hashed["a-film.mp4"])]
    for _, code in shown(turned):
        assert min(bits(code, other) for _, other in shown(drawn)) < min(bits(code, other) for other in others)


def test_a_film_that_says_no_duration_has_all_its_frames(hashed: dict[str, FileHashes]) -> None:
    assert [code for _, code in shown(hashed["l-no-duration.mkv"])] == [code for _, code in shown(hashed["a-film.mp4"])]


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
        ("k-encrypted.mp4", Reason.DAMAGED, "damaged or encrypted"),
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
