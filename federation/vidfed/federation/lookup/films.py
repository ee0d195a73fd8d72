"""What is said of a film that agrees with a record: when, and how much of both. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vidfed.index.codes import clock_text

if TYPE_CHECKING:
    from vidfed.federation.lookup.question import Item
    from vidfed.wire.values import FilmMatch, FramesNotSearched, Stretch

ENOUGH_FRAMES: Final = 3
"""Two films agree if so many distinct frames of each do, or all where one has fewer: one or two alike are a title, a logo or a test
picture (docs/adr/0071). A picture that is a frame of a film is judged as any picture."""

_SHOWN: Final = 3  # stretches named in a line


def enough(film: FilmMatch) -> bool:
    """Whether so much agrees that the two are the same, in whole or in part."""
    needed = min(ENOUGH_FRAMES, film.frames, film.record_frames)
    return film.frames_agreeing >= needed and film.record_frames_agreeing >= needed


def film_words(film: FilmMatch) -> str:
    """Say when a film and a record's agree, and how much of each does, for people."""
    if film.coarse:
        return _coarse_words(film)
    longest = sorted(film.stretches, key=lambda each: each.from_ms - each.until_ms)[:_SHOWN]
    said = [_stretch(each, film) for each in sorted(longest)]
    more = len(film.stretches) + film.stretches_left_out - len(said)
    stretches = ", ".join(said) + (f" and {more} more" if more else "")
    if film.record_frames == 1:
        return f"film: {stretches}"
    shares = f"{share(film.record_frames_agreeing, film.record_frames)} of theirs, {share(film.frames_agreeing, film.frames)} of yours"
    few = "" if enough(film) else ", too few frames to tell"
    return f"film: {stretches}; {shares}{few}"


def not_searched_words(left_out: FramesNotSearched, item: Item) -> str:
    """Say of an item which frames a node did not search, for people."""
    if item.times:
        frames = len({first for first, _ in item.times})
        return f"{left_out.frames} of {frames} frames of {item.label} were not searched: very many of its films share them"
    return f"{item.label} was not searched among its films: very many of them share it"


def _coarse_words(film: FilmMatch) -> str:
    within = film.stretches[0]
    ours, theirs = _span(within.from_ms, within.until_ms), _span(within.record_from_ms, within.record_until_ms)
    least = f"at least {share(film.frames_agreeing, film.frames)} of yours"
    if film.record_frames == 1:
        return f"film: somewhere in {ours} of yours is their picture, {least}"
    few = "" if enough(film) else ", too few frames to tell"
    shares = f"at least {share(film.record_frames_agreeing, film.record_frames)} of theirs, {least}"
    return f"film: somewhere in {ours} of yours and {theirs} of theirs; {shares}{few}; told no finer"


def share(agreeing: int, frames: int) -> str:
    """Write how many of some frames agree in percent, never rounded to none or to all."""
    percent = round(100 * agreeing / frames)
    return f"{min(99, max(1, percent)) if agreeing < frames else 100} %"


def _stretch(stretch: Stretch, film: FilmMatch) -> str:
    ours = _span(stretch.from_ms, stretch.until_ms)
    if film.record_frames == 1:
        return f"{ours} of yours is their picture"
    return f"{ours} of yours is {_span(stretch.record_from_ms, stretch.record_until_ms)} of theirs"


def _span(from_ms: int, until_ms: int) -> str:
    first, last = clock_text(from_ms), clock_text(until_ms)
    return first if first == last else f"{first} to {last}"
