"""From what a person names on the command line to the items of a question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidfed.federation.lookup.errors import QuestionError
from vidfed.federation.lookup.question import Item, Shortfall
from vidfed.index import Algorithm, DistanceError, Hash, HashTextError
from vidfed.index.codes import WHOLE
from vidfed.index.worth import is_plain, why_plain, why_worthless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from vidfed.index.hashing.results import FileHashes, PictureCode

_EXACT_ONLY = "only exact copies were asked for"


def items_of_hashes(texts: Iterable[str], *, any_quality: bool = False) -> list[Item]:
    """Return one item for each `algorithm:text`, the text in any of the forms of `vidfed.index.texts`.

    Args:
        texts: the hashes.
        any_quality: also ask those too plain to find anything by, as of pictures.

    Raises:
        QuestionError: a text is not of that form, or stands for a hash that is worth nothing; the message quotes it.
    """
    items = []
    for text in texts:
        try:
            parsed = Hash.parse(text)
        except HashTextError as error:
            raise QuestionError(f"hash {text[:60]!r}: {error}") from None
        if why := why_worthless(parsed.algorithm, parsed.code):
            raise QuestionError(f"hash {text[:60]!r}: {why}; nothing was asked")
        plain = is_plain(parsed.algorithm, parsed.code)
        if plain and not any_quality:
            words = f"{why_plain(parsed.algorithm)}; nothing was asked. --any-quality asks it all the same; what matches it is weak"
            raise QuestionError(f"hash {text[:60]!r}: {words}")
        notes = (why_plain(parsed.algorithm),) if plain else ()
        items.append(Item(str(parsed), {parsed.algorithm: (parsed.code,)}, notes=notes))
    return items


def items_of_pictures(
    paths: Sequence[Path],
    *,
    failures: dict[str, str],
    any_quality: bool = False,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Item]:
    """Hash files: any by its digests, pictures also by what they show, each in its eight PDQ orientations.

    Args:
        paths: files and folders.
        failures: gets the files that cannot be read, with the reason.
        any_quality: also ask the perceptual hashes of pictures too plain for them.
        on_progress: called with (files done, files in all).
    """
    if not paths:
        return []
    # A bare hash needs no imaging libraries.
    from vidfed.index.hashing.find import count_files, find_files  # noqa: PLC0415
    from vidfed.index.hashing.results import FileHashes  # noqa: PLC0415
    from vidfed.index.hashing.workers import hash_files  # noqa: PLC0415

    total = count_files(paths)
    items = []
    for done, result in enumerate(hash_files(find_files(paths), orientations=True), 1):
        if isinstance(result, FileHashes):
            items.append(item_of_file(result, any_quality=any_quality))
        else:
            failures[str(result.path)] = result.reason
        on_progress(done, total)
    return items


def parse_distances(texts: Iterable[str]) -> dict[Algorithm, int]:
    """Read `algorithm=N` settings.

    Raises:
        QuestionError: not of that form, an unknown algorithm, or a distance that may not be asked for.
    """
    distances = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            algorithm = Algorithm(name.strip().lower())
            distances[algorithm] = algorithm.check_distance(int(number))
        except DistanceError as error:
            raise QuestionError(f"--distance {text[:60]}: {error}") from None
        except ValueError:
            raise QuestionError(f"--distance {text[:60]}: write ALGORITHM=N, as in pdq=20") from None
    return distances


def item_of_file(file: FileHashes, *, any_quality: bool) -> Item:
    """Return what is asked about a file.

    Its digests always; the perceptual codes of every view of it that is not too plain for them, or of all with `any_quality`. Cuts to usual
    shapes are the record's side: an owner that had the picture keeps them.
    """
    from vidfed.index.hashing.results import Reason, one_line  # noqa: PLC0415

    # Of a plain view a 64-bit hash is worth nothing: it is not asked even by those who insist, and PDQ is marked.
    asked = [code for code in file.codes if not code.is_cut and (code.reliable or (any_quality and not code.algorithm.is_weak_alone))]
    codes: dict[Algorithm, tuple[bytes, ...]] = {each.algorithm: (each.code,) for each in file.digests}
    views: dict[Algorithm, tuple[str, ...]] = {}
    plain: list[int] = []
    for code in asked:
        turned = code.orientations or (code.code,)
        before = codes.get(code.algorithm, ())
        codes[code.algorithm] = (*before, *turned)
        views[code.algorithm] = (*views.get(code.algorithm, ()), *_names(code))
        if not code.reliable:
            plain += range(len(before), len(before) + len(turned))
    notes = [str(note) for note in file.notes]
    if not asked:
        notes = [f"{'; '.join(notes)}: {_EXACT_ONLY}"]
    reasons = {note.reason for note in file.notes}
    short = {
        Shortfall.EXACT_ONLY: not asked,
        Shortfall.FRAMES: Reason.FRAMES_CUT in reasons,
        Shortfall.PART: Reason.PARTLY_DECODED in reasons,
    }
    return Item(one_line(file.path), codes, views, tuple(notes), tuple(plain), tuple(each for each, holds in short.items() if holds))


def _names(code: PictureCode) -> list[str]:
    """Name the codes of one view of a picture, as hits say which of them matched."""
    from vidfed.index.hashing.results import ORIENTATIONS  # noqa: PLC0415

    turns = ORIENTATIONS if code.orientations else ORIENTATIONS[:1]
    if code.kind == WHOLE:
        return list(turns)
    return [code.title, *(f"{code.title}, {turn}" for turn in turns[1:])]
