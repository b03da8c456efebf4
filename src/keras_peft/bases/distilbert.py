"""DistilBERT: Sanh et al. 2019, https://arxiv.org/abs/1910.01108."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from keras_peft.bases._shared import TRANSFORMER, itself
from keras_peft.errors import BaseCorrupt, BaseError, listed

if TYPE_CHECKING:
    import keras
    import numpy as np

MODEL_TYPE = "distilbert"
BACKBONE = "DistilBertBackbone"
NORMS_AFTER = True
ROLES = {**TRANSFORMER, r"pooled_dense": "head", r"logits": "head"}
encoder = itself


# Hugging Face's tensor names, without "distilbert.", and the variables they become.
_EMBEDDING = "token_and_position_embedding"
_NAMES = {
    "embeddings.word_embeddings.weight": f"{_EMBEDDING}/token_embedding/embeddings",
    "embeddings.position_embeddings.weight": f"{_EMBEDDING}/position_embedding/embeddings",
    "embeddings.LayerNorm.weight": "embeddings_layer_norm/gamma",
    "embeddings.LayerNorm.bias": "embeddings_layer_norm/beta",
}
_BLOCK_NAMES = {
    "attention.q_lin.weight": "self_attention_layer/query/kernel",
    "attention.q_lin.bias": "self_attention_layer/query/bias",
    "attention.k_lin.weight": "self_attention_layer/key/kernel",
    "attention.k_lin.bias": "self_attention_layer/key/bias",
    "attention.v_lin.weight": "self_attention_layer/value/kernel",
    "attention.v_lin.bias": "self_attention_layer/value/bias",
    "attention.out_lin.weight": "self_attention_layer/attention_output/kernel",
    "attention.out_lin.bias": "self_attention_layer/attention_output/bias",
    "sa_layer_norm.weight": "self_attention_layer_norm/gamma",
    "sa_layer_norm.bias": "self_attention_layer_norm/beta",
    "ffn.lin1.weight": "feedforward_intermediate_dense/kernel",
    "ffn.lin1.bias": "feedforward_intermediate_dense/bias",
    "ffn.lin2.weight": "feedforward_output_dense/kernel",
    "ffn.lin2.bias": "feedforward_output_dense/bias",
    "output_layer_norm.weight": "feedforward_layer_norm/gamma",
    "output_layer_norm.bias": "feedforward_layer_norm/beta",
}


def checkpoint_names(blocks: int) -> dict[str, str]:
    """Returns Hugging Face's names of the tensors, without `distilbert.`, and the paths of their variables.

    Args:
        blocks: Number of blocks.

    Example:
        >>> checkpoint_names(1)["transformer.layer.0.sa_layer_norm.bias"]
        'transformer_layer_0/self_attention_layer_norm/beta'
    """
    return dict(_NAMES) | {
        f"transformer.layer.{block}.{name}": f"transformer_layer_{block}/{path}"
        for block in range(blocks)
        for name, path in _BLOCK_NAMES.items()
    }


def from_checkpoint(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> keras.Model:
    """Builds KerasHub's backbone from a Hugging Face checkpoint.

    Dropout is left out of it: a frozen encoder runs as in inference.

    Args:
        config: Hugging Face's config.json.
        tensors: Its tensors, with or without the leading `distilbert.`; those of
            heads are passed over.

    Raises:
        BaseCorrupt: If tensors are missing or misshapen; all are in the message.
        BaseError: If the configuration asks for what KerasHub does not compute.
    """
    import keras_hub

    from keras_peft.core.sites import find_sites, own_variables

    if (activation := config.get("activation", "gelu")) != "gelu":
        raise BaseError(f"This checkpoint uses the activation {activation!r}; only 'gelu' can be read.")
    with _without_random_values(keras_hub.models.DistilBertBackbone):
        backbone = keras_hub.models.DistilBertBackbone(
            vocabulary_size=config["vocab_size"],
            num_layers=config["n_layers"],
            num_heads=config["n_heads"],
            hidden_dim=config["dim"],
            intermediate_dim=config["hidden_dim"],
            max_sequence_length=config["max_position_embeddings"],
            dropout=0.0,
        )
    variables = {
        f"{site.path}/{variable.name}": variable
        for site in find_sites(backbone)
        for variable in own_variables(site.layer)
    }
    names = checkpoint_names(config["n_layers"])
    full = {name.removeprefix("distilbert."): name for name in tensors}
    problems = [f"missing {name}" for name in names if name not in full]
    for name, path in names.items():
        if name in full:
            variable, value = variables[path], tensors[full[name]]
            if value.size != math.prod(variable.shape):
                problems.append(f"{name} has shape {value.shape}")
            else:
                value = value.T if path.endswith("/kernel") else value
                variable.assign(value.reshape(variable.shape))
    if problems:
        raise BaseCorrupt(
            f"The checkpoint does not fit its config.json: {listed(problems)}; download it again."
        )
    return backbone


@contextmanager
def _without_random_values(kind: type[keras.Model]) -> Iterator[None]:
    """Lets a KerasHub model begin with zeros: drawing its values takes longer than reading them."""
    module: Any = sys.modules[kind.__module__]
    original = module.distilbert_kernel_initializer
    module.distilbert_kernel_initializer = lambda *_, **__: "zeros"
    try:
        yield
    finally:
        module.distilbert_kernel_initializer = original
