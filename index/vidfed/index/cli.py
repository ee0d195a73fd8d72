"""`vidfed hash`: the hashes of files, for people or, with --json, for scripts."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vidfed.index.hashing.results import FileHashes, HashingResult

JSON_SCHEMA: Final = "vidfed.hashes/2"
"""Names the form of the JSON output. New keys may be added under the same name; anything else gets a new one.

{"schema": "vidfed.hashes/2",
 "files": [{"file", "media_type", "size_bytes", "frames",
            "duration_ms",    of a film; "frames" are its distinct ones
            "width", "height",    as shown: after the EXIF orientation; 0 if nothing could be decoded
            "hashes": {"md5", "sha1", "sha256", "pdq", "phash", "dhash"},    lower-case hex; the last three only of pictures
            "pdq_quality",    0..100, below 50 the PDQ is unreliable; null without
            "method",    how the pixels were had: "full", or "luma" (brightness alone), "luma-1/2", "luma-1/4", "luma-1/8" (at reduced size)
            "views": [{"kind", "algorithm", "code", "quality"}],    further codes: of renderings, variants, frames ("second:FROM-UNTIL")
            "notes": [{"code", "text"}]}],    why there is no perceptual hash, and what else to know
 "failures": [{"file", "code", "reason"}]}    what could not be read
"""

_QUIET_S: Final = 1.5  # work that is done sooner needs no progress bar


@click.command("hash")
@click.argument("paths", metavar="FILE|DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--full-size", is_flag=True, help="Decode every JPEG at its full size: slower, and PDQ is bit for bit that of `pdqhash`.")
@click.option("--json", "as_json", is_flag=True, help=f"Print one JSON object, schema {JSON_SCHEMA}.")
@click.option(
    "--vpdq", is_flag=True, help="Print one film as vPDQ's tools write it: frame,quality,hash,seconds a line; with --json HMA's list."
)
def hash_command(paths: tuple[Path, ...], full_size: bool, as_json: bool, vpdq: bool) -> None:
    """Print the hashes of files: MD5, SHA-1 and SHA-256 of any, PDQ, pHash and dHash of pictures, PDQ of the frames of films.

    Pictures are told by content: JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF, HEIC, JPEG 2000; every frame and page of them. Films
    are decoded by ffmpeg. Folders with all that is below them. Nothing is stored and nothing is sent.

    Exit status: 0 if every file was read, 1 if any could not be (one line for each, on standard error), 2 for wrong usage.
    """
    from vidfed.index.find import count_files, find_files
    from vidfed.index.hashing.workers import hash_files

    total = count_files(paths)
    if vpdq and total != 1:
        raise click.UsageError("--vpdq prints the frames of one film")
    if vpdq:
        _print_vpdq(next(hash_files(find_files(paths))), as_json=as_json)
        return
    with (
        _progress(total) as (advance, advance_film),
        closing(hash_files(find_files(paths), full_size=full_size, on_progress=advance, on_film=advance_film)) as results,
    ):
        failed, exact_only = _print_json(results) if as_json else _print_blocks(results)
    if exact_only:
        click.echo(f"{exact_only:,} of {total:,} files have no perceptual hash: they can be found by exact copies only", err=True)
    if failed and total > 1:
        click.echo(f"{failed:,} of {total:,} files could not be read", err=True)
    sys.exit(1 if failed else 0)


def _print_vpdq(result: HashingResult, *, as_json: bool) -> None:
    """Print a film's distinct frames as the vpdq tools do, numbered from 0 in the order in which they are shown."""
    from vidfed.index.codes import FRAME, frame_times
    from vidfed.index.hashing.results import FileFailure

    if isinstance(result, FileFailure):
        raise click.ClickException(str(result))
    if not result.is_film:
        raise click.ClickException(f"{result.path}: {result.exact_only or 'a picture, not a film'}")
    for note in result.notes:
        click.echo(f"{result.path}: {note}", err=True)
    shown = [(code, times) for code in result.codes if code.kind.startswith(f"{FRAME}:") and (times := frame_times(code.kind))]
    if as_json:
        click.echo(json.dumps([f"{code.code.hex()},{code.quality},{times[0] / 1000:.3f}" for code, times in shown]))
        return
    for number, (code, times) in enumerate(shown):
        click.echo(f"{number},{code.quality},{code.code.hex()},{times[0] / 1000:.3f}")


def _print_blocks(results: Iterable[HashingResult]) -> tuple[int, int]:
    """Print a block for each file, a line on stderr for each failure; return how many failed, and how many have no perceptual hash."""
    from vidfed.index.hashing.results import FileFailure

    failed = exact_only = 0
    for result in results:
        if isinstance(result, FileFailure):
            failed += 1
            click.echo(str(result), err=True)
        else:
            exact_only += not result.codes
            click.echo(_block(result))
    return failed, exact_only


def _block(file: FileHashes) -> str:
    from vidfed.index.algorithms import Algorithm
    from vidfed.index.codes import WHOLE, clock_text
    from vidfed.index.hashing.results import RELIABLE_PDQ_QUALITY, one_line

    about = [file.media_type or "of unknown type", f"{file.size_bytes:,} bytes"]
    if file.codes:
        about.insert(1, f"{file.width} x {file.height} pixels")
    lines = [f"{one_line(file.path)}  ({', '.join(about)})"]
    lines += [f"  {each.algorithm.label:8} {each.algorithm.format(each.code)}" for each in file.digests]
    if file.is_film:
        lines.append(f"  film     {clock_text(file.duration_ms)} long, {file.frames:,} distinct frames; --json gives the hash of each")
    for each in () if file.is_film else file.codes:
        note = ""
        if each.algorithm is Algorithm.PDQ:
            note = f"  quality {each.quality} of 100"
            if not each.reliable:
                note += f": below {RELIABLE_PDQ_QUALITY}, too little to see for PDQ to be reliable"
        if each.kind != WHOLE:
            note += f"  ({each.title})"
        lines.append(f"  {each.algorithm.label:8} {each.algorithm.format(each.code)}{note}")
    if file.method.startswith("luma-"):
        lines.append(f"  note     decoded at {file.method.removeprefix('luma-')} of its size; --full-size decodes all of it")
    lines += [f"  note     {note}" for note in file.notes]
    return "\n".join(lines)


def _print_json(results: Iterable[HashingResult]) -> tuple[int, int]:
    """Print the JSON object piece by piece, as a folder may hold a million files; return the same as `_print_blocks`."""
    from vidfed.index.hashing.results import FileFailure

    failures = []
    exact_only = 0
    separator = ""
    click.echo(f'{{"schema": {json.dumps(JSON_SCHEMA)}, "files": [', nl=False)
    for result in results:
        if isinstance(result, FileFailure):
            failures.append({"file": str(result.path), "code": result.note.reason.value, "reason": result.reason})
            click.echo(str(result), err=True)
        else:
            exact_only += not result.codes
            click.echo(f"{separator}\n  {json.dumps(_as_json(result))}", nl=False)
            separator = ","
    click.echo(f'\n], "failures": {json.dumps(failures)}}}')
    return len(failures), exact_only


def _as_json(file: FileHashes) -> dict[str, object]:
    from vidfed.index.codes import WHOLE

    return {
        "file": str(file.path),
        "media_type": file.media_type,
        "size_bytes": file.size_bytes,
        "width": file.width,
        "height": file.height,
        "frames": file.frames,
        "duration_ms": file.duration_ms,
        "hashes": {each.algorithm.value: each.algorithm.format(each.code) for each in file.hashes},
        "pdq_quality": file.pdq_quality,
        "method": file.method,
        "views": [
            {"kind": each.kind, "algorithm": each.algorithm.value, "code": each.algorithm.format(each.code), "quality": each.quality}
            for each in file.codes
            if each.kind != WHOLE
        ],
        "notes": [{"code": note.reason.value, "text": note.text} for note in file.notes],
    }


@contextmanager
def _progress(total: int) -> Iterator[tuple[Callable[[int], None], Callable[[int, int], None]]]:
    """A progress bar on stderr, for a person, once the work takes a moment.

    Gives what to call with the number of files done, and what to call while a film is decoded with how many milliseconds of how many are.
    """
    if not sys.stderr.isatty():
        yield lambda _done: None, lambda _done_ms, _all_ms: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from vidfed.index.codes import clock_text

    columns = (TextColumn("hashing"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    # Results that go to the same terminal are printed above the bar; those that go to a file must not be touched.
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty())
    task = bar.add_task("", total=total, rate="")
    began_s = time.monotonic()

    def advance(done: int) -> None:
        elapsed_s = time.monotonic() - began_s
        if total > 1 and not bar.live.is_started and elapsed_s > _QUIET_S:
            bar.start()
        bar.update(task, completed=done, rate=f"{done / max(elapsed_s, 0.001):.1f} files/s")

    def advance_film(done_ms: int, all_ms: int) -> None:
        share = f" of {clock_text(all_ms)}" if all_ms else ""
        if not bar.live.is_started and time.monotonic() - began_s > _QUIET_S:
            bar.start()
        bar.update(task, rate=f"film at {clock_text(done_ms)}{share}")

    try:
        yield advance, advance_film
    finally:
        bar.stop()
