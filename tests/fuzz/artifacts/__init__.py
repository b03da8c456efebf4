"""What is fuzzed: one module for each kind of file that a stranger can send.

A module has an `ARTIFACTS` tuple. Modules whose names begin with `_` are for the tests of the suite itself.
"""

from __future__ import annotations

import importlib
import pkgutil

from fuzz.artifact import Artifact


def names() -> tuple[str, ...]:
    """Returns the names of all artifacts, in the order of their modules."""
    return tuple(every())


def every() -> dict[str, Artifact]:
    """Returns all artifacts by name."""
    modules = sorted(one.name for one in pkgutil.iter_modules(__path__) if not one.name.startswith("_"))
    return {artifact.name: artifact for module in modules for artifact in of_module(module)}


def of_module(module: str) -> tuple[Artifact, ...]:
    """Returns the artifacts of a module.

    Args:
        module: Name of the module in this folder.
    """
    return tuple(importlib.import_module(f"{__name__}.{module}").ARTIFACTS)


def find(name: str) -> Artifact:
    """Returns an artifact by name.

    Args:
        name: Its name, or `_module:name` for one that is not in the list.

    Raises:
        SystemExit: If there is no artifact of that name.
    """
    module, _, own = name.rpartition(":")
    found = {one.name: one for one in of_module(module)} if module else every()
    if own not in found:
        raise SystemExit(f"There is no artifact {name!r}; expected one of {', '.join(found)}.")
    return found[own]
