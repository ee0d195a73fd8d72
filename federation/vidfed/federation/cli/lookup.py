"""`vidfed lookup`. Thin: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import HELP, kit_option, note, progress, reporting
from vidfed.federation.cli.results import or_refused, report
from vidfed.federation.cli.why import why_of
from vidfed.federation.lookup.errors import FederationError
from vidfed.formats.entries import FormatError
from vidfed.index.errors import HashError
from vidfed.security.errors import SecurityError
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vidfed.federation.lookup.outcome import NodeOutcome
    from vidfed.federation.lookup.question import Item, Justification
    from vidfed.federation.lookup.result import LookupResult
    from vidfed.index import Algorithm
    from vidfed.security.member.kit import Kit

_COMMAND = reporting(FederationError, SecurityError, HashError, WireError, FormatError)
_PURPOSES = ("identification", "investigation", "prosecution", "self-test")


@click.command(cls=_COMMAND, context_settings=HELP)
@click.argument("pictures", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--hash", "hashes", multiple=True, metavar="ALGORITHM:VALUE", help="A bare hash, e.g. pdq:HEX or sha256:HEX; may be repeated."
)
@click.option(
    "--vics",
    "--csv",
    "--vpdq",
    "hash_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file of hashes, VICS, CSV, vPDQ or any other format a node imports: every item in it is looked up.",
)
@click.option("--algorithm", help="What a plain list in that file holds, where the length does not tell.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the results to this folder: annotated VICS, CSV, JSON, an HTML report, and what nobody knows. An interrupted lookup goes on"
    " where it stopped when run again with the same folder.",
)
@click.option("--case", "case_reference", help="Reference of your case; every node logs that it was asked for it.")
@click.option("--purpose", type=click.Choice(_PURPOSES), help="Why you ask.  [default: your kit's usual.toml]")
@click.option("--legal-basis", help="The law you ask under.  [default: your kit's usual.toml]")
@click.option("--offence", default="child-sexual-abuse", show_default=True, help="Type of offence.")
@click.option("--urgent", is_flag=True, help="A child may be in danger now.")
@click.option("--ask", "ask", multiple=True, metavar="MEMBER", help="Ask only this member; may be repeated. Default: all.")
@click.option("--distance", "distances", multiple=True, metavar="ALGORITHM=N", help="Largest distance to count as near, e.g. pdq=20.")
@click.option("--any-quality", is_flag=True, help="Ask perceptual hashes even of what is too plain for them. Expect false hits.")
@click.option("--full-size", is_flag=True, help="Decode every JPEG at its full size: slower, and PDQ is bit for bit that of `pdqhash`.")
@click.option(
    "--deadline-s",
    default=20.0,
    show_default=True,
    type=click.FloatRange(0.1, 600),
    help="How long to wait for the slowest node, no longer than your gateway waits (`deadline_s` in its `[gateway]`); see --keep.",
)
@kit_option("--kit", what="Your investigator's kit.")
@click.option("--keep/--no-keep", default=True, show_default=True, help="Let the gateway collect and keep late answers for --resume.")
@click.option("--resume", metavar="ID", help="Fetch what was collected of an earlier lookup, late answers included, instead of asking.")
@click.option(
    "--direct",
    "direct_home",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="HOME",
    help="Without a gateway: ask the nodes from this machine, which holds the member's folder HOME. Nothing is kept for later.",
)
@click.option("--strict", is_flag=True, help="Refuse a file of hashes of which anything would be passed over; nobody is asked then.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON (schema vidfed.lookup/1).")
def lookup(
    pictures: tuple[Path, ...],
    hashes: tuple[str, ...],
    hash_file: Path | None,
    algorithm: str | None,
    out: Path | None,
    case_reference: str | None,
    purpose: str | None,
    legal_basis: str | None,
    offence: str,
    urgent: bool,
    ask: tuple[str, ...],
    distances: tuple[str, ...],
    any_quality: bool,
    full_size: bool,
    deadline_s: float,
    kit: Path,
    keep: bool,
    resume: str | None,
    direct_home: Path | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Ask every member's database about PICTURES (files or folders) or hashes.

    Files are hashed on this machine; only the hashes travel. A picture is found as an exact copy, and as a near copy: recompressed,
    resized, mirrored or turned. Any other file (a video, a document, a damaged picture) is found as an exact copy.

    \b
      vidfed lookup photo.jpg --case NL-2026-9 --purpose identification --legal-basis "Police Data Act, art. 10"
      vidfed lookup seized/ --out results --case ...     a whole case, as a stream; the same command goes on after a break
      vidfed lookup --resume 3f9a01c2                    what came after the deadline

    Exit status: 0 all nodes answered, 3 some did not (what they hold is not known), 4 refused, 2 wrong usage, 1 anything else.
    """  # noqa: D301 - click wants the character itself
    import asyncio

    from vidfed.federation.cli.kits import open_kit
    from vidfed.federation.lookup.items import items_of_hashes, items_of_pictures, parse_distances
    from vidfed.federation.lookup.question import Justification
    from vidfed.wire.values import Purpose, Urgency

    if resume:
        from vidfed.federation.cli.history import resume_lookup

        if pictures or hashes or hash_file:
            raise click.UsageError("--resume asks nothing new: name no pictures or hashes")
        raise SystemExit(resume_lookup(open_kit(kit), resume, as_json=as_json))
    if not pictures and not hashes and not hash_file:
        raise click.UsageError("name a picture, a folder, a --hash, or a file with --vics or --csv")
    if hash_file and (pictures or hashes):
        raise click.UsageError("a file of hashes is looked up by itself")
    if strict and not hash_file:
        raise click.UsageError("--strict is for a file of hashes: --vics or --csv")
    if hash_file and not out:
        raise click.UsageError("say with --out into which folder the results of the file go")
    if direct_home and out:
        raise click.UsageError("results are written to a folder through a gateway only: --out and --direct do not go together")
    case_reference, purpose, legal_basis = why_of(kit, case_reference, purpose, legal_basis, _PURPOSES)
    chosen = {entry.code: entry for entry in Purpose}[purpose]
    urgency = Urgency.LIFE_AT_RISK if urgent else Urgency.ROUTINE
    justification = Justification(chosen, legal_basis, case_reference, offence, urgency)
    opened = open_kit(kit)
    limits = parse_distances(distances)
    items = items_of_hashes(hashes, any_quality=any_quality)
    if out:
        from vidfed.federation.bulk.run import BulkRun
        from vidfed.federation.cli.bulk import Bulk

        bulk = Bulk(BulkRun(opened, limits, justification, ask), out, as_json)
        raise SystemExit(
            or_refused(
                lambda: (
                    bulk.file(hash_file, algorithm, strict=strict)
                    if hash_file
                    else bulk.pictures(pictures, items, any_quality=any_quality, full_size=full_size)
                )
            )
        )
    failures: dict[str, str] = {}
    with progress() as bar:
        task = bar.add_task("hashing", total=None)
        pictured = items_of_pictures(
            pictures,
            any_quality=any_quality,
            full_size=full_size,
            failures=failures,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        bar.update(task, visible=bool(pictures))
    items += pictured
    for file, reason in failures.items():
        note(f"{file}: {reason}")
    if not items:
        raise SystemExit(1)

    def answer() -> LookupResult:
        kept = keep and not direct_home  # without a gateway there is nobody to go on
        try:
            return asyncio.run(_ask(opened, items, limits, justification, ask, deadline_s, keep=kept, direct_home=direct_home))
        except KeyboardInterrupt:
            later = "; the gateway collects what was asked: `vidfed lookups list`, then `vidfed lookup --resume ID`" if kept else ""
            raise click.ClickException(f"interrupted: nothing is known{later}") from None

    raise SystemExit(report(answer, failures, as_json, kit=opened, online=direct_home is None))


async def _ask(
    kit: Kit,
    items: Sequence[Item],
    distances: Mapping[Algorithm, int],
    justification: Justification,
    ask: Sequence[str],
    deadline_s: float,
    *,
    keep: bool,
    direct_home: Path | None,
) -> LookupResult:
    from vidfed.federation.client.client import FederationClient
    from vidfed.federation.direct import open_direct
    from vidfed.security.member.home import MemberHome

    async with open_direct(kit, MemberHome(direct_home)) if direct_home else FederationClient(kit) as client:
        directory = await client.refresh_directory()
        with progress() as bar:
            task = bar.add_task("asking", total=len(items), visible=len(items) > 1)
            nodes = bar.add_task("nodes", total=len(set(ask) or directory.full_members()))
            heard: set[str] = set()

            def on_node(node: NodeOutcome) -> None:
                heard.add(node.member)
                bar.update(nodes, completed=len(heard))

            def on_part(count: int) -> None:
                heard.clear()
                bar.advance(task, count)

            return await client.ask(
                items,
                justification,
                distances=distances,
                ask=ask,
                deadline_s=deadline_s,
                keep=keep,
                on_node=on_node,
                on_part=on_part,
            )
