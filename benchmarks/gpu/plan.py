"""The runs of the benchmark, the most telling ones first."""

from __future__ import annotations

from dataclasses import dataclass

from ..speed.bases import MINILM, WIDE

OURS, UNCACHED, HF_PEFT = "keras-peft", "keras-peft, no cache", "HF PEFT"
BATCH_SIZES = (16, 128)
LAST, ALL = "last:2", "all"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One process to measure.

    Attributes:
        side: One of the sides above.
        base: Name of the base.
        blocks: Blocks to train.
        batch_size: Rows in a batch.
    """

    side: str
    base: str
    blocks: str
    batch_size: int


def runs() -> list[Run]:
    """Lists all runs. With all blocks there is no trunk, so nothing can be cached."""
    return [
        Run(side=side, base=base, blocks=blocks, batch_size=size)
        for base in (MINILM, WIDE)
        for size in BATCH_SIZES
        for blocks, sides in ((LAST, (OURS, HF_PEFT, UNCACHED)), (ALL, (UNCACHED, HF_PEFT)))
        for side in sides
    ]
