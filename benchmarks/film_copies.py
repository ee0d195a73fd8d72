"""Films in `benchmarks.robustness`: which copies of a film are found, with how much of both, and whether unrelated films are.

Every synthetic film is a record, and every other one's still; asked are the copies of each, by a node's own search, at its defaults.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.photographs import say
from vidfed.federation.lookup.films import enough
from vidfed.federation.lookup.items import item_of_file
from vidfed.federation.lookup.question import split
from vidfed.index.hashing.results import FileHashes
from vidfed.index.hashing.workers import hash_files
from vidfed.node.intake.pictures import record_of_file
from vidfed.node.records.record import Record
from vidfed.node.records.store import RecordStore
from vidfed.node.search.catalogue import Catalogue
from vidfed.node.search.query import SearchQuery
from vidfed.synthetic.films import FRAMES_PER_SECOND, MODIFICATIONS, film_frames, join_films, modify_film, write_film

if TYPE_CHECKING:
    from vidfed.federation.lookup.question import Item

NOW_MS = 1_800_000_000_000
SECONDS = 12.0
_STILL_AT = 6.5  # seconds
_FEW_HITS = 1_000


def film_copies(films: int) -> dict[str, Any]:
    """Return for each kind of copy how many of `films` were found, with the typical shares, and false hits.

    Args:
        films: made and asked about; four bytes of disk a pixel for a moment, some 15 s of ffmpeg each.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        known, asked = _made(folder, films)
        say("hashing copies of films")
        items = _items([path for paths in asked.values() for path in paths])
        with closing(RecordStore(folder / "records.db")) as store:
            hashed = [each for each in hash_files(known) if isinstance(each, FileHashes)]
            records = [record_of_file(each, Record(hashes={}, series=each.path.stem)) for each in hashed]
            store.upsert(records, now_ms=NOW_MS)
            with closing(Catalogue(store, folder / "index", lambda: NOW_MS)) as catalogue:
                catalogue.catch_up()
                figures = {kind: _judged(kind, [(path, items[path]) for path in paths], catalogue) for kind, paths in asked.items()}
    figures["unrelated pairs asked"] = {"pairs": sum(len(paths) for paths in asked.values()) * (len(known) - 1)}
    return figures


def _made(folder: Path, films: int) -> tuple[list[Path], dict[str, list[Path]]]:
    """Write the films, every second one's still, and the copies; return what is known, and what is asked by kind."""
    known: list[Path] = []
    asked: dict[str, list[Path]] = {}
    for seed in range(films):
        say(f"making film {seed + 1} of {films} and its copies")
        frames = list(film_frames(seed, SECONDS))
        film = write_film(folder / f"film{seed}.mp4", frames)
        known.append(film)
        own = {kind: modify_film(film, folder / f"copy{seed}-{kind}.mp4", *arguments) for kind, arguments in MODIFICATIONS.items()}
        own["clip"] = modify_film(film, folder / f"copy{seed}-clip.mp4", "-ss", "3.45", "-t", "6", "-crf", "30")
        own["still of a film"] = folder / f"copy{seed}-still.png"
        frames[round(_STILL_AT * FRAMES_PER_SECOND)].save(own["still of a film"])
        other = write_film(folder / f"stranger{seed}.mp4", film_frames(1_000 + seed, SECONDS / 2))
        own["clip inside"] = join_films([other, own["clip"]], folder / f"copy{seed}-inside.mp4")
        own["joined from two"] = join_films([film, other], folder / f"copy{seed}-joined.mp4")
        own["unrelated film"] = other
        record = folder / f"still{seed}.png"
        frames[round(2.5 * FRAMES_PER_SECOND)].save(record)
        known.append(record)
        own["film with a known still"] = own["re-encoded"]
        for kind, path in own.items():
            asked.setdefault(kind, []).append(path)
    return known, asked


def _items(paths: list[Path]) -> dict[Path, Item]:
    files = hash_files(dict.fromkeys(paths), orientations=True)
    return {each.path: item_of_file(each, any_quality=False) for each in files if isinstance(each, FileHashes)}


def _judged(kind: str, asked: list[tuple[Path, Item]], catalogue: Catalogue) -> dict[str, Any]:
    """Ask each copy; a false hit is a film or still of another seed that is no weak hit."""
    found, false, ours, theirs = 0, 0, [], []
    for seed, (_, item) in enumerate(asked):
        (part,) = split([item], {})
        (result,) = catalogue.search([SearchQuery(part.columns, _FEW_HITS, films=part.films)], patience_s=30.0)
        right = f"still{seed}" if kind == "film with a known still" else f"film{seed}"
        for hit in result.hits:
            series = result.records[hit.record].series
            good = hit.film is None or enough(hit.film)
            if series == right and good:
                found += 1
                if hit.film is not None:
                    ours.append(hit.film.frames_agreeing / hit.film.frames)
                    theirs.append(hit.film.record_frames_agreeing / hit.film.record_frames)
            elif good and not series.endswith(f"m{seed}") and not series.endswith(f"l{seed}"):
                false += 1
    figures: dict[str, Any] = {"recall": found / len(asked) if kind != "unrelated film" else None, "false_hits": false}
    if ours:
        figures |= {"share_of_question": min(ours), "share_of_record": min(theirs)}
    return figures
