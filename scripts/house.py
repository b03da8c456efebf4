"""The architecture diagram in docs/internals/house.md, generated from the package's imports."""

from __future__ import annotations

import ast

from scripts.imports import PACKAGE, floors, modules, reduced

# The groups of the diagram. Each file or folder at the top of the package must be in one of these.
GROUPS = {
    "Entry points": ("cli", "serve"),
    "From labelled text to predictions": (
        "bars",
        "sklearn",
        "comparing",
        "data",
        "inputs",
        "tasks",
        "runtime",
        "training",
        "sweeping",
        "bundle",
        "graph",
        "engines",
        "predict",
        "many",
        "sharding",
        "labelling",
        "explanation",
        "checking",
        "interop",
        "exports",
        "forms",
        "merging",
        "pushing",
    ),
    "Any Keras model": (
        "sources",
        "attach",
        "keras_files",
        "adapter_files",
        "arithmetic",
        "bases",
        "methods",
        "core",
    ),
}
GROUND = (
    "_version",
    "errors",
    "extras",
    "files",
    "json_files",
    "patterns",
    "toml_files",
    "memory",
    "child_process",
    "parent_process",
    "options",
    "places",
    "cluster",
    "printable",
    "progress",
    "schemas",
    "shelf",
    "stopwatch",
    "durations",
    "storage_limits",
    "store",
    "templating",
    "versions",
)


def picture() -> str:
    """Draws the imports between the modules at the top of the package as a Mermaid diagram.

    Modules in GROUND, which all others may import, are left out, and so are imports that follow from others.
    """
    graph = {name: others - set(GROUND) for name, others in floors().items() if name not in GROUND}
    known = {room for rooms in GROUPS.values() for room in rooms}
    if strangers := graph.keys() ^ known:
        raise SystemExit(
            f"scripts/house.py: give {', '.join(sorted(strangers))} a place in GROUPS or GROUND."
        )
    lines = ["```mermaid", "flowchart TD"]
    for number, (title, rooms) in enumerate(GROUPS.items()):
        lines.append(f'  subgraph group{number}["{title}"]')
        lines += [f'    {room}["{_shown(room)}"]' for room in rooms]
        lines.append("  end")
    for room, others in reduced(graph).items():
        lines += [f"  {room} --> {other}" for other in sorted(others)]
    return "\n".join([*lines, "```"])


def table() -> str:
    """A row for each module at the top of the package, with the first line of its docstring."""
    known = modules()
    lines = ["| | what it is for |", "|---|---|"]
    for room in [*(room for rooms in GROUPS.values() for room in rooms), *GROUND]:
        text = known[f"{PACKAGE.name}.{room}"].read_text(encoding="utf-8")
        docstring = ast.get_docstring(ast.parse(text)) or ""
        lines.append(f"| `{_shown(room)}` | {docstring.splitlines()[0]} |")
    return "\n".join(lines)


def _shown(room: str) -> str:
    return f"{room}/" if (PACKAGE / room).is_dir() else f"{room}.py"
