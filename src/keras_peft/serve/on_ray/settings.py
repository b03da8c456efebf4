"""Settings of the replicas, and their conversion from the arguments of a command or a file."""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from keras_peft.errors import OptionError


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """Settings of the replicas.

    Args:
        replicas: Number of replicas; with `max_replicas`, the smallest number.
        max_replicas: Largest number of replicas. Ray starts and ends replicas by the number of requests that wait or
            run. None for a fixed number.
        cores: Number of cores of a replica.
        gpus: Number of GPUs of a replica, or its share of one, such as 0.5.
    """

    replicas: int = 1
    max_replicas: int | None = None
    cores: int = 1
    gpus: float = 0.0

    def __post_init__(self) -> None:
        for name in ("replicas", "cores"):
            if getattr(self, name) < 1:
                raise OptionError(f"`{name}={getattr(self, name)}`: expected 1 or more.")
        if not 0 <= self.gpus < math.inf or (self.gpus > 1 and self.gpus % 1):
            raise OptionError(
                f"`gpus={self.gpus}`: expected 0, a share of a GPU, such as 0.5, or a whole number of them."
            )
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise OptionError(
                f"`max_replicas={self.max_replicas}`: expected at least `replicas={self.replicas}`."
            )


def converted(owner: type, given: Mapping[str, Any]) -> Any:
    """Creates settings from arguments of a command or a file.

    Raises:
        OptionError: If a value has the wrong type, or is not allowed.
    """
    from pydantic import TypeAdapter, ValidationError

    hints, values = typing.get_type_hints(owner), {}
    for name in [one.name for one in fields(owner) if one.name in given]:
        value = given[name]
        try:
            values[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            raise OptionError(f"`{name}={value!r}`: {error.errors()[0]['msg']}.") from None
    return owner(**values)
