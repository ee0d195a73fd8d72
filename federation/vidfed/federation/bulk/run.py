"""One run of a bulk lookup, from the question to the result files: what the command and the desk share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from vidfed.casework.news.book import NewsBook
from vidfed.federation.bulk.lookup import BulkLookup, NumberedPart
from vidfed.federation.bulk.result import result_of
from vidfed.federation.bulk.result_files import write_all
from vidfed.federation.client.client import FederationClient
from vidfed.federation.lookup.outcome import NodeOutcome, Outcome, not_asked
from vidfed.federation.output.json import news_fields
from vidfed.federation.output.report import ENGLISH, ReportHead, Unit, Words
from vidfed.security.clock import system_clock
from vidfed.security.identity.capabilities import FILMS, all_speak

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from vidfed.federation.bulk.result import BulkResult
    from vidfed.federation.bulk.sources import SourceReader
    from vidfed.federation.bulk.store import BulkStore
    from vidfed.federation.lookup.question import Justification
    from vidfed.index import Algorithm
    from vidfed.security.member.kit import Kit

_GONE = "it is no member any more"


class Heard(NamedTuple):
    """What asking gave: whose answers are needed, why some are missing, who was not asked, the directory's version, and its names."""

    members: list[str]
    said: Mapping[str, NodeOutcome]
    left_out: Sequence[NodeOutcome]
    directory: int
    units: Mapping[str, Unit]


@dataclass(frozen=True, slots=True)
class BulkRun:
    """How to ask in bulk.

    Attributes:
        kit: the investigator's.
        distances: maximum distance (inclusive) where it is not the algorithm's default.
        justification: why.
        ask: members to ask; all if empty.
    """

    kit: Kit
    distances: Mapping[Algorithm, int]
    justification: Justification
    ask: Sequence[str] = ()

    def scope(
        self, *, source: Sequence[object] = (), hashes: Sequence[str] = (), any_quality: bool = False, algorithm: str | None = None
    ) -> dict[str, object]:
        """Return what makes it this question: whoever changes one of these asks another, and gets no answers of this one."""
        return {
            "any_quality": any_quality,
            "algorithm": algorithm or "",
            "legal_basis": self.justification.legal_basis,
            "offence": self.justification.offence_type,
            "source": list(source),
            "hashes": list(hashes),
            "case": self.justification.case_reference,
            "purpose": self.justification.purpose.code,
            "ask": sorted(self.ask),
            "distances": {algorithm.value: distance for algorithm, distance in self.distances.items()},
        }

    async def go(
        self,
        store: BulkStore,
        reading: SourceReader,
        *,
        on_members: Callable[[Sequence[str]], None] = lambda _: None,
        on_progress: Callable[[], None] = lambda: None,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> Heard:
        """Ask everybody about what is in the store, or is still read into it.

        Args:
            store: what to ask, and what was answered before.
            reading: of the source.
            on_members: called once with whose answers are needed.
            on_progress: called whenever something was answered.
            on_wait: called with a text when something makes us wait.

        Raises:
            GatewayError, GatewayRefusedError: the gateway fails or refuses; what was answered before is in the store.
            DirectoryError: there is no usable trust directory.
        """
        async with FederationClient(self.kit) as client:
            directory = await client.refresh_directory()
            chosen = [directory.member(member).id for member in dict.fromkeys(self.ask)] or list(directory.full_members())
            members = store.members(chosen)

            async def ask(
                parts: AsyncIterator[NumberedPart], ask: Sequence[str], on_node: Callable[[NumberedPart, NodeOutcome], None]
            ) -> Mapping[str, NodeOutcome]:
                directory = await client.refresh_directory()  # for each stream: a case may take longer than a directory holds
                there = [member for member in ask if member in directory.members]
                left = await client.lookup_stream(parts, self.justification, ask=there, on_node=on_node) if there else {}
                return left | {member: NodeOutcome(member, Outcome.MISSING, _GONE) for member in ask if member not in there}

            on_members(members)
            older = frozenset(member for member in members if not all_speak(directory, [member], FILMS))
            lookup = BulkLookup(store, members, self.distances, ask, on_progress=on_progress, on_wait=on_wait, without_frames=older)
            await lookup.run(reading)
            directory = await client.directory_for({member: store.heard(member).directory for member in members})
            left_out = not_asked(directory, members, chosen=bool(self.ask))
            units = {member.id: Unit(member.name, member.contact) for member in directory.members.values()}
        return Heard(members, lookup.said, left_out, directory.version, units)

    def finish(
        self,
        folder: Path,
        store: BulkStore,
        heard: Heard,
        *,
        skipped: Mapping[str, str] | None,
        source: Path | None,
        languages: Sequence[Words] = (ENGLISH,),
    ) -> tuple[BulkResult, list[Path]]:
        """Sum up, and write the result files.

        Args:
            folder: where to.
            store: the answers.
            heard: what asking gave.
            skipped: entries of a file that could not be asked about; None where pictures were hashed, whose failures the store knows.
            source: the file of hashes.
            languages: of the report.
        """
        not_asked_about = store.failures() if skipped is None else skipped
        now_ms = system_clock()
        result = result_of(
            store,
            heard.members,
            heard.said,
            not_asked=not_asked_about,
            left_out=heard.left_out,
            directory=heard.directory,
            noun="entries" if source else "files" if not_asked_about else "items",
            now_ms=now_ms,
        )
        self.supersede(store, heard.members)
        why, holder = self.justification, self.kit.holder
        head = ReportHead(
            holder.pseudonym,
            holder.member,
            why.case_reference,
            why.purpose.code,
            why.legal_basis,
            why.offence_type,
            source.name if source else "",
            now_ms,
            heard.units,
        )
        return result, write_all(folder, store, heard.members, result, head, source=source, languages=languages)

    def supersede(self, store: BulkStore, members: Sequence[str]) -> None:
        """Let hits kept from before be read with what their owners have said since."""
        known = NewsBook(self.kit.folder).all()
        answered_ms = {member: store.heard(member).first_ms or 0 for member in members}

        def amend(hit: dict[str, Any]) -> dict[str, Any]:
            news = known.get((hit["member"], hit["reference"]))
            if news is not None and news.since_ms >= answered_ms.get(hit["member"], 0):
                hit["superseded"] = news_fields(news)
            return hit

        store.amend = amend
