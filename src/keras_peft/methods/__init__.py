"""Fine-tuning methods, one per file, found by name.

To add a method, add a file `methods/NAME.py` with one `Method` subclass whose `name` is
"NAME" (with "-" where the file name has "_"). No registration is needed. The classes are
attributes of this package and are imported on first use: `keras_peft.methods.LoHa`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_peft.core.method import Method
from keras_peft.core.selection import Selection
from keras_peft.errors import OptionError, listed
from keras_peft.shelf import Shelf

if TYPE_CHECKING:
    from keras_peft.core.placement import Placement

    # For type checkers and editors only; at runtime, `__getattr__` imports the classes.
    from keras_peft.methods.adalora import AdaLoRA as AdaLoRA
    from keras_peft.methods.bitfit import BitFit as BitFit
    from keras_peft.methods.compacter import Compacter as Compacter
    from keras_peft.methods.dora import DoRA as DoRA
    from keras_peft.methods.full import FullFineTuning as FullFineTuning
    from keras_peft.methods.houlsby import HoulsbyAdapter as HoulsbyAdapter
    from keras_peft.methods.ia3 import IA3 as IA3
    from keras_peft.methods.linear_probe import LinearProbe as LinearProbe
    from keras_peft.methods.loha import LoHa as LoHa
    from keras_peft.methods.lokr import LoKr as LoKr
    from keras_peft.methods.lora import LoRA as LoRA
    from keras_peft.methods.loreft import LoReFT as LoReFT
    from keras_peft.methods.norm import NormTuning as NormTuning
    from keras_peft.methods.oft import OFT as OFT
    from keras_peft.methods.p_tuning import PTuning as PTuning
    from keras_peft.methods.p_tuning_v2 import PTuningV2 as PTuningV2
    from keras_peft.methods.parallel import ParallelAdapter as ParallelAdapter
    from keras_peft.methods.pfeiffer import PfeifferAdapter as PfeifferAdapter
    from keras_peft.methods.pfeiffer_norm import PfeifferNormAdapter as PfeifferNormAdapter
    from keras_peft.methods.prefix import PrefixTuning as PrefixTuning
    from keras_peft.methods.prompt import PromptTuning as PromptTuning
    from keras_peft.methods.vera import VeRA as VeRA

_SHELF = Shelf(__name__, "method", "methods")


def names() -> list[str]:
    """Returns the names of all methods, sorted."""
    return list(_SHELF.names)


def as_methods(given: object) -> list[Method]:
    """Returns one or several methods as a list.

    Args:
        given: A method, its class or its name, or a sequence of them.

    Returns:
        The methods; those given by name or class have their default options.

    Raises:
        OptionError: If anything else is given, or there is no method of a name.

    Example:
        >>> as_methods("lora")
        [LoRA(rank=8, …)]
    """
    items = list(given) if isinstance(given, list | tuple) else [given]
    found = []
    for one in items:
        if isinstance(one, str):
            one = find(one)()
        elif isinstance(one, type) and issubclass(one, Method):
            one = one()
        if not isinstance(one, Method):
            raise OptionError(
                f"`method={one!r}`: expected a method such as LoRA(), or a name such as 'lora'; the names are "
                f"{', '.join(names())}."
            )
        found.append(one)
    if not found:
        raise OptionError("`method`: expected at least one method, got none.")
    return found


def find(name: str) -> type[Method]:
    """Returns the class of a method.

    Args:
        name: Name of the method, such as `"lora"`.

    Returns:
        The `Method` subclass.

    Raises:
        OptionError: If no method has that name.
    """
    return next(
        value
        for value in vars(_SHELF.module(name)).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__dict__.get("name") == name
    )


def from_config(config: Mapping[str, Any]) -> Method:
    """Creates a method from its configuration.

    Args:
        config: A dictionary as returned by `Method.to_config`: the name and the options.

    Returns:
        The method.

    Raises:
        OptionError: If the name or an option is unknown, or a value is out of range.
    """
    options = dict(config)
    return find(str(options.pop("name", ""))).from_options(options)


def placements_from_config(configs: Sequence[Mapping[str, Any]]) -> list[Placement]:
    """Creates the placements of an adapter from their configurations.

    Args:
        configs: Dictionaries as returned by `Placement.to_config`.

    Returns:
        The placements, in the same order.

    Raises:
        OptionError: If a field is missing or of another type, a name or option is unknown, or a value is out of
            range.
    """
    from keras_peft.core.placement import Placement
    from keras_peft.schemas import PartsOnly, problems_with

    if problems := problems_with({"parts": list(configs)}, PartsOnly, "The adapter"):
        raise OptionError(f"{listed(problems)}.")
    placements = []
    for config in configs:
        targets, layers = config["selection"]["targets"], config["selection"]["layers"]
        selection = Selection(tuple(targets), layers if isinstance(layers, str) else tuple(layers))
        placements.append(Placement(from_config(config["method"]), selection))
    return placements


def __getattr__(name: str) -> Any:
    if name[:1].isupper():
        for method in map(find, names()):
            if method.__name__ == name:
                globals()[name] = method
                return method
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *(find(name).__name__ for name in names())]
