"""BERT: Devlin et al. 2018, https://arxiv.org/abs/1810.04805.

For single texts, a BERT checkpoint is equivalent to a DistilBERT one: the blocks are the same, and
DistilBERT only lacks the pooler and the token types. The conversion adds row 0 of the token-type table
to every position and renames the tensors. It keeps BERT's exact GELU, which KerasHub's BERT approximates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from keras_peft.bases import distilbert
from keras_peft.bases._checkpoint import CheckpointNames, TextHead
from keras_peft.bases._shared import TRANSFORMER, single_text_encoder
from keras_peft.errors import BaseCorrupt, BaseError, listed

if TYPE_CHECKING:
    import keras
    import numpy as np

MODEL_TYPE = "bert"
BACKBONE = "BertBackbone"
NORMS_AFTER = True
ROLES = {**TRANSFORMER, r"logits": "head"}
CHECKPOINT = CheckpointNames(
    classes="Bert",
    prefix="bert",
    outside=distilbert.CHECKPOINT.outside,
    blocks="encoder.layer",
    inside={
        "attention.self.query": "self_attention_layer/query",
        "attention.self.key": "self_attention_layer/key",
        "attention.self.value": "self_attention_layer/value",
        "attention.output.dense": "self_attention_layer/attention_output",
        "attention.output.LayerNorm": "self_attention_layer_norm",
        "intermediate.dense": "feedforward_intermediate_dense",
        "output.dense": "feedforward_output_dense",
        "output.LayerNorm": "feedforward_layer_norm",
    },
    text_head=TextHead(
        {"bert.pooler.dense": "pooled_dense", "classifier": "logits"}, "tanh", ("classifier", "pooler")
    ),
)
encoder = single_text_encoder
max_length = distilbert.max_length

# Checkpoints from before 2019 call the scale and shift of a norm gamma and beta.
_ENDINGS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
POSITIONS = "embeddings.position_embeddings.weight"
TYPES = "embeddings.token_type_embeddings.weight"


class _Renamed(Mapping[str, "np.ndarray"]):
    """Tensors under new names, read on access."""

    def __init__(
        self, tensors: Mapping[str, np.ndarray], names: Mapping[str, str], made: Mapping[str, np.ndarray]
    ) -> None:
        self._tensors, self._names, self._made = tensors, names, made

    def __getitem__(self, name: str) -> np.ndarray:
        return self._made[name] if name in self._made else self._tensors[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def to_distilbert(
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    *,
    checkpoint: CheckpointNames = CHECKPOINT,
    first_position: int = 0,
) -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
    """Converts a BERT checkpoint to an equivalent DistilBERT one.

    Args:
        config: Hugging Face's config.json of a BERT model.
        tensors: The checkpoint's tensors, with or without the leading `bert.`.
        checkpoint: Names in the checkpoint, for a relative of BERT.
        first_position: Row of the position table for a text's first token.

    Returns:
        The DistilBERT configuration and the tensors by DistilBERT's names, read on access.

    Raises:
        BaseCorrupt: If tensors are missing.
        BaseError: If the model does not use absolute position embeddings.
    """
    if (kind := config.get("position_embedding_type", "absolute")) != "absolute":
        raise BaseError(
            f"This checkpoint has position_embedding_type {kind!r}; only 'absolute' is supported."
        )
    layers = int(config["num_hidden_layers"])
    source = {checkpoint.bare(name): name for name in tensors}
    there = {path: module for module, path in distilbert.CHECKPOINT.modules(layers).items()}
    names = {
        f"distilbert.{there[path]}.{here}": source[f"{module}.{ending}"]
        for module, path in checkpoint.modules(layers).items()
        for ending, here in _ENDINGS.items()
        if f"{module}.{ending}" in source
    }
    missing = [TYPES] if TYPES not in source else []
    for module in checkpoint.modules(layers):
        for name, old_name in (("weight", "gamma"), ("bias", "beta")):
            if name == "bias" and module.endswith("_embeddings"):
                continue
            if not {f"{module}.{name}", f"{module}.{old_name}"} & source.keys():
                missing.append(f"{module}.{name}")
    if missing:
        raise BaseCorrupt(
            f"The {checkpoint.classes} checkpoint lacks {listed(missing, most=4)}; download it again."
        )
    positions, types = tensors[source[POSITIONS]], tensors[source[TYPES]]
    made = {f"distilbert.{POSITIONS}": positions[first_position:] + types[0]}
    return {
        "model_type": "distilbert",
        "architectures": ["DistilBertModel"],
        "activation": config.get("hidden_act", "gelu"),
        "attention_dropout": config.get("attention_probs_dropout_prob", 0.1),
        "dim": config["hidden_size"],
        "dropout": config.get("hidden_dropout_prob", 0.1),
        "hidden_dim": config["intermediate_size"],
        "initializer_range": config.get("initializer_range", 0.02),
        "max_position_embeddings": config["max_position_embeddings"] - first_position,
        "n_heads": config["num_attention_heads"],
        "n_layers": layers,
        "pad_token_id": config.get("pad_token_id", 0),
        "sinusoidal_pos_embds": False,
        "tie_weights_": True,
        "vocab_size": config["vocab_size"],
    }, _Renamed(tensors, names, made)


def from_checkpoint(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> keras.Model:
    """Builds KerasHub's DistilBERT backbone from a Hugging Face BERT checkpoint.

    Args:
        config: Hugging Face's config.json.
        tensors: The checkpoint's tensors, with or without the leading `bert.`.

    Returns:
        The backbone, with the checkpoint's weights.

    Raises:
        BaseCorrupt: If tensors are missing or have the wrong shape.
        BaseError: If the configuration is not supported.
    """
    epsilon = float(config.get("layer_norm_eps", distilbert.EPSILON))
    return distilbert.from_checkpoint(*to_distilbert(config, tensors), epsilon=epsilon)
