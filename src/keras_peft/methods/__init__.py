"""The methods: one file each, found by its name.

A file `methods/NAME.py` holds one `Method` subclass with `name = "NAME"` (with
"_" for "-"); nothing else has to be registered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_peft.core.method import Method
from keras_peft.core.selection import Selection
from keras_peft.shelf import Shelf

if TYPE_CHECKING:
    from keras_peft.core.adapter import Placement

_SHELF = Shelf(__name__, "method", "methods")


def names() -> list[str]:
    """Lists the names of all methods, sorted."""
    return list(_SHELF.names)


def find(name: str) -> type[Method]:
    """Returns the class of a method.

    Raises:
        OptionError: If there is no method of that name.
    """
    return next(
        value
        for value in vars(_SHELF.module(name)).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__dict__.get("name") == name
    )


def from_config(config: Mapping[str, Any]) -> Method:
    """Makes a method from what its `to_config` returned.

    Raises:
        OptionError: If the name or an option is unknown or a value is out of range.
    """
    options = dict(config)
    return find(str(options.pop("name", ""))).from_options(options)


def placements_from_config(configs: Sequence[Mapping[str, Any]]) -> list[Placement]:
    """Makes the placements of an adapter from what their `to_config` returned.

    Raises:
        OptionError: If anything in them is unknown or out of range.
    """
    from keras_peft.core.adapter import Placement

    placements = []
    for config in configs:
        targets, layers = config["selection"]["targets"], config["selection"]["layers"]
        selection = Selection(tuple(targets), layers if isinstance(layers, str) else tuple(layers))
        placements.append(Placement(from_config(config["method"]), selection))
    return placements
