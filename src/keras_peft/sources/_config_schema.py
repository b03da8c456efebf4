"""The types of the fields of a checkpoint's config.json that are read here."""

from __future__ import annotations

from typing import Annotated

import msgspec

Size = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Layers = Annotated[int, msgspec.Meta(ge=1, le=1_000)]
Rows = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Small = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Name = Annotated[str, msgspec.Meta(max_length=100)]
Token = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
Classes = Annotated[list[Name], msgspec.Meta(max_length=100)]


class Encoder(msgspec.Struct, kw_only=True):
    """The fields that all configurations have."""

    vocab_size: Rows
    max_position_embeddings: Size
    layer_norm_eps: Small = 1e-12
    initializer_range: Share = 0.02
    pad_token_id: Token | None = 0
    architectures: Classes | None = None
    problem_type: Name | None = None


class DistilBert(Encoder, kw_only=True):
    """The configuration of a DistilBERT."""

    dim: Size
    hidden_dim: Size
    n_layers: Layers
    n_heads: Layers
    activation: Name = "gelu"
    dropout: Share = 0.1
    attention_dropout: Share = 0.1


class Bert(Encoder, kw_only=True):
    """The configuration of a BERT, RoBERTa or XLM-RoBERTa."""

    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Layers
    num_attention_heads: Layers
    hidden_act: Name = "gelu"
    hidden_dropout_prob: Share = 0.1
    attention_probs_dropout_prob: Share = 0.1


SCHEMAS: dict[str, type[msgspec.Struct]] = {
    "distilbert": DistilBert,
    "bert": Bert,
    "roberta": Bert,
    "xlm-roberta": Bert,
}
"""The fields by `model_type`."""
