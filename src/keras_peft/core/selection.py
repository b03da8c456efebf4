"""The user's selection of the sites that a method attaches to. Does not import Keras."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from keras_peft.errors import SelectionError, did_you_mean, listed
from keras_peft.patterns import PatternError, compiled

ROLES = (
    "attention",
    "attention.query",
    "attention.key",
    "attention.value",
    "attention.output",
    "ffn.up",
    "ffn.down",
    "ffn.gate",
    "embedding.token",
    "embedding.position",
    "embedding.segment",
    "norm",
    "block",
    "head",
)
ALL_LINEAR = "all-linear"
"""A target that matches all layers that multiply by a matrix, except heads, as in HF PEFT."""


@dataclass(frozen=True)
class Selection:
    """Targets and layers that a method attaches to.

    Args:
        targets: Roles, regular expressions searched for in the layer paths, or "all-linear" for
            every `Dense` and `EinsumDense` except heads. A group named `block` in an expression
            captures the block's index. If empty, only the head is trained.
        layers: `"all"`, `"last:N"`, `"first:N"`, or block indices, where negative indices count
            from the end; in a string they are separated by commas.

    Raises:
        SelectionError: If either is invalid.

    Example:
        >>> keras_peft.Selection(("attention.query", "attention.value"), layers="last:2")
    """

    targets: tuple[str, ...]
    layers: str | tuple[int, ...] = "all"

    @classmethod
    def of(cls, targets: str | Iterable[str], layers: str | Iterable[int]) -> Selection:
        """Creates a selection from one target or several, and layers in any form.

        Args:
            targets: One role or regular expression, or several.
            layers: As in `Selection`.

        Raises:
            SelectionError: If there is no target, or a value is invalid.
        """
        targets = (targets,) if isinstance(targets, str) else tuple(targets)
        if not targets:
            raise SelectionError(f"No targets were given; choose at least one role: {', '.join(ROLES)}.")
        return cls(targets, layers if isinstance(layers, str) else tuple(layers))

    def __post_init__(self) -> None:
        for target in self.targets:
            try:
                compiled(target)
            except PatternError as error:
                raise SelectionError(
                    f"Target {target!r} is not a role ({', '.join(ROLES)}), and it {error}."
                ) from None
        if isinstance(self.layers, str):
            if not re.fullmatch(r"all|(last|first):\d+|-?\d+(,\s*-?\d+)*", self.layers):
                words = ("all", "last:2", "first:2")
                raise SelectionError(
                    f"`layers={self.layers!r}` is invalid; expected 'all', 'last:N', 'first:N' or block "
                    f"numbers such as '4,5' or '-1,-2'.{did_you_mean(self.layers, words)}"
                )
        elif not self.layers or any(type(number) is not int for number in self.layers):
            raise SelectionError(f"`layers={list(self.layers)!r}`: expected at least one block number.")

    def blocks(self, total: int) -> set[int]:
        """Returns the indices of the selected blocks.

        Args:
            total: Number of blocks in the base.

        Raises:
            SelectionError: If a selected block does not exist.
        """
        if self.layers == "all":
            return set(range(total))
        if isinstance(self.layers, str) and ":" in self.layers:
            end, _, digits = self.layers.partition(":")
            count = int(digits)
            if not 1 <= count <= total:
                raise SelectionError(
                    f"`layers={self.layers!r}` selects {count} blocks, but this base model has {total}; "
                    f"expected a number between 1 and {total}."
                )
            return set(range(total - count, total) if end == "last" else range(count))
        numbers = self.layers
        if isinstance(numbers, str):
            numbers = tuple(int(number) for number in numbers.split(","))
        if outside := [number for number in numbers if not -total <= number < total]:
            raise SelectionError(
                f"`layers={self.shown}`: there is no block {listed(outside)}; this base model has blocks "
                f"0 to {total - 1}."
            )
        return {number % total for number in numbers}

    def to_config(self) -> dict[str, Any]:
        """Returns targets and layers, ready for JSON."""
        layers = self.layers if isinstance(self.layers, str) else list(self.layers)
        return {"targets": list(self.targets), "layers": layers}

    @property
    def shown(self) -> str:
        """The layers as the user writes them."""
        return repr(self.layers if isinstance(self.layers, str) else list(self.layers))
