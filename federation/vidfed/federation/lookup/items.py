"""From what a person names on the command line to the items of a question."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from vidfed.federation.lookup.errors import QuestionError
from vidfed.federation.lookup.question import Item, Shortfall
from vidfed.index import Algorithm, DistanceError, Hash, HashTextError
from vidfed.index.codes import FRAME_TRIMMED, WHOLE, frame_times
from vidfed.index.worth import is_plain, why_plain, why_worthless
from vidfed.wire.values import MAX_WORK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from vidfed.index import Code
    from vidfed.index.hashing.results import FileHashes, PictureCode


_Shown = TypeVar("_Shown")
_MIRRORED = 5  # of `vidfed.index.hashing.results.ORIENTATIONS`
_FILM_TURNS = (0, _MIRRORED)  # films are mirrored to hide them; turned they are played the right way round
_THINNEST = 4  # of so many frames one must be asked, which leaves one a second
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
    full_size: bool = False,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Item]:
    """Hash files: any by its digests, pictures also by what they show, each in its eight PDQ orientations.

    Args:
        paths: files and folders.
        failures: gets the files that cannot be read, with the reason.
        any_quality: also ask the perceptual hashes of pictures too plain for them.
        full_size: decode every JPEG at its full size, for PDQ that is bit for bit what `pdqhash` gives.
        on_progress: called with (files done, files in all).
    """
    if not paths:
        return []
    # A bare hash needs no imaging libraries.
    from vidfed.index.find import count_files, find_files  # noqa: PLC0415
    from vidfed.index.hashing.results import FileHashes, one_line  # noqa: PLC0415
    from vidfed.index.hashing.workers import hash_files  # noqa: PLC0415

    total = count_files(paths)
    items = []
    for done, result in enumerate(hash_files(find_files(paths), orientations=True, full_size=full_size), 1):
        if isinstance(result, FileHashes):
            items.append(item_of_file(result, any_quality=any_quality))
        else:
            failures[one_line(result.path)] = result.reason
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
    from vidfed.index.hashing.results import one_line  # noqa: PLC0415

    # Of a plain view a 64-bit hash is worth nothing: it is not asked even by those who insist, and PDQ is marked.
    if file.is_film:
        return _item_of_film(file)
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
    return Item(one_line(file.path), codes, views, tuple(notes), tuple(plain), _shortfalls(file, asked=bool(asked)))


def item_of_frames(label: str, codes: Mapping[Algorithm, tuple[bytes, ...]], frames: Sequence[Code], notes: Sequence[str]) -> Item:
    """Return what is asked about a film of which somebody else's hashes are known, not the film.

    Args:
        label: what it is called.
        codes: its digests; another PDQ than those of its frames is not asked.
        frames: codes of its frames, and others, which are passed over.
        notes: what was left out when they were read.
    """
    from vidfed.index.hashing.results import ORIENTATIONS  # noqa: PLC0415

    digests = {algorithm: each for algorithm, each in codes.items() if algorithm.is_digest}
    shown = [(code, times) for code in frames if code.algorithm is Algorithm.PDQ and (times := frame_times(code.kind)) is not None]
    every = sorted(shown, key=lambda frame: frame[1])
    kept = _fitting(every, MAX_WORK - len(digests))
    said = [*notes, "asked by the frames' hashes alone: a mirrored copy is not found by them"]
    if len(kept) < len(every):
        said.append(f"a long film: asked about with {len(kept):,} of the {len(every):,} hashes of its frames, evenly spread")
    shortfalls = (Shortfall.FRAMES,) if len(kept) < len(every) else ()
    asked = digests | {Algorithm.PDQ: tuple(code.code for code, _ in kept)}
    views = {Algorithm.PDQ: tuple("borders trimmed" if code.kind.startswith(FRAME_TRIMMED) else ORIENTATIONS[0] for code, _ in kept)}
    return Item(label, asked, views, tuple(said), shortfalls=shortfalls, times=tuple(times for _, times in kept))


def _item_of_film(file: FileHashes) -> Item:
    """Return what is asked about a film: its digests, and each distinct frame as it is and mirrored, with its borders and without."""
    from vidfed.index.hashing.results import ORIENTATIONS, one_line  # noqa: PLC0415

    every = [(code, times) for code in file.codes if (times := frame_times(code.kind)) is not None]
    frames = _fitting(every, (MAX_WORK - len(file.digests)) // len(_FILM_TURNS))
    codes: dict[Algorithm, tuple[bytes, ...]] = {each.algorithm: (each.code,) for each in file.digests}
    codes[Algorithm.PDQ] = tuple(code.orientations[turn] for code, _ in frames for turn in _FILM_TURNS)
    trimmed = {True: "borders trimmed", False: ORIENTATIONS[0]}
    views = []
    for code, _ in frames:
        name = trimmed[code.kind.startswith(FRAME_TRIMMED)]
        views += [name, f"{name}, {ORIENTATIONS[_MIRRORED]}" if name != ORIENTATIONS[0] else ORIENTATIONS[_MIRRORED]]
    shown = tuple(span for _, span in frames for _ in _FILM_TURNS)
    notes = [str(note) for note in file.notes]
    if len(frames) < len(every):
        notes.append(f"a long film: asked about with {len(frames):,} of the {len(every):,} hashes of its frames, evenly spread")
    thin = len(frames) * _THINNEST < len(every)
    shortfalls = tuple(dict.fromkeys((*_shortfalls(file, asked=True), *((Shortfall.FRAMES,) if thin else ()))))
    label, named = one_line(file.path), {Algorithm.PDQ: tuple(views)}
    return Item(label, codes, named, tuple(notes), shortfalls=shortfalls, times=shown)


def _fitting(frames: list[tuple[_Shown, tuple[int, int]]], most: int) -> list[tuple[_Shown, tuple[int, int]]]:
    """Return codes of frames that fit into one lookup, spread evenly over the film."""
    if len(frames) <= most:
        return frames
    starts = sorted({times[0] for _, times in frames})
    share = most / len(frames)
    kept = {start for number, start in enumerate(starts) if int((number + 1) * share) > int(number * share)}
    return [each for each in frames if each[1][0] in kept][:most]


def _shortfalls(file: FileHashes, *, asked: bool) -> tuple[Shortfall, ...]:
    from vidfed.index.hashing.results import Reason  # noqa: PLC0415

    reasons = {note.reason for note in file.notes}
    short = {
        Shortfall.EXACT_ONLY: not asked,
        Shortfall.FRAMES: Reason.FRAMES_CUT in reasons,
        Shortfall.PART: Reason.PARTLY_DECODED in reasons,
    }
    return tuple(each for each, holds in short.items() if holds)


def _names(code: PictureCode) -> list[str]:
    """Name the codes of one view of a picture, as hits say which of them matched."""
    from vidfed.index.hashing.results import ORIENTATIONS  # noqa: PLC0415

    turns = ORIENTATIONS if code.orientations else ORIENTATIONS[:1]
    if code.kind == WHOLE:
        return list(turns)
    return [code.title, *(f"{code.title}, {turn}" for turn in turns[1:])]
