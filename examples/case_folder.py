"""An example to copy: ask about every picture of a case folder from another program, and print whom to call.

    python examples/case_folder.py KIT FOLDER CASE-REFERENCE

Only hashes leave this machine. Exit status: 0 complete; 3 some members did not answer (what they hold is not known); 5 they did, and less
was asked than the folder holds.

"""

from __future__ import annotations

import sys
from pathlib import Path

from vidfed.federation import BlockingFederationClient, FederationError, Justification, Kit, Purpose, Ternary, Verdict, items_of_pictures
from vidfed.security.errors import SecurityError


def main(kit_folder: Path, pictures: Path, case: str) -> int:
    """Ask, print, and return the exit status."""
    unreadable: dict[str, str] = {}
    items = items_of_pictures([pictures], failures=unreadable)
    for file, reason in unreadable.items():
        print(f"not asked: {file}: {reason}")
    if not items:
        print(f"nothing to ask: no file in {pictures} could be hashed")
        return 1
    why = Justification(Purpose.IDENTIFICATION, legal_basis="Police Data Act, art. 10", case_reference=case)

    with BlockingFederationClient(Kit(kit_folder)) as client:
        client.refresh_directory()
        result = client.ask(items, why, on_node=lambda node: print(f"{node.member}: {node.said}")).with_failures(unreadable)

    for hit in result.hits:  # what helps most comes first
        name = Path(result.items[hit.item].label).name
        identified = "victim identified" if hit.record.victim_identified is Ternary.YES else "victim not known to be identified"
        print(f"{name}: known to {hit.member} ({identified}); call {hit.record.case_contact}, quote {hit.record.reference}")
    for series in result.shared_series:
        print(series.text)
    for item in sorted(result.weak_items):
        print(f"{Path(result.items[item].label).name}: weak hits only, neither known nor unknown")
    if result.closing.may_still_come:
        print(f"late answers: vidfed lookup --resume {result.lookup}")
    print(result.closing.line)
    return {Verdict.COMPLETE: 0, Verdict.LIMITED: 5}.get(result.closing.verdict, 3)


if __name__ == "__main__":
    if len(sys.argv) != 4:  # noqa: PLR2004 - kit, folder, case
        sys.exit((__doc__ or "").strip())
    try:
        sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
    except (FederationError, SecurityError) as error:
        sys.exit(f"Error: {error}")
