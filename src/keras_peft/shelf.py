"""A shelf: a folder of interchangeable files, each found by its name."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cached_property
from types import ModuleType

from keras_peft.errors import OptionError, did_you_mean


class Shelf:
    """The files of a folder whose names do not begin with `_`; to add one is all it takes to register it.

    A name is its file's with "-" for "_".

    Args:
        package: The folder's dotted name, as `__package__` in its files.
        kind: What a file holds, in a word.
        kinds: The plural of that word.

    Example:
        >>> Shelf("keras_peft.methods", "method", "methods").names[:3]
        ('adalora', 'bitfit', 'compacter')
    """

    def __init__(self, package: str, kind: str, kinds: str) -> None:
        self.package, self.kind, self.kinds = package, kind, kinds

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All names, sorted; nothing is imported for them."""
        # The folder may be the one that is being imported.
        folder = importlib.import_module(self.package).__path__
        found = (module.name for module in pkgutil.iter_modules(folder) if not module.name.startswith("_"))
        return tuple(sorted(name.replace("_", "-") for name in found))

    def module(self, name: str) -> ModuleType:
        """Imports the file of a name.

        Raises:
            OptionError: If there is none; the message lists those that there are.
        """
        if name not in self.names:
            raise OptionError(
                f"There is no {self.kind} {name!r}; the {self.kinds} are: {', '.join(self.names)}."
                f"{did_you_mean(name, self.names)}"
            )
        return importlib.import_module(f"{self.package}.{name.replace('-', '_')}")

    def modules(self) -> dict[str, ModuleType]:
        """Imports all files.

        Returns:
            The modules by name, sorted.
        """
        return {name: self.module(name) for name in self.names}
