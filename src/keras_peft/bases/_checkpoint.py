"""Names in the Hugging Face checkpoints of an architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TextHead:
    """The head of Hugging Face's text classifier.

    Attributes:
        layers: Mapping from the head's module names to the layer names used here.
        activation: Activation between the layers.
        saved: Module names to list in PEFT's `modules_to_save`.
    """

    layers: Mapping[str, str]
    activation: str
    saved: tuple[str, ...]


@dataclass(frozen=True)
class CheckpointNames:
    """The names in Hugging Face's checkpoints of an architecture.

    Attributes:
        classes: Prefix of the class names: "DistilBert".
        prefix: Prefix of the module names in a model with a head: "distilbert".
        outside: Modules outside the blocks, mapped to layer paths.
        blocks: Name of the module list that holds the blocks: "transformer.layer".
        inside: Modules of a block, mapped to layer paths relative to the block.
        text_head: Head of the text classifier; encoders only.
        takes_prefix: Whether the attention accepts keys and values that precede the text.
        fused: Modules of a block that correspond to several layers, whose outputs they concatenate.
        is_transposed: Whether the projections store their matrices as (in, out).
        blocks_here: Name of the block layers in KerasHub, without their numbers.
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
        """Returns the modules that correspond to one layer each.

        Args:
            blocks: Number of blocks.

        Returns:
            Layer paths by module name, without the prefix.

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
        """Returns all modules, including those that correspond to several layers.

        Args:
            blocks: Number of blocks.

        Returns:
            Layer paths by module name, without the prefix.
        """
        return {name: (path,) for name, path in self.modules(blocks).items()} | {
            f"{self.blocks}.{block}.{name}": tuple(f"{self.blocks_here}_{block}/{path}" for path in paths)
            for block in range(blocks)
            for name, paths in self.fused.items()
        }

    def bare(self, name: str) -> str:
        """Returns the name of a module or tensor without the architecture's prefix."""
        return name.removeprefix(f"{self.prefix}.")
