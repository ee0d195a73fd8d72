"""Small synthetic films, made by ffmpeg once a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vidfed.synthetic.films import MODIFICATIONS, film_frames, join_films, modify_film, write_film

if TYPE_CHECKING:
    from pathlib import Path


class Films(NamedTuple):
    """Two films that have nothing to do with each other, and what was made of the first, by name."""

    known: Path
    other: Path
    copies: dict[str, Path]
    still: Path


def make_films(folder: Path) -> Films:
    """Draw and write them."""
    known = write_film(folder / "known.mp4", film_frames(1, 10))
    other = write_film(folder / "other.mkv", film_frames(2, 6))
    copies = {name: modify_film(known, folder / f"{name}.mp4", *arguments) for name, arguments in MODIFICATIONS.items()}
    copies["clip"] = modify_film(known, folder / "clip.mov", "-ss", "4", "-t", "5")
    copies["joined"] = join_films([other, known], folder / "joined.avi")
    still = folder / "still.png"
    list(film_frames(1, 10))[52].save(still)
    return Films(known, other, copies, still)
