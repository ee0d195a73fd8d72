"""The simulated federation: true nodes in another process, a true gateway in a third, and each misbehaviour named by the client."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from tests.support.simulated import Behaviour, Delays, known_codes
from tests.support.simulation import Simulation
from vidfed.federation.client.client import FederationClient
from vidfed.federation.lookup.outcome import Outcome
from vidfed.federation.lookup.question import Item, Justification, split
from vidfed.wire.values import Purpose

if TYPE_CHECKING:
    from pathlib import Path

WHY = Justification(Purpose.IDENTIFICATION, "test law", "T-1")
EXPECTED = {
    Behaviour.HONEST: {Outcome.NO_MATCH},
    Behaviour.SLOW: {Outcome.NO_MATCH},
    Behaviour.CLOSED: {Outcome.UNREACHABLE},
    Behaviour.DEAF: {Outcome.TIMEOUT, Outcome.UNREACHABLE},
    Behaviour.HANGING: {Outcome.TIMEOUT},
    Behaviour.GARBAGE: {Outcome.PROTOCOL_ERROR},
    Behaviour.ANOTHERS: {Outcome.BAD_SIGNATURE},
    Behaviour.UNSIGNED: {Outcome.BAD_SIGNATURE},
    Behaviour.ALTERED: {Outcome.BAD_SIGNATURE},
}


async def test_each_misbehaviour_is_named_and_harms_no_other_node(tmp_path: Path) -> None:
    (part,) = split([Item("known", {algorithm: (code,) for algorithm, code in known_codes(7).items()})], {})
    simulation = Simulation(tmp_path, 2 + len(Behaviour), delays=Delays(median_s=0.01), records=3, knowing=1)
    behaviours = dict(zip(simulation.members[2:], Behaviour, strict=True))
    async with simulation:
        await simulation.behave(behaviours)
        async with FederationClient(simulation.start_gateway()) as client:
            result = await client.lookup(part, WHY, deadline_s=5.0)
        answered = {time.member: time.took_s for time in await simulation.own_times()}
    outcomes = {node.member: node.outcome for node in result.nodes}
    assert [hit.member for hit in result.hits] == list(simulation.knowing)
    assert {member: outcomes[member] in EXPECTED[behaviour] for member, behaviour in behaviours.items()} == dict.fromkeys(behaviours, True)
    assert answered.keys() == {*simulation.members[:2]} | {member for member, behaviour in behaviours.items() if behaviour.honest}
    assert all(took_s >= simulation.delays.draw(member, 0) for member, took_s in answered.items())


def test_delays_are_lognormal_and_the_same_for_the_same_seed() -> None:
    delays = Delays(median_s=0.2, sigma=0.5, seed=3)
    drawn = [math.log(delays.draw("m001", number) / 0.2) for number in range(2_000)]
    assert abs(statistics.mean(drawn)) < 0.05
    assert abs(statistics.stdev(drawn) - 0.5) < 0.05
    assert drawn[:3] == [math.log(Delays(median_s=0.2, sigma=0.5, seed=3).draw("m001", number) / 0.2) for number in range(3)]
    assert delays.draw("m001", 0) != delays.draw("m002", 0)


def test_a_share_of_the_members_misbehaves_in_every_way(tmp_path: Path) -> None:
    simulation = Simulation(tmp_path, 20, knowing=2)
    drawn = {member: behaviour for member, behaviour in simulation.misbehaving(0.45).items() if behaviour is not Behaviour.HONEST}
    assert len(drawn) == 9
    assert set(drawn.values()) == set(Behaviour) - {Behaviour.HONEST}
    assert not drawn.keys() & {simulation.members[0], *simulation.knowing}
