"""Where work runs: on this machine, or on the machines of a Ray cluster."""

from __future__ import annotations

from keras_peft.errors import OptionError, did_you_mean

MACHINE, RAY = "machine", "ray"
PLACES = (MACHINE, RAY)


def check_place(on: str) -> None:
    """Checks the name of a place.

    Args:
        on: The name.

    Raises:
        OptionError: If there is no such place.
    """
    if on not in PLACES:
        raise OptionError(f"`on={on!r}`: expected one of {', '.join(PLACES)}.{did_you_mean(on, PLACES)}")
