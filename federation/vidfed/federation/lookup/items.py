"""From what a person names on the command line to the items of a question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.federation.lookup.errors import QuestionError
from vidfed.federation.lookup.question import Item
from vidfed.index import Algorithm, DistanceError, Hash, HashTextError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from vidfed.index.hashing.pictures import PictureHashes

_TOO_PLAIN = "too plain for perceptual hashes (PDQ quality {quality}, at least {minimum} is needed): only exact copies were asked for"


def items_of_hashes(texts: Iterable[str]) -> list[Item]:
    """Return one item for each `algorithm:text`.

    Raises:
        HashTextError: a text is not of that form; the message quotes it.
    """
    items = []
    for text in texts:
        try:
            parsed = Hash.parse(text)
        except HashTextError as error:
            raise HashTextError(f"--hash {text[:60]}: {error}") from None
        items.append(Item(str(parsed), {parsed.algorithm: (parsed.code,)}))
    return items


def items_of_pictures(
    paths: Sequence[Path],
    *,
    failures: dict[str, str],
    any_quality: bool = False,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Item]:
    """Hash pictures, each with its eight PDQ orientations.

    Args:
        paths: files and folders.
        failures: gets the files that cannot be hashed, with the reason.
        any_quality: also ask the perceptual hashes of pictures too plain for them.
        on_progress: called with (files done, files in all).
    """
    if not paths:
        return []
    # A bare hash needs no imaging libraries.
    from vidfed.index.hashing.pictures import PictureHashes, find_pictures, hash_pictures  # noqa: PLC0415

    found = list(find_pictures(paths))
    items = []
    for done, result in enumerate(hash_pictures(found, orientations=True), 1):
        if isinstance(result, PictureHashes):
            items.append(item_of_picture(result, any_quality=any_quality))
        else:
            failures[str(result.path)] = result.reason
        on_progress(done, len(found))
    return items


def parse_distances(texts: Iterable[str]) -> dict[Algorithm, int]:
    """Read `algorithm=N` settings.

    Raises:
        QuestionError: not of that form, or an unknown algorithm.
        DistanceError: a distance that may not be asked for.
    """
    distances = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            algorithm = Algorithm(name.strip().lower())
            distances[algorithm] = algorithm.check_distance(int(number))
        except ValueError as error:
            if isinstance(error, DistanceError):
                raise
            raise QuestionError(f"--distance {text[:60]}: write ALGORITHM=N, as in pdq=20") from None
    return distances


def item_of_picture(picture: PictureHashes, *, any_quality: bool) -> Item:
    """Return what is asked about a picture; only its digests if it is too plain for perceptual hashes, unless `any_quality`."""
    from vidfed.index.hashing.pictures import ORIENTATIONS, RELIABLE_PDQ_QUALITY, one_line  # noqa: PLC0415

    quality = picture.pdq_quality
    plain = quality < RELIABLE_PDQ_QUALITY and not any_quality
    codes: dict[Algorithm, tuple[bytes, ...]] = {h.algorithm: (h.code,) for h in picture.hashes if h.algorithm.is_digest or not plain}
    if not plain:
        codes[Algorithm.PDQ] = picture.pdq_orientations
    notes = (_TOO_PLAIN.format(quality=quality, minimum=RELIABLE_PDQ_QUALITY),) if plain else ()
    return Item(one_line(picture.path), codes, ORIENTATIONS, notes)
