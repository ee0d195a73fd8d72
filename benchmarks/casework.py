"""What standing lookups cost beside one full lookup, and whether conversations survive any death.

    python -m benchmarks.casework [--quick] [--json] [--pictures N] [--nodes N] [--records N] [--new N] [--kills N]

Nodes are pipelines as `vidfed node serve` runs them, with store, index, log and replay memory on the disk; the gateway is what
`vidfed gateway serve` runs for standing lookups. Both in this process, so that its processor time is theirs together; nothing travels
over a network. A picture is watched with 8 PDQ codes (those of a random picture turned and mirrored), a pHash, a dHash and three
digests; every part is one lookup of as many pictures as one takes. The first question of a watch is answered whole: that is the full lookup
of the same pictures in the same run.

Figures:
    full_s: processor time of nodes and gateway together for the full lookup.
    day_s: the same for four questions, each after a quarter of a day's new records.
    day_share_of_full: day_s over full_s; below 1 is the promise.
    full_bytes, day_bytes, day_bytes_share_of_full: questions and answers together; the share below 1 is the promise too.
    deaths, lost: conversations during which one member's process died at a random statement or commit, and of how many of them the two
        members did not end with the same entries and the same state.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.index import say
from tests.support.casework_deaths import live_through
from tests.support.casework_members import ASKER, OWNER, World
from tests.support.standing import StandingWorld
from vidfed.casework.core.state import Phase
from vidfed.federation.lookup.question import Item, split
from vidfed.index import Algorithm
from vidfed.node.records.record import Record
from vidfed.wire.casework_values import Side

if TYPE_CHECKING:
    from vidfed.casework.writing import Hit

_ASKED = {Algorithm.PDQ: 8, Algorithm.PHASH: 1, Algorithm.DHASH: 1, Algorithm.MD5: 1, Algorithm.SHA1: 1, Algorithm.SHA256: 1}
_A_DAY = 4
_BIAS = 0.05  # in frequencies: so that turning changes some bits of a hash that it should not, 5 to 7 of 256 as in pictures
_OF_ONE_PAIR = 100  # conversations of one pair of members; then another pair begins
_STATEMENTS = 60  # of a conversation's life at one member, about


def random_record(source: random.Random) -> Record:
    """Return a record as an import of VICS gives it."""
    algorithms = (Algorithm.MD5, Algorithm.SHA1, Algorithm.PDQ)
    return Record({algorithm: source.randbytes(algorithm.code_bytes) for algorithm in algorithms})


def random_codes(source: random.Random) -> dict[Algorithm, tuple[bytes, ...]]:
    """Return what is asked about a picture: the 8 PDQ hashes are those of one set of frequencies, turned and mirrored."""
    codes = {each: tuple(source.randbytes(each.code_bytes) for _ in range(count)) for each, count in _ASKED.items()}
    rows, columns = np.indices((16, 16))
    frequencies = np.random.default_rng(source.getrandbits(64)).normal(0, 1 / (1 + rows + columns), (16, 16))
    frequencies += _BIAS / (1 + rows + columns)
    signs = [frequencies * (-1.0) ** (rows * by_rows + columns * by_columns) for by_rows in (0, 1) for by_columns in (0, 1)]
    turned = [signs[0], signs[2].T, signs[3], signs[1].T, signs[2], signs[1], signs[0].T, signs[3].T]
    codes[Algorithm.PDQ] = tuple(np.packbits(each > np.median(each)).tobytes() for each in turned)
    return codes


def standing(pictures: int, nodes: int, records: int, new: int) -> dict[str, float]:
    """Measure one full lookup and a day of standing questions."""
    source = random.Random(1)
    items = [Item(f"p{number}", random_codes(source)) for number in range(pictures)]
    parts = [part.columns for part in split(items, {})]
    names = [f"n{number:02}" for number in range(nodes)]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        world = StandingWorld(Path(folder), stack, names, parts=parts)
        for name in names:
            world.nodes[name].hold(*(random_record(source) for _ in range(records)))
            world.nodes[name].catalogue.catch_up()
        say(f"{nodes} nodes of {records:,} records")
        world.begin()
        full_s, full_bytes = _round(world)
        say("full lookup")
        day_s, day_bytes = 0.0, 0
        for _ in range(_A_DAY):
            for name in names:
                world.nodes[name].hold(*(random_record(source) for _ in range(new // _A_DAY)))
                world.nodes[name].catalogue.catch_up()
            world.federation.clock.advance(6 * 3_600_000)
            took_s, sent = _round(world)
            day_s, day_bytes = day_s + took_s, day_bytes + sent
        say("a day of standing lookups")
        troubles = {member: trouble for member, (_, trouble) in world.members().items() if trouble}
        if troubles:
            raise SystemExit(f"not answered: {troubles}")
    share = day_s / full_s
    bytes_share = day_bytes / full_bytes
    times = {"full_s": full_s, "day_s": day_s, "day_share_of_full": share}
    return times | {"full_bytes": full_bytes, "day_bytes": day_bytes, "day_bytes_share_of_full": bytes_share}


def _round(world: StandingWorld) -> tuple[float, int]:
    before, sent = time.process_time(), world.pool.bytes_sent
    while asyncio.run(world.standing.round()):
        pass
    return time.process_time() - before, world.pool.bytes_sent - sent


async def deaths(count: int) -> dict[str, float]:
    """Let one of two members die at random points; count what was lost."""
    source, lost, died = random.Random(2), 0, 0
    for first in range(1, count + 1, _OF_ONE_PAIR):
        numbers = range(first, min(first + _OF_ONE_PAIR, count + 1))
        with tempfile.TemporaryDirectory() as folder, contextlib.closing(World(Path(folder))) as world:
            for number in numbers:
                hit, member = world.hit(number), source.choice((ASKER, OWNER))
                died += await live_through(world, hit, member, source.randint(1, _STATEMENTS))
                lost += not _whole(world, hit)
        say(f"{numbers[-1]} conversations, {died} deaths, {lost} lost")
    return {"conversations": count, "deaths": died, "lost": lost}


def _whole(world: World, hit: Hit) -> bool:
    """Tell whether both members hold the same entries, nothing doubled, readable and with nothing left to send."""
    held = [world.members[name].conversation(hit.conversation) for name in (ASKER, OWNER)]
    closed = world.asker.state(hit.conversation).phase is Phase.CLOSED
    said = [world.read(world.holder, hit, side) for side in Side]
    waits = any(each.waiting() for each in world.members.values())
    return held[0] == held[1] and closed and said == [["ask", "note", "close"], ["release"]] and not waits


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--records", type=int)
    parser.add_argument("--new", type=int)
    parser.add_argument("--kills", type=int)
    given = parser.parse_args()
    usual = (200, 2, 20_000, 40, 30) if given.quick else (10_000, 12, 1_000_000, 1_000, 1_000)
    named = (given.pictures, given.nodes, given.records, given.new, given.kills)
    sizes = [own if own is not None else other for own, other in zip(named, usual, strict=True)]
    pictures, nodes, records, new, kills = sizes
    figures: dict[str, float] = {"pictures": pictures, "nodes": nodes, "records": records, "new_a_day": new}
    if pictures:
        figures |= standing(pictures, nodes, records, new)
    if kills:
        figures |= asyncio.run(deaths(kills))
    if given.json:
        print(json.dumps(figures, indent=1))
    else:
        for name, value in figures.items():
            print(f"{name:<24}{value:>14,.3f}" if value % 1 else f"{name:<24}{value:>14,}")
    if figures.get("lost"):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
