"""Draws the arrows in docs/architecture.md from the imports in the code: `make drawings`. A test says whether they are current.

The tree of modules is read with `ast`, nothing is imported. An import counts wherever it stands: at the top of a file, inside a
function, or below `if TYPE_CHECKING`. In every folder the files and folders side by side form a graph; the drawings show two levels of
it (the packages, and the rooms of each package), and `circles` looks at all of them.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path(__file__).with_suffix(".md")
NAMESPACE = "vidfed"
GENERATED = "vidfed.v1"
"""Its modules come from the .proto files; they have no plan of their own."""
FACE = "__init__"
"""What a folder offers by its own name."""

Graph = dict[str, set[str]]


@dataclass
class House:
    """All modules below `vidfed`, and which imports which."""

    modules: dict[str, Path] = field(default_factory=dict)
    """A file by its dotted name; a folder's own file ends in `.__init__`."""
    arrows: Graph = field(default_factory=lambda: defaultdict(set))
    """The modules that a module imports."""

    @classmethod
    def read(cls, root: Path = ROOT) -> House:
        """Read the imports of every module below ROOT/*/vidfed."""
        house = cls()
        for source in sorted(root.glob(f"*/{NAMESPACE}")):
            for path in sorted(source.rglob("*.py")):
                house.modules[".".join(path.relative_to(source.parent).with_suffix("").parts)] = path
        for name, path in house.modules.items():
            if not name.startswith(f"{GENERATED}."):
                house.arrows[name] = {target for target in house._imports(path) if target != name}
        return house

    def _imports(self, path: Path) -> set[str]:
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {self._module(alias.name) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                if node.level:
                    raise ValueError(f"{path}:{node.lineno}: a relative import; write the whole name")
                # Each name may be a module of the folder or something the module defines.
                found |= {self._module(f"{node.module}.{alias.name}") or self._module(node.module or "") for alias in node.names}
        return found - {""}

    def _module(self, name: str) -> str:
        return next((known for known in (name, f"{name}.{FACE}") if known in self.modules), "")

    def folders(self) -> list[str]:
        """Every folder that holds modules, the namespace itself first; without the generated one."""
        parents = {NAMESPACE}
        for name in self.arrows:
            parts = name.split(".")
            parents |= {".".join(parts[:end]) for end in range(1, len(parts))}
        return sorted(parents - {GENERATED})

    def files(self, folder: str) -> list[str]:
        """The names of the modules directly in a folder, without its `__init__`."""
        return [name for name in self.modules if name.rpartition(".")[0] == folder and not name.endswith(f".{FACE}")]

    def siblings(self, folder: str) -> Graph:
        """The arrows between what stands side by side in a folder: its files, its folders with all that is in them, and its `__init__`."""
        graph: Graph = defaultdict(set)
        for module, targets in self.arrows.items():
            if (start := _child(folder, module)) is None:
                continue
            graph[start] |= {end for target in targets if (end := _child(folder, target)) not in {None, start}}
        return graph


def _child(folder: str, module: str) -> str | None:
    return module.removeprefix(f"{folder}.").partition(".")[0] if module.startswith(f"{folder}.") else None


def circles(graph: Graph) -> list[list[str]]:
    """Return each set of names that can all reach one another, in order: what stands in a circle."""
    reached = {start: _reachable(graph, start) for start in graph}
    found = {tuple(sorted(end for end in reached[start] if start in reached.get(end, ()))) for start in graph if start in reached[start]}
    return [list(circle) for circle in sorted(found)]


def _reachable(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph.get(start, ()))
    while waiting:
        if (name := waiting.pop()) not in seen:
            seen.add(name)
            waiting += graph.get(name, ())
    return seen


def drawing(house: House, folder: str) -> str:
    """Draw what stands side by side in a folder as Mermaid.

    Files that stand beside rooms and import none of them (errors, settings) are one box at the bottom: everything may use them, so the
    arrows to it are left out, as are those of the folder's `__init__`.
    """
    graph = house.siblings(folder)
    rooms = {name for name in graph if f"{folder}.{name}.{FACE}" in house.modules}
    files = set(graph) - rooms - {FACE}
    ground = {name for name in files if not _reachable(graph, name) & rooms}
    lines = ["```mermaid", "flowchart TD"]
    lines += [f"    {name}" for name in sorted(set(graph) - ground - {FACE})]
    if ground:
        lines.append(f'    ground["{" · ".join(sorted(ground))}"]')
    for start in sorted(set(graph) - ground - {FACE}):
        ends = sorted(graph[start] - ground - {FACE})
        if ends:
            lines.append(f"    {start} --> {' & '.join(ends)}")
    return "\n".join([*lines, "```"])


def page(text: str, house: House) -> str:
    """Return the page's text with every drawing made anew between its markers.

    Raises:
        ValueError: a package with rooms has no markers in the page, or markers name a folder that is not there.
    """
    drawn = set(re.findall(r"<!-- drawing (\S+) -->", text))
    rooms = [folder for folder in house.folders() if folder.count(".") == 2]  # noqa: PLR2004 - vidfed.PACKAGE.ROOM
    wanted = {NAMESPACE, *(room.rpartition(".")[0] for room in rooms)}
    if drawn != wanted:
        missing, surplus = ", ".join(sorted(wanted - drawn)) or "none", ", ".join(sorted(drawn - wanted)) or "none"
        raise ValueError(f"{PAGE.name}: write `<!-- drawing PACKAGE --><!-- end -->` for {missing}; take it out for {surplus}")
    return re.sub(
        r"<!-- drawing (\S+) -->.*?<!-- end -->",
        lambda found: f"<!-- drawing {found[1]} -->\n{drawing(house, found[1])}\n<!-- end -->",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(), House.read()))
