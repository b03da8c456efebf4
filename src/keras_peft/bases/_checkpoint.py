"""What Hugging Face calls the parts of an architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TextHead:
    """The head of Hugging Face's classifier of texts.

    Attributes:
        layers: From its modules to the layers of the head here.
        activation: What acts between them.
        saved: What PEFT's `modules_to_save` has to name.
    """

    layers: Mapping[str, str]
    activation: str
    saved: tuple[str, ...]


@dataclass(frozen=True)
class CheckpointNames:
    """The names in Hugging Face's checkpoints of an architecture.

    Attributes:
        classes: What the names of its classes begin with: "DistilBert".
        prefix: What the names of its modules begin with below a head: "distilbert".
        outside: Its modules outside of blocks, and the paths of their layers here.
        blocks: Where its blocks lie: "transformer.layer".
        inside: The modules of a block, and the paths of their layers below the block's.
        text_head: The head of its classifier of texts, for encoders.
        takes_prefix: Whether its attention takes keys and values from before the text.
        fused: The modules of a block that are several layers here, side by side in their outputs.
        is_transposed: Whether its projections keep their matrices as (in, out).
        blocks_here: What the layers of its blocks are called here, without their numbers.
    """

    classes: str
    prefix: str
    outside: Mapping[str, str]
    blocks: str
    inside: Mapping[str, str]
    text_head: TextHead | None = None
    takes_prefix: bool = True
    fused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_transposed: bool = False
    blocks_here: str = "transformer_layer"

    def modules(self, blocks: int) -> dict[str, str]:
        """Returns the names of all modules that are one layer, without the prefix, and the layers' paths.

        Args:
            blocks: Number of blocks.

        Example:
            >>> from keras_peft.bases import bert
            >>> bert.CHECKPOINT.modules(1)["encoder.layer.0.attention.self.query"]
            'transformer_layer_0/self_attention_layer/query'
        """
        return dict(self.outside) | {
            f"{self.blocks}.{block}.{name}": f"{self.blocks_here}_{block}/{path}"
            for block in range(blocks)
            for name, path in self.inside.items()
        }

    def layers(self, blocks: int) -> dict[str, tuple[str, ...]]:
        """Returns the names of all modules, those that are several layers here included, and the layers' paths.

        Args:
            blocks: Number of blocks.
        """
        return {name: (path,) for name, path in self.modules(blocks).items()} | {
            f"{self.blocks}.{block}.{name}": tuple(f"{self.blocks_here}_{block}/{path}" for path in paths)
            for block in range(blocks)
            for name, paths in self.fused.items()
        }

    def bare(self, name: str) -> str:
        """Returns the name of a module or tensor without the prefix that it has below a head."""
        return name.removeprefix(f"{self.prefix}.")
