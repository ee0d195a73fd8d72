"""What the desk remembers of a person between runs: language, look, whether names are shown, and the reasons given for each case."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from vidfed.security.files import write_private

if TYPE_CHECKING:
    from pathlib import Path

FILE = "desk.json"
THEMES = ("auto", "light", "dark")
MAX_CASES = 50
"""Of so many cases the reasons are remembered; the one used longest ago goes."""


@dataclass(slots=True)
class Reasons:
    """Why somebody asks, as it is typed."""

    case: str = ""
    purpose: str = "identification"
    legal_basis: str = ""
    offence: str = "child-sexual-abuse"


@dataclass(slots=True)
class Preferences:
    """One person's, kept in a folder of theirs. A file that cannot be read is as good as none: nothing in it is worth an error."""

    folder: Path
    language: str = ""
    theme: str = "auto"
    names_shown: bool = False
    cases: dict[str, Reasons] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> Preferences:
        """Read what was kept."""
        try:
            fields: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
            cases = {str(case): Reasons(**{key: str(value) for key, value in each.items()}) for case, each in fields["cases"].items()}
            theme = fields["theme"] if fields["theme"] in THEMES else "auto"
            return cls(folder, str(fields["language"]), theme, fields["names_shown"] is True, cases)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(folder)

    def save(self) -> None:
        """Keep it."""
        fields = {"language": self.language, "theme": self.theme, "names_shown": self.names_shown}
        cases = {case: asdict(each) for case, each in self.cases.items()}
        write_private(self.folder / FILE, json.dumps(fields | {"cases": cases}, ensure_ascii=False, indent=1).encode())

    @property
    def last(self) -> Reasons:
        """The reasons used last."""
        return next(reversed(self.cases.values()), Reasons())

    def remember(self, reasons: Reasons) -> None:
        """Keep the reasons of a case as the newest."""
        self.cases.pop(reasons.case, None)
        self.cases[reasons.case] = reasons
        while len(self.cases) > MAX_CASES:
            del self.cases[next(iter(self.cases))]
        self.save()
