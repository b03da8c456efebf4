"""Adapts the docstrings of this package to the parser of mkdocstrings.

The parser knows a section of code as `Examples:`, not as `Example:`. The default of a field that `option()`
or `setting()` makes is its first argument.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class Reading(griffe.Extension):
    """Changes objects before they are rendered."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each object of the package."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Called for each attribute when it is read."""
        made = attr.value
        if (
            isinstance(made, griffe.ExprCall)
            and str(made.function) in ("option", "setting")
            and made.arguments
        ):
            attr.value = made.arguments[0]
