"""A registry of interchangeable modules in a package, found by name."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cached_property
from types import ModuleType

from keras_peft.errors import OptionError, did_you_mean


class Shelf:
    """The public modules of a package; adding a file registers it.

    Files whose names start with `_` are skipped. A name is the file name with "-" for "_".

    Args:
        package: The package's dotted name, `__package__` in its files.
        kind: Singular noun for what a file holds.
        kinds: Plural of that noun.

    Example:
        >>> Shelf("keras_peft.methods", "method", "methods").names[:3]
        ('adalora', 'bitfit', 'compacter')
    """

    def __init__(self, package: str, kind: str, kinds: str) -> None:
        self.package, self.kind, self.kinds = package, kind, kinds

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All names, sorted. The modules are not imported."""
        # The package may not be fully imported yet.
        folder = importlib.import_module(self.package).__path__
        found = (module.name for module in pkgutil.iter_modules(folder) if not module.name.startswith("_"))
        return tuple(sorted(name.replace("_", "-") for name in found))

    def module(self, name: str) -> ModuleType:
        """Imports and returns the module of a name.

        Raises:
            OptionError: If there is no such module; the message lists the known names.
        """
        if name not in self.names:
            raise OptionError(
                f"There is no {self.kind} {name!r}; the {self.kinds} are: {', '.join(self.names)}."
                f"{did_you_mean(name, self.names)}"
            )
        return importlib.import_module(f"{self.package}.{name.replace('-', '_')}")

    def modules(self) -> dict[str, ModuleType]:
        """Imports all modules.

        Returns:
            The modules by name, sorted.
        """
        return {name: self.module(name) for name in self.names}
