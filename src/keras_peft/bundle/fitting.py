"""Whether a bundle fits its base model, found out before anything is built or allocated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_peft.bundle.content import Bundle
from keras_peft.errors import BundleMismatch

if TYPE_CHECKING:
    from keras_peft.core.placement import Placement


def refuse_long_texts(bundle: Bundle, placements: Sequence[Placement], most: int) -> None:
    """Refuses a bundle that reads longer texts than the base model.

    Args:
        bundle: The bundle.
        placements: Its methods, which may take positions of the base model.
        most: Most tokens that the base model reads.

    Raises:
        BundleMismatch: If its texts are longer.
    """
    taken = sum(placement.method.extra_positions for placement in placements)
    asked = bundle.content["max_length"]
    if asked > most - taken:
        raise BundleMismatch(
            f"It reads up to {asked} tokens per text, but the base model reads at most {most - taken} in addition to "
            f"its {taken} own."
        )
