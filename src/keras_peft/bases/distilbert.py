"""DistilBERT: Sanh et al. 2019, https://arxiv.org/abs/1910.01108."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from keras_peft.bases._checkpoint import CheckpointNames, TextHead
from keras_peft.bases._shared import TRANSFORMER, itself
from keras_peft.errors import BaseCorrupt, BaseError, listed

if TYPE_CHECKING:
    import keras
    import numpy as np

    from keras_peft.core.places import Place

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
# The layers of an attention and their roles, in KerasHub's order.
_ATTENTION = {
    "query": "attention.query",
    "key": "attention.key",
    "value": "attention.value",
    "attention_output": "attention.output",
}
_MODULES = {path: module for module, path in CHECKPOINT.inside.items()}
_OUTSIDE = {path: module for module, path in CHECKPOINT.outside.items()}
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


def places(config: Mapping[str, Any]) -> list[Place]:
    """Returns the layers of the encoder, as `find_sites` returns those of the KerasHub backbone.

    Args:
        config: Hugging Face's config.json.

    Returns:
        The layers that have variables, the attentions and the blocks, in model order.
    """
    from keras_peft.core.places import Place

    dim, wide, blocks = config["dim"], config["hidden_dim"], config["n_layers"]
    norm = {"gamma": (dim,), "beta": (dim,)}
    square, up, down = (
        {"kernel": (inputs, outputs), "bias": (outputs,)}
        for inputs, outputs in ((dim, dim), (dim, wide), (wide, dim))
    )
    tables = "token_and_position_embedding"
    found = [
        Place(
            f"{tables}/token_embedding", "embedding.token", None, {"embeddings": (config["vocab_size"], dim)}
        ),
        Place(
            f"{tables}/position_embedding",
            "embedding.position",
            None,
            {"embeddings": (config["max_position_embeddings"], dim)},
        ),
        Place("embeddings_layer_norm", "norm", None, norm),
    ]
    for block in range(blocks):
        path, is_last = f"transformer_layer_{block}", block == blocks - 1
        attention = f"{path}/self_attention_layer"
        parts = [
            Place(f"{attention}/{name}", role, block, square, is_last=is_last)
            for name, role in _ATTENTION.items()
        ]
        inside = [
            Place(attention, "attention", block, {}, {part.role: part for part in parts}, is_last),
            *parts,
            Place(f"{path}/self_attention_layer_norm", "norm", block, norm, is_last=is_last),
            Place(f"{path}/feedforward_layer_norm", "norm", block, norm, is_last=is_last),
            Place(f"{path}/feedforward_intermediate_dense", "ffn.up", block, up, is_last=is_last),
            Place(f"{path}/feedforward_output_dense", "ffn.down", block, down, is_last=is_last),
        ]
        inner = {place.role: place for place in reversed(inside)}  # the first one of each role
        found += [Place(path, "block", block, {}, inner, is_last), *inside]
    return found


def values_at(place: Place, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the variables of a layer.

    Args:
        place: A layer from `places`.
        tensors: The tensors of the checkpoint, with or without the leading `distilbert.`.

    Returns:
        Float32 arrays by variable name; matrices are (in, out).

    Raises:
        BaseCorrupt: If a tensor is missing or has the wrong shape.
    """
    import numpy as np

    module = _MODULES.get(place.path.partition("/")[2]) if place.block is not None else None
    name = f"{CHECKPOINT.blocks}.{place.block}.{module}" if module else _OUTSIDE.get(place.path, "")
    found = {}
    for variable, shape in place.shapes.items():
        key = f"{name}.{_ENDINGS[variable]}"
        full = next((one for one in (f"{CHECKPOINT.prefix}.{key}", key) if one in tensors), None)
        if full is None:
            raise BaseCorrupt(f"The checkpoint lacks {key}; download it again.")
        value = np.asarray(tensors[full], np.float32)
        value = value.T if variable == "kernel" else value
        if value.shape != shape:
            raise BaseCorrupt(
                f"The checkpoint does not fit its config.json: {key} has shape {value.shape}; download it again."
            )
        found[variable] = value
    return found


def refuse_unsupported(config: Mapping[str, Any]) -> None:
    """Checks what the fields of a configuration have to be together.

    Args:
        config: Hugging Face's config.json of the DistilBERT.

    Raises:
        BaseError: If the activation is not supported, or the heads do not divide the vectors.
    """
    activation = config.get("activation", "gelu")
    if activation not in _ACTIVATIONS:
        raise BaseError(
            f"This checkpoint uses the activation {activation!r}; the supported ones are "
            f"{listed(_ACTIVATIONS)}."
        )
    if config["dim"] % config["n_heads"]:
        raise BaseError(
            f"This checkpoint has vectors of size {config['dim']:,}, which {config['n_heads']:,} heads cannot share."
        )


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

    refuse_unsupported(config)
    activation = config.get("activation", "gelu")
    with _without_values(keras_hub.models.DistilBertBackbone):
        backbone = keras_hub.models.DistilBertBackbone(
            vocabulary_size=config["vocab_size"],
            num_layers=config["n_layers"],
            num_heads=config["n_heads"],
            hidden_dim=config["dim"],
            intermediate_dim=config["hidden_dim"],
            max_sequence_length=config["max_position_embeddings"],
            dropout=0.0,
        )
    _with_zeros(backbone)
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
        elif site.role == "block":
            # The block has built its layers. Keras reads these when it saves the block.
            site.layer.activation = _saved_activation(activation)
            site.layer.layer_norm_epsilon = epsilon
    return backbone


def _saved_activation(name: str) -> Callable[[Any], Any]:
    """Returns a function that Keras or KerasHub can load again, and that is the same up to rounding."""
    import keras

    saved: Callable[[Any], Any]
    if _ACTIVATIONS[name] is _gelu_tanh:
        saved = keras.saving.get_registered_object("keras_hub>gelu_approximate")
    else:
        saved = keras.activations.get("gelu" if _ACTIVATIONS[name] is _gelu else name)
    return saved


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
def _without_values(kind: type[keras.Model]) -> Iterator[None]:
    """Leaves the matrices of a KerasHub model without values: drawing random ones takes longer than loading weights.

    Zeros would be written to memory, next to the weights that replace them.
    """
    module: Any = sys.modules[kind.__module__]
    original = module.distilbert_kernel_initializer
    module.distilbert_kernel_initializer = lambda *_, **__: _initializer()
    try:
        yield
    finally:
        module.distilbert_kernel_initializer = original


@cache
def _initializer() -> Any:
    import keras

    class Unset(keras.initializers.Zeros):
        """Whatever the memory contains, on backends that can leave it as it is."""

        def __call__(self, shape: Any, dtype: Any = None) -> Any:
            if keras.config.backend() != "tensorflow":
                return super().__call__(shape, dtype)
            import tensorflow as tf

            kind = keras.backend.standardize_dtype(dtype)
            return tf.raw_ops.Empty(shape=list(shape), dtype=tf.as_dtype(kind), init=False)

    return Unset()


def _with_zeros(backbone: keras.Model) -> None:
    """Replaces the initializers of the layers, which Keras writes when it saves them."""
    import keras

    for layer in backbone._flatten_layers():
        for name in ("kernel_initializer", "_kernel_initializer", "embeddings_initializer", "initializer"):
            if isinstance(getattr(layer, name, None), type(_initializer())):
                setattr(layer, name, keras.initializers.Zeros())
