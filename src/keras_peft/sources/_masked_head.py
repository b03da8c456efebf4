"""The head of a checkpoint that predicts masked tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# The modules of Hugging Face's heads: a dense layer, a norm, and the bias of the logits.
_MODULES = (
    ("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
    ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"),
    ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    ("predictions.dense", "predictions.LayerNorm", "predictions.bias"),
    ("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head.bias"),
)
# Hugging Face's names of the activations that these heads have.
_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}


@dataclass(frozen=True)
class MaskedHead:
    """The part of a masked-language head below the logits, which are products with the token embeddings.

    Attributes:
        kernel: Kernel of the dense layer, (dim, embedding dim).
        bias: Its bias, (embedding dim,).
        activation: Its activation: "gelu", "gelu_tanh" or "relu".
        scale: Scale of the norm, (embedding dim,).
        shift: Shift of the norm, (embedding dim,).
        epsilon: Epsilon of the norm.
        logits_bias: Bias of the logits, (vocabulary,).
    """

    kernel: np.ndarray
    bias: np.ndarray
    activation: str
    scale: np.ndarray
    shift: np.ndarray
    epsilon: float
    logits_bias: np.ndarray


def find_masked_head(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> MaskedHead | None:
    """Reads the masked-language head of a checkpoint.

    Args:
        config: The checkpoint's config.json.
        tensors: The checkpoint's tensors by name.

    Returns:
        The head, or None if the checkpoint has none, or one of another form.
    """
    activation = config.get("hidden_act", config.get("activation", "gelu"))
    for dense, norm, bias in _MODULES:
        names = [f"{dense}.weight", f"{dense}.bias", f"{norm}.weight", f"{norm}.bias", bias]
        if all(name in tensors for name in names) and activation in _ACTIVATIONS:
            kernel, dense_bias, scale, shift, logits_bias = (
                tensors[name].astype("float32") for name in names
            )
            return MaskedHead(
                kernel=kernel.T,
                bias=dense_bias,
                activation=_ACTIVATIONS[activation],
                scale=scale,
                shift=shift,
                epsilon=float(config.get("layer_norm_eps", 1e-12)),
                logits_bias=logits_bias,
            )
    return None
