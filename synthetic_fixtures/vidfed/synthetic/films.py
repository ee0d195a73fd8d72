"""Seeded synthetic films: shots of synthetic pictures with moving shapes, cuts, fades and text, and what is done to films on their way.

The frames are drawn here and the same on any machine; ffmpeg puts them into a file, whose bytes differ from version to version.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw

from vidfed.synthetic.pictures import ORDINARY, picture

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

SIZE: Final = (160, 120)
"""Width and height in pixels of a film nobody gave a size."""

FRAMES_PER_SECOND: Final = 8

_FADE: Final = 4  # frames over which one shot becomes the next
_PAN: Final = 1.15  # a shot's picture is so much larger than what is seen of it

MODIFICATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "re-encoded": ("-crf", "38"),
    "scaled": ("-vf", "scale=trunc(iw*0.6/2)*2:trunc(ih*0.6/2)*2"),
    "padded": ("-vf", "pad=iw:trunc(ih*1.5/2)*2:0:(oh-ih)/2"),
    "logo": ("-vf", "drawbox=x=iw*0.88:y=ih*0.05:w=iw*0.07:h=ih*0.07:color=white@0.6:t=fill"),
    "grey": ("-vf", "hue=s=0"),
    "mirrored": ("-vf", "hflip"),
    "sped-up-4": ("-vf", "setpts=PTS/1.04"),
}
"""What is done to films on their way from hand to hand, as arguments for ffmpeg between its input and its output."""


def film_frames(
    seed: int, seconds: float, *, size: tuple[int, int] = SIZE, frames_per_second: int = FRAMES_PER_SECOND
) -> Iterator[Image.Image]:
    """Draw a film's frames, mode "RGB": shots of two to five seconds, every third of which fades into the next, some with text.

    Args:
        seed: 0 or more; films of different seeds have nothing to do with each other.
        seconds: how long it is.
        size: width and height in pixels, even numbers.
        frames_per_second: as it is played.
    """
    rng = np.random.default_rng([seed, 40])
    left = round(seconds * frames_per_second)
    before: Image.Image | None = None
    shot = 0
    while left > 0:
        count = min(left, int(rng.integers(2 * frames_per_second, 5 * frames_per_second)))
        fades = before is not None and shot % 3 == 2  # noqa: PLR2004 - every third
        for number, frame in enumerate(_shot(rng, seed * 10_000 + shot, count, size)):
            if fades and before is not None and number < _FADE:
                yield Image.blend(before, frame, (number + 1) / (_FADE + 1))
            else:
                yield frame
                last = frame
        before = last
        left -= count
        shot += 1


def _shot(rng: np.random.Generator, seed: int, count: int, size: tuple[int, int]) -> Iterator[Image.Image]:
    """Draw one shot: a picture over which the camera pans, a shape that moves, text in every fourth."""
    width, height = size
    large = (int(width * _PAN), int(height * _PAN))
    still = picture(seed, ORDINARY[seed % len(ORDINARY)], large)
    start, end = (rng.integers(0, [large[0] - width + 1, large[1] - height + 1]) for _ in range(2))
    colour = tuple(int(each) for each in rng.integers(0, 256, 3))
    side = max(4, height // 8)
    top, speed = int(rng.integers(0, height - side)), int(rng.integers(1, 4))
    for number in range(count):
        share = number / max(1, count - 1)
        x, y = (int(each) for each in np.rint(start + (end - start) * share))
        frame = still.crop((x, y, x + width, y + height))
        draw = ImageDraw.Draw(frame)
        left = number * speed % (width - side)
        draw.rectangle((left, top, left + side, top + side), fill=colour)
        if seed % 4 == 3:  # noqa: PLR2004 - every fourth
            draw.text((width // 8, height * 3 // 4), f"scene {seed}", fill=(255, 255, 255))
        yield frame


def write_film(
    path: Path, frames: Iterable[Image.Image], *, frames_per_second: int = FRAMES_PER_SECOND, arguments: Sequence[str] = ()
) -> Path:
    """Write frames into a file, in the format that its name says, and return it.

    Raises:
        RuntimeError: ffmpeg fails; the message is what it says.
        FileNotFoundError: there is no ffmpeg.
    """
    program: subprocess.Popen[bytes] | None = None
    for frame in frames:
        if program is None:
            size = f"{frame.width}x{frame.height}"
            given = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(frames_per_second), "-i", "-")
            program = subprocess.Popen(  # noqa: S603 - what this module puts together
                _command(given, arguments, path), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
        if program.stdin is None:
            break
        try:
            program.stdin.write(frame.tobytes())
        except BrokenPipeError:
            break
    if program is None:
        raise RuntimeError(f"{path}: a film without frames")
    _, said = program.communicate()
    if program.returncode:
        raise RuntimeError(f"{path}: {said.decode(errors='replace').strip()}")
    return path


def modify_film(source: Path, target: Path, *arguments: str) -> Path:
    """Write another form of a film and return it.

    Args:
        source: the film.
        target: where to; its name says the format.
        arguments: for ffmpeg, between its input and its output, as those of `MODIFICATIONS`.

    Raises:
        RuntimeError: ffmpeg fails; the message is what it says.
    """
    _run(_command(("-i", str(source)), arguments, target), target)
    return target


def join_films(sources: Sequence[Path], target: Path, *, size: tuple[int, int] = SIZE) -> Path:
    """Write one film of several, one after the other, and return it.

    Raises:
        RuntimeError: ffmpeg fails; the message is what it says.
    """
    given = [word for source in sources for word in ("-i", str(source))]
    scaled = "".join(f"[{n}:v]scale={size[0]}:{size[1]},setsar=1[v{n}];" for n in range(len(sources)))
    joined = scaled + "".join(f"[v{n}]" for n in range(len(sources))) + f"concat=n={len(sources)}:v=1[out]"
    _run(_command(given, ("-filter_complex", joined, "-map", "[out]"), target), target)
    return target


def _command(given: Sequence[str], arguments: Sequence[str], target: Path) -> list[str]:
    return ["ffmpeg", "-v", "error", "-y", *given, *arguments, "-pix_fmt", "yuv420p", "-threads", "1", str(target)]


def _run(command: Sequence[str], target: Path) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603 - what this module puts together
    if done.returncode:
        raise RuntimeError(f"{target}: {done.stderr.decode(errors='replace').strip()}")
