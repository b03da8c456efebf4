"""DistilBERT: Sanh et al. 2019, https://arxiv.org/abs/1910.01108."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from keras_peft.bases._checkpoint import CheckpointNames, TextHead
from keras_peft.bases._shared import TRANSFORMER, itself
from keras_peft.errors import BaseCorrupt, BaseError, listed

if TYPE_CHECKING:
    import keras
    import numpy as np

MODEL_TYPE = "distilbert"
BACKBONE = "DistilBertBackbone"
NORMS_AFTER = True
ROLES = {**TRANSFORMER, r"pooled_dense": "head", r"logits": "head"}
EPSILON = 1e-12
"""Epsilon of the norms."""
encoder = itself

CHECKPOINT = CheckpointNames(
    classes="DistilBert",
    prefix="distilbert",
    outside={
        "embeddings.word_embeddings": "token_and_position_embedding/token_embedding",
        "embeddings.position_embeddings": "token_and_position_embedding/position_embedding",
        "embeddings.LayerNorm": "embeddings_layer_norm",
    },
    blocks="transformer.layer",
    inside={
        "attention.q_lin": "self_attention_layer/query",
        "attention.k_lin": "self_attention_layer/key",
        "attention.v_lin": "self_attention_layer/value",
        "attention.out_lin": "self_attention_layer/attention_output",
        "sa_layer_norm": "self_attention_layer_norm",
        "ffn.lin1": "feedforward_intermediate_dense",
        "ffn.lin2": "feedforward_output_dense",
        "output_layer_norm": "feedforward_layer_norm",
    },
    text_head=TextHead(
        {"pre_classifier": "pooled_dense", "classifier": "logits"}, "relu", ("pre_classifier", "classifier")
    ),
    takes_prefix=False,
)


def _gelu(x: Any) -> Any:
    """Exact GELU: Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415.

    Keras computes it with erfc on TensorFlow, which takes four times as long as erf.
    """
    from keras import ops

    return 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5)))


def _gelu_tanh(x: Any) -> Any:
    from keras import ops

    return ops.gelu(x, approximate=True)


# Activations by Hugging Face's names; strings are names in Keras.
_ACTIVATIONS: dict[str, str | Callable[[Any], Any]] = {
    "gelu": _gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": "relu",
    "silu": "silu",
}
# Hugging Face's tensor names by Keras's variable names.
_ENDINGS = {"kernel": "weight", "embeddings": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}


def max_length(config: Mapping[str, Any]) -> int:
    """Returns the maximum tokens per text, as given in a checkpoint's config.json."""
    return int(config["max_position_embeddings"])


def to_distilbert(
    config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
    """Returns the checkpoint unchanged, since it is a DistilBERT one already."""
    return dict(config), tensors


def from_checkpoint(
    config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], *, epsilon: float = EPSILON
) -> keras.Model:
    """Builds KerasHub's DistilBERT backbone from a Hugging Face checkpoint.

    The backbone has no dropout, since a frozen encoder runs in inference mode.

    Args:
        config: Hugging Face's config.json.
        tensors: The checkpoint's tensors, with or without the leading `distilbert.`; those of heads are
            ignored.
        epsilon: Epsilon of the norms, for a relative of DistilBERT.

    Returns:
        The backbone, with the checkpoint's weights.

    Raises:
        BaseCorrupt: If tensors are missing or have the wrong shape; the message lists all of them.
        BaseError: If the configuration is not supported.
    """
    import keras
    import keras_hub

    from keras_peft.core.sites import find_sites, own_variables

    activation = config.get("activation", "gelu")
    if activation not in _ACTIVATIONS:
        raise BaseError(
            f"This checkpoint uses the activation {activation!r}; the supported ones are "
            f"{listed(_ACTIVATIONS)}."
        )
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
    sites = find_sites(backbone, ROLES)
    layers = {site.path: site.layer for site in sites}
    full = {CHECKPOINT.bare(name): name for name in tensors}
    problems = []
    for module, path in CHECKPOINT.modules(config["n_layers"]).items():
        for variable in own_variables(layers[path]):
            name = f"{module}.{_ENDINGS[variable.name]}"
            if name not in full:
                problems.append(f"missing {name}")
                continue
            value = tensors[full[name]]
            if value.size != math.prod(variable.shape):
                problems.append(f"{name} has shape {value.shape}")
            else:
                value = value.T if variable.name == "kernel" else value
                variable.assign(value.reshape(variable.shape))
    if problems:
        raise BaseCorrupt(
            f"The checkpoint does not fit its config.json: {listed(problems)}; download it again."
        )
    # KerasHub's backbone has no option for either.
    for site in sites:
        if isinstance(site.layer, keras.layers.LayerNormalization):
            site.layer.epsilon = epsilon
        elif site.role == "ffn.up":
            site.layer.activation = keras.activations.get(_ACTIVATIONS[activation])
    return backbone


def to_checkpoint(backbone: keras.Model) -> dict[str, np.ndarray]:
    """Converts a backbone's weights to the tensors of a Hugging Face checkpoint.

    Args:
        backbone: A backbone that `from_checkpoint` built; its weights may have changed since.

    Returns:
        Float32 arrays by Hugging Face's names.
    """
    import keras
    import numpy as np

    from keras_peft.core.projection import linear_projection
    from keras_peft.core.sites import find_sites, own_variables

    sites = {site.path: site for site in find_sites(backbone, ROLES)}
    blocks = len([site for site in sites.values() if site.role == "block"])
    tensors = {}
    for module, path in CHECKPOINT.modules(blocks).items():
        for variable in own_variables(sites[path].layer):
            value = keras.ops.convert_to_numpy(variable).astype(np.float32)
            if variable.name == "kernel":
                view = linear_projection(sites[path])
                value = value.reshape(view.inputs, view.outputs).T
            elif variable.name == "bias":  # Attention biases have one row per head.
                value = value.reshape(-1)
            tensors[f"{CHECKPOINT.prefix}.{module}.{_ENDINGS[variable.name]}"] = value
    return tensors


@contextmanager
def _without_random_values(kind: type[keras.Model]) -> Iterator[None]:
    """Initialises a KerasHub model with zeros: drawing random values takes longer than loading weights."""
    module: Any = sys.modules[kind.__module__]
    original = module.distilbert_kernel_initializer
    module.distilbert_kernel_initializer = lambda *_, **__: "zeros"
    try:
        yield
    finally:
        module.distilbert_kernel_initializer = original
