"""The imports between the modules of the package, read from its files, for the diagram and its tests."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "src" / "keras_peft"


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Returns the files of a package by their dotted names."""
    return {_name(path, package): path for path in sorted(package.rglob("*.py"))}


def imports(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Returns the modules of a package that each of its modules imports.

    Imports inside functions and under TYPE_CHECKING count like all others.

    Args:
        package: The folder of the package.
    """
    known = modules(package)
    return {name: set(_imported(name, path, known)) - {name} for name, path in known.items()}


def room_of(module: str, path: Path) -> str:
    """Returns the folder of a module; a file at the top of the package counts as its own folder."""
    if path.name == "__init__.py":
        return module
    folder = module.rpartition(".")[0]
    return module if "." not in folder else folder


def rooms(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Returns the imports between the folders of a package."""
    known = modules(package)
    found: dict[str, set[str]] = {room_of(*one): set() for one in known.items()}
    for name, others in imports(package).items():
        room = room_of(name, known[name])
        found[room] |= {room_of(other, known[other]) for other in others} - {room}
    return found


def floors(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Returns the imports between the files and folders at the top of a package."""
    found: dict[str, set[str]] = {}
    for name, others in imports(package).items():
        if "." in name:  # the package itself only re-exports names
            above = found.setdefault(name.split(".")[1], set())
            above |= {other.split(".")[1] for other in others if "." in other} - {name.split(".")[1]}
    return found


def reduced(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Returns the transitive reduction of an acyclic graph of imports."""
    reached: dict[str, set[str]] = {}
    for name in TopologicalSorter(graph).static_order():
        others = graph.get(name, set())
        reached[name] = others.union(*(reached[other] for other in others))
    return {
        name: {one for one in others if not any(one in reached[other] for other in others)}
        for name, others in graph.items()
    }


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Returns a circular import, from the first module back to it; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(name: str, path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield module if module in known else node.module
