"""Frames of a film, decoded by Debian's ffmpeg as programs of their own: hostile input never meets a decoder in a process with keys.

Both programs get an open file, never a name, and only the containers of films are allowed: playlists, which name other files and hosts, are
not. What they write is believed as far as its form goes; a program that a film has taken over can lie about that film's frames, and nothing
else (see `sandbox.become_program`).
"""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from vidfed.cli.system import POSIX
from vidfed.index.codes import MAX_FILM_MS
from vidfed.index.hashing.results import Note, Reason

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from numpy.typing import NDArray

CONTAINERS: Final = (
    "mov,matroska,avi,asf,flv,mpegts,mpeg,mpegvideo,ogg,rm,mxf,nut,ivf,wtv,dv,h264,hevc,m4v,live_flv,amv,viv,nsv,yuv4mpegpipe,vc1,dhav"
)
"""What ffmpeg may take a file for: containers and streams of films. None of them refers to other files."""

PROBE_CPU_S: Final = 60
FILM_CPU_S: Final = 86_400
"""Processor time for looking at a film, and for decoding it: a day, as a film may take many hours."""

PROBE_S: Final = 60.0
STALL_S: Final = 180.0
"""So long looking at a film may take, and so long decoding may go on without showing one more frame that is wanted."""

MAX_PIXELS: Final = 64_000_000
"""Pixels of a frame; more are refused before decoding: 8K has 33 million."""

REDUCED_SIDE_PIXELS: Final = 1024
"""Frames are halved as long as both sides keep this many pixels."""

_MAX_PROBE_BYTES: Final = 1 << 20
_MAX_COMPLAINTS: Final = 5
_MAX_LINE: Final = 4096
_SHOWN: Final = re.compile(rb"n: *(\d+) pts: *\S+ pts_time:(-?[\d.e+-]+)")
_QUARTER_TURN: Final = 90


class FilmError(Exception):
    """A film shows no frames; its note says why."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.note = Note(reason, text)


@dataclass(frozen=True, slots=True)
class Probed:
    """What a film says of itself.

    Attributes:
        width, height: pixels as shown: upright.
        duration_ms: 0 where it does not say.
        codec: of its pictures, as `h264`.
        size: width and height in which frames are decoded.
    """

    width: int
    height: int
    duration_ms: int
    codec: str
    size: tuple[int, int]


@dataclass(slots=True)
class Decoding:
    """How the decoding of a film goes.

    Attributes:
        complaints: what ffmpeg said is wrong, the first few.
        status: its exit status once it has ended.
        stalled: it was ended because nothing came any more.
    """

    complaints: list[str] = field(default_factory=list)
    status: int | None = None
    stalled: bool = False


def probe(film: int) -> Probed:
    """Look at an open file.

    Raises:
        FilmError: it shows no pictures, or ffmpeg is not installed.
    """
    entries = "stream=codec_name,codec_type,width,height,duration,codec_tag_string:stream_side_data=rotation:format=duration"
    arguments = ["-v", "error", "-show_entries", entries, "-of", "json", *_input(film)]
    with _started("ffprobe", film, PROBE_CPU_S, arguments) as program:
        try:
            out, complaints = program.communicate(timeout=PROBE_S)
        except subprocess.TimeoutExpired:
            raise FilmError(Reason.OUT_OF_TIME, "looking at the film takes too long: it was given up") from None
    said = _first_line(complaints)
    _check_started(program.returncode, said)
    try:
        found: dict[str, Any] = json.loads(out[:_MAX_PROBE_BYTES] or b"{}")
        streams = [each for each in found.get("streams", ()) if isinstance(each, dict)]
        kinds = {str(each.get("codec_type")) for each in streams}
        pictures = [each for each in streams if each.get("codec_type") == "video"]
    except (ValueError, AttributeError, TypeError):
        raise FilmError(Reason.DAMAGED, "damaged: nothing of the film could be decoded") from None
    if not streams:
        raise FilmError(Reason.DAMAGED, f"damaged: no film could be read from it ({said or 'no streams'})")
    if not pictures:
        raise FilmError(Reason.NO_PICTURE, f"no film: it has {' and '.join(sorted(kinds))} only")
    return _probed(pictures[0], found)


def _probed(stream: Mapping[str, Any], found: Mapping[str, Any]) -> Probed:
    codec = "".join(char for char in str(stream.get("codec_name", "of unknown kind")) if char.isprintable())[:40]
    try:
        width, height = int(stream.get("width", 0)), int(stream.get("height", 0))
        sides = [each for each in stream.get("side_data_list", ()) if "rotation" in each]
        if sides and int(float(sides[0]["rotation"])) // _QUARTER_TURN % 2:
            width, height = height, width
        told = [each.get("duration") for each in (found.get("format", {}), stream)]
        duration_ms = next((round(float(each) * 1000) for each in told if each not in {None, "N/A"}), 0)
    except (ValueError, AttributeError, TypeError, OverflowError):
        raise FilmError(Reason.DAMAGED, "damaged: the film does not say how large it is") from None
    if width <= 0 or height <= 0:
        raise FilmError(Reason.NO_DECODER, f"its pictures cannot be decoded here ({codec})")
    if width * height > MAX_PIXELS:
        raise FilmError(Reason.TOO_LARGE, f"{width} x {height} pixels a frame, more than are decoded")
    factor = max(1, min(width, height) // REDUCED_SIDE_PIXELS)
    return Probed(width, height, max(0, min(duration_ms, MAX_FILM_MS)), codec, (max(1, width // factor), max(1, height // factor)))


def frames(film: int, probed: Probed, rate: float, decoding: Decoding) -> Generator[tuple[int, NDArray[np.uint8]]]:
    """Decode an open film: of the frames that it shows, the first at or after each multiple of 1 / `rate` seconds.

    Args:
        film: descriptor of the file.
        probed: what `probe` gave.
        rate: frames a second.
        decoding: gets what ffmpeg says, and how it ended.

    Yields:
        When each is shown, in milliseconds after the beginning, rising; and its brightness, uint8[height, width], upright.

    Raises:
        FilmError: ffmpeg is not installed.
    """
    width, height = probed.size
    # A hundred-thousandth of a second is added, as times are multiples of odd fractions.
    chosen = f"select='isnan(prev_selected_t)+gt(floor((t+1e-5)*{rate:g}),floor((prev_selected_t+1e-5)*{rate:g}))'"
    shown = f"{chosen},scale={width}:{height}:flags=area,format=gray,showinfo=checksum=0"
    output = ["-map", "0:V:0", "-vf", shown, "-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1"]
    arguments = ["-hide_banner", "-nostdin", "-nostats", "-v", "level+info", "-max_pixels", str(MAX_PIXELS), *_input(film), *output]
    with _started("ffmpeg", film, FILM_CPU_S, arguments) as program:
        moments: queue.SimpleQueue[int] = queue.SimpleQueue()
        listener = threading.Thread(target=_listen, args=(program.stderr, moments, decoding), daemon=True)
        listener.start()
        last_ms = -1
        try:
            for pixels in _pictures(program, width * height, decoding):
                try:
                    moment_ms = moments.get(timeout=STALL_S)
                except queue.Empty:
                    break
                # Broken time stamps run backwards: frames stay in the order in which they are shown.
                last_ms = max(last_ms + 1, min(moment_ms, MAX_FILM_MS))
                yield last_ms, pixels.reshape(height, width)
        finally:
            program.kill()
            decoding.status = program.wait() if decoding.status is None else decoding.status
            listener.join()
    _check_started(decoding.status, decoding.complaints[0] if decoding.complaints else "")


def _pictures(program: subprocess.Popen[bytes], size: int, decoding: Decoding) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures that a program writes, whole ones only, until it ends or nothing comes for too long."""
    stalled = threading.Event()

    def give_up() -> None:
        stalled.set()
        program.kill()

    if program.stdout is None:
        return
    while True:
        timer = threading.Timer(STALL_S, give_up)
        timer.daemon = True
        timer.start()
        try:
            content = program.stdout.read(size)
        finally:
            timer.cancel()
        if len(content) < size:
            decoding.stalled = stalled.is_set()
            decoding.status = program.wait()
            return
        yield np.frombuffer(content, np.uint8)


def _listen(stream: IO[bytes] | None, moments: queue.SimpleQueue[int], decoding: Decoding) -> None:
    """Take down when each frame is shown, and what is wrong with the film."""
    if stream is None:
        return
    while line := stream.readline(_MAX_LINE):
        if (shown := _SHOWN.search(line)) is not None and b"showinfo" in line:
            with suppress(ValueError, OverflowError):
                moments.put(round(float(shown[2]) * 1000))
                continue
            moments.put(0)
        elif (b"[error]" in line or b"[fatal]" in line) and len(decoding.complaints) < _MAX_COMPLAINTS:
            decoding.complaints.append(_first_line(line))


@contextmanager
def _started(name: str, film: int, cpu_s: int, arguments: list[str]) -> Generator[subprocess.Popen[bytes]]:
    """Start a program inside its walls, and end it whatever happens."""
    found = shutil.which(name)
    if found is None:
        text = f"{name} is not installed here: films are known by their digests only (Debian: apt install ffmpeg)"
        raise FilmError(Reason.NO_DECODER, text)
    if not POSIX:
        raise FilmError(Reason.NO_DECODER, "films are decoded on Linux only so far: known by their digests here")
    from vidfed.index.hashing import sandbox  # noqa: PLC0415 - Linux

    environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
    program = subprocess.Popen(  # noqa: S603 - this very Python, which becomes the program
        [sys.executable, "-I", "-S", sandbox.__file__, str(os.getpid()), str(film), str(cpu_s), os.path.realpath(found), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(film,),
        env=environment,
        process_group=0,
    )
    try:
        yield program
    finally:
        with suppress(ProcessLookupError):
            program.kill()
        program.wait()
        for stream in (program.stdout, program.stderr):
            if stream is not None:
                stream.close()


def _input(film: int) -> list[str]:
    return ["-protocol_whitelist", "file,pipe", "-format_whitelist", CONTAINERS, "-i", f"/proc/self/fd/{film}"]


def _check_started(status: int | None, said: str) -> None:
    from vidfed.index.hashing import sandbox  # noqa: PLC0415 - Linux

    if status == sandbox.CANNOT_START:
        raise FilmError(Reason.NO_DECODER, f"ffmpeg cannot be started: {said}")


def _first_line(complaints: bytes) -> str:
    """Return the first thing a program complains about, as one printable line; it may quote the film."""
    line = next((each for each in complaints[:_MAX_LINE].decode(errors="replace").splitlines() if each.strip()), "")
    text = re.sub(r"\[[^]]*\] *|/proc/self/fd/\d+: *", "", line)
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:200]
