"""`vidfed hash`: the hashes of picture files, for people or, with --json, for scripts."""

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

    from vidfed.index.hashing.pictures import HashingResult, PictureHashes

JSON_SCHEMA: Final = "vidfed.hashes/1"
"""Names the form of the JSON output. New keys may be added under the same name; anything else gets a new one.

{"schema": "vidfed.hashes/1",
 "pictures": [{"file", "mime_type", "size_bytes", "width", "height",    as shown: after the EXIF orientation
               "hashes": {"md5", "sha1", "sha256", "pdq", "phash", "dhash"},    lower-case hex
               "pdq_quality"}],    0..100, below 50 the PDQ is unreliable
 "failures": [{"file", "reason"}]}
"""

_QUIET_S: Final = 1.5  # work that is done sooner needs no progress bar


@click.command("hash")
@click.argument("paths", metavar="FILE|DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help=f"Print one JSON object, schema {JSON_SCHEMA}.")
def hash_command(paths: tuple[Path, ...], as_json: bool) -> None:
    """Print the hashes of pictures: MD5, SHA-1, SHA-256, PDQ, pHash, dHash.

    JPEG, PNG, WebP, GIF (first frame), TIFF and BMP; folders with all that is below them. Nothing is stored and nothing is sent.

    Exit status: 0 if every file was hashed, 1 if any could not be (one line for each, on standard error), 2 for wrong usage.
    """
    from vidfed.index.hashing.pictures import find_pictures, hash_pictures

    files = list(find_pictures(paths))
    with _progress(len(files)) as advance, closing(hash_pictures(files, on_progress=advance)) as results:
        failed = _print_json(results) if as_json else _print_blocks(results)
    if failed and len(files) > 1:
        click.echo(f"{failed:,} of {len(files):,} files could not be hashed", err=True)
    sys.exit(1 if failed else 0)


def _print_blocks(results: Iterable[HashingResult]) -> int:
    """Print one block for each picture, one line on stderr for each failure; return the number of failures."""
    from vidfed.index.hashing.pictures import PictureFailure

    failed = 0
    for result in results:
        if isinstance(result, PictureFailure):
            failed += 1
            click.echo(str(result), err=True)
        else:
            click.echo(_block(result))
    return failed


def _block(picture: PictureHashes) -> str:
    from vidfed.index.algorithms import Algorithm
    from vidfed.index.hashing.pictures import RELIABLE_PDQ_QUALITY, one_line

    lines = [f"{one_line(picture.path)}  ({picture.mime_type}, {picture.width} x {picture.height} pixels, {picture.size_bytes:,} bytes)"]
    for each in picture.hashes:
        note = ""
        if each.algorithm is Algorithm.PDQ:
            note = f"  quality {picture.pdq_quality} of 100"
            if picture.pdq_quality < RELIABLE_PDQ_QUALITY:
                note += f": below {RELIABLE_PDQ_QUALITY}, too little to see for PDQ to be reliable"
        lines.append(f"  {each.algorithm.label:8} {each.algorithm.format(each.code)}{note}")
    return "\n".join(lines)


def _print_json(results: Iterable[HashingResult]) -> int:
    """Print the JSON object piece by piece, as a folder may hold a million pictures; return the number of failures."""
    from vidfed.index.hashing.pictures import PictureFailure

    failures = []
    separator = ""
    click.echo(f'{{"schema": {json.dumps(JSON_SCHEMA)}, "pictures": [', nl=False)
    for result in results:
        if isinstance(result, PictureFailure):
            failures.append({"file": str(result.path), "reason": result.reason})
            click.echo(str(result), err=True)
        else:
            click.echo(f"{separator}\n  {json.dumps(_as_json(result))}", nl=False)
            separator = ","
    click.echo(f'\n], "failures": {json.dumps(failures)}}}')
    return len(failures)


def _as_json(picture: PictureHashes) -> dict[str, object]:
    return {
        "file": str(picture.path),
        "mime_type": picture.mime_type,
        "size_bytes": picture.size_bytes,
        "width": picture.width,
        "height": picture.height,
        "hashes": {each.algorithm.value: each.algorithm.format(each.code) for each in picture.hashes},
        "pdq_quality": picture.pdq_quality,
    }


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, for a person, once the work takes a moment. Gives the function to call with the number of files done."""
    if total <= 1 or not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("hashing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Results that go to the same terminal are printed above the bar; those that go to a file must not be touched.
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty())
    task = bar.add_task("", total=total)
    began_s = time.monotonic()

    def advance(done: int) -> None:
        if not bar.live.is_started and time.monotonic() - began_s > _QUIET_S:
            bar.start()
        bar.update(task, completed=done)

    try:
        yield advance
    finally:
        bar.stop()
