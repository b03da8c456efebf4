"""Whether a bundle fits its base model, found out before anything is built or allocated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_peft.bundle.content import Bundle
from keras_peft.errors import BaseCorrupt, BundleMismatch

if TYPE_CHECKING:
    from keras_peft.core.placement import Placement
    from keras_peft.sources import Base


def refuse_unknown_tokens(bundle: Bundle, base: Base) -> None:
    """Refuses a bundle whose tokenizer has tokens that the base model lacks.

    Args:
        bundle: The bundle.
        base: The base model.

    Raises:
        BundleMismatch: If it has such tokens, or its tokenizer.json is not a tokenizer.
    """
    from keras_peft import bases
    from keras_peft.core.sites import find_sites

    path = bundle.folder / "tokenizer.json"
    content = path.read_text(encoding="utf-8")
    if content == base.tokenizer:
        return
    largest = _largest_id(content, path)
    for site in find_sites(base.encoder, bases.roles_of(base.encoder)):
        known = site.shapes.get("embeddings", ()) if site.role == "embedding.token" else ()
        if known and largest >= known[0]:
            raise BundleMismatch(
                f"{path} has tokens up to number {largest:,}, but the base model has {known[0]:,} tokens; copy the "
                "file from the base model, or train the bundle again."
            )


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


def _largest_id(content: str, path: Path) -> int:
    """Returns the largest number of a token, including those that the tokenizer puts around texts."""
    from keras_peft.inputs.encoder import tokenizer_from

    try:
        tokenizer = tokenizer_from(content)
    except BaseCorrupt as error:
        raise BundleMismatch(f"{path.parent}: {error}") from None
    around = [*tokenizer.encode("").ids, *tokenizer.encode("", "").ids]
    return max([*tokenizer.get_vocab(with_added_tokens=True).values(), *around], default=0)
