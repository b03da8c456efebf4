"""LoRA, rsLoRA, DoRA, PiSSA and OLoRA, which are one method in PEFT.

`lora_A.weight` (r, in) is Aᵀ, `lora_B.weight` (out, r) is Bᵀ and `lora_magnitude_vector` (out,) is DoRA's
magnitude. At embeddings, `lora_embedding_A` and `lora_embedding_B` take their place, and the file may repeat the
base's table. `rank_pattern` and `alpha_pattern` hold the rank and alpha of individual modules. With PiSSA and
OLoRA, PEFT removes the initial product of A and B from the base weights, and repeats this when it loads the
file; this package subtracts the product instead. Trained biases become BitFit: either the adapter's own
(`lora_bias`) or the layer's (`bias="lora_only"`). Export writes the latter. `_fused.py` splits and joins
modules that correspond to several layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_peft.core.sites import Site
from keras_peft.errors import listed
from keras_peft.interop.hf_peft import _fused
from keras_peft.interop.hf_peft._folder import CONFIG
from keras_peft.interop.hf_peft._pieces import IncomingAdapter, MethodPiece, Module, OutgoingAdapter, Tensors
from keras_peft.interop.hf_peft._settings import Settings, in_pattern
from keras_peft.methods.bitfit import BitFit
from keras_peft.methods.dora import DoRA
from keras_peft.methods.lora import LoRA

TYPE = "LORA"
# LoRA may train biases too.
BESIDE = frozenset({"BEFT"})
TAKES_FUSED = True
SETTINGS = Settings(
    used={
        "r": 8,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "use_rslora": False,
        "use_dora": False,
        "bias": "none",
        "lora_bias": False,
        "init_lora_weights": True,
        "rank_pattern": {},
        "alpha_pattern": {},
    },
    training=frozenset({"corda_config", "eva_config", "loftq_config", "lora_ga_config"}),
    fixed={
        "alora_invocation_tokens": None,
        "arrow_config": None,
        "ensure_weight_tying": None,
        "kasa_config": None,
        "layer_replication": None,
        "megatron_config": None,
        "monteclora_config": None,
        "target_parameters": None,
        "trainable_token_indices": None,
        "use_bdlora": None,
        "use_qalora": None,
        "velora_config": None,
    },
)

_ENCODERS = ("distilbert", "bert", "roberta", "xlm-roberta")
_SHARED_TABLE = (
    "LoRA on the embeddings of a language model is not exchanged, because PEFT changes only the input side of a table "
    "that the output may share"
)


def read(file: IncomingAdapter) -> Iterator[MethodPiece]:
    """Reads the factors of each module, with one method for each rank and alpha."""
    from keras import ops

    from keras_peft.core.projection import projection

    config = file.config
    if config["bias"] not in ("none", "lora_only"):
        file.problems.append(
            f"bias={config['bias']!r} trains biases of layers that are not adapted, which is not supported"
        )
    start = _start(file)
    file.modules = _fused.apart(file)
    for module in file.modules:
        is_table = _is_table(module.site)
        kind = "lora_embedding_{}" if is_table else "lora_{}.weight"
        if kind.format("A") not in module.tensors:
            file.refuse(module, "it has no weights of LoRA, or those of another kind of layer")
            continue
        a, b = module.take(kind.format("A")).T, module.take(kind.format("B")).T
        if is_table and file.names.kind not in _ENCODERS:
            file.refuse(module, _SHARED_TABLE)
            continue
        if is_table and not _repeats_table(module):
            file.refuse(
                module, "its own table differs from the base model's; use the base that it was trained on"
            )
            continue
        rank = a.shape[1]
        said = in_pattern(config["rank_pattern"], module.name, config["r"])
        if said != (module.whole_rank or rank):
            file.refuse(
                module, f"its matrices have rank {module.whole_rank or rank}, but {CONFIG} says r={said}"
            )
            continue
        alpha = float(in_pattern(config["alpha_pattern"], module.name, config["lora_alpha"]))
        if module.whole_rank is not None:
            share = rank / module.whole_rank
            # Removes the rounding error of square roots and thirds.
            alpha = round(alpha * (math.sqrt(share) if config["use_rslora"] else share), 12)
            if start != "default":
                file.refuse(
                    module, f"{start} was initialised from a matrix that is split into several layers here"
                )
                continue
        scaling = alpha / (math.sqrt(rank) if config["use_rslora"] else rank)
        dropout = float(config["lora_dropout"])
        weights: Tensors = {"a": a, "b": b}
        method: LoRA | DoRA
        if config["use_dora"]:
            method = DoRA(rank=rank, alpha=scaling * rank, dropout=dropout)
            weights["magnitude"] = module.take("lora_magnitude_vector")
        else:
            method = LoRA(
                rank=rank,
                alpha=alpha,
                dropout=dropout,
                rank_stabilized=config["use_rslora"],
                # PEFT initialises embeddings in the same way, whatever is chosen.
                initialization="default" if is_table else start,
            )
            if method.initialization != "default":
                weights |= _taken_out(module, method)
        yield MethodPiece(method, module.site, weights)
        if "base_layer.bias" in module.tensors:
            before = ops.convert_to_numpy(projection(module.site).bias())
            yield MethodPiece(BitFit(), module.site, {"bias": module.take("base_layer.bias") - before})
        if "lora_B.bias" in module.tensors:
            yield MethodPiece(BitFit(), module.site, {"bias": scaling * module.take("lora_B.bias")})


def write(adapter: OutgoingAdapter) -> dict[str, Any]:
    """Writes the factors; ranks and alphas other than the most frequent ones go into patterns."""
    from keras import ops

    from keras_peft.core.projection import projection

    if unnamed := [place.site.path for place in adapter.places if not place.module]:
        adapter.problems.append(f"PEFT's base has no module for {listed(unnamed, most=4)}")
        return {}
    biases = [place for place in adapter.places if isinstance(place.method, BitFit)]
    places = [place for place in adapter.places if not isinstance(place.method, BitFit)]
    adapted = {place.site.key for place in places}
    if biases and adapted != {place.site.key for place in biases}:
        adapter.problems.append(
            "it trains biases, but not those of exactly the layers with LoRA, which PEFT requires"
        )
        return {}
    if len({type(place.method) for place in places}) > 1:
        adapter.problems.append("it has LoRA at some layers and DoRA at others, but PEFT uses one for all")
        return {}
    is_dora = isinstance(places[0].method, DoRA)
    start = "default" if is_dora else adapter.common("initialization", places)
    dropout = adapter.common("dropout", places)
    is_stabilized = False if is_dora else adapter.common("rank_stabilized", places)
    if start != "default" and any(len(adapter.names.sites(place.module)) > 1 for place in places):
        adapter.problems.append(
            f"{start} on part of a PEFT module is initialised from a different matrix than in PEFT"
        )
        return {}
    if adapter.names.kind not in _ENCODERS and any(_is_table(place.site) for place in places):
        adapter.problems.append(_SHARED_TABLE)
        return {}
    places = _fused.together(places, adapter.names)
    for place in places:
        kind = "lora_embedding_{}" if _is_table(place.site) else "lora_{}.weight"
        adapter.put(place, kind.format("A"), place.weights["a"].T)
        adapter.put(place, kind.format("B"), place.weights["b"].T)
        if "magnitude" in place.weights:
            adapter.put(place, "lora_magnitude_vector", place.weights["magnitude"])
    for module, own in _fused.by_module(biases).items():
        moved = {place.site.key: place.weights["bias"] for place in own}
        values = [
            ops.convert_to_numpy(projection(site).bias()) + moved.get(site.key, np.float32(0))
            for site in adapter.names.sites(module)
        ]
        adapter.put(own[0], "base_layer.bias", np.concatenate(values))
    rank, ranks = adapter.with_pattern("rank", places)
    alpha, alphas = adapter.with_pattern("alpha", places)
    return {
        "target_modules": adapter.names.targets(place.module for place in places),
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "lora_dropout": dropout,
        "use_rslora": is_stabilized,
        "use_dora": is_dora,
        "init_lora_weights": True if start == "default" else start,
        "bias": "lora_only" if biases else "none",
    }


def _is_table(site: Site) -> bool:
    import keras

    return isinstance(site.layer, keras.layers.Embedding)


def _repeats_table(module: Module) -> bool:
    """Returns whether a copy of the base's table in the file, if there is one, equals it."""
    from keras import ops

    if "base_layer.weight" not in module.tensors:
        return True
    own = ops.convert_to_numpy(ops.cast(module.site.layer.embeddings, "float32"))
    table = module.take("base_layer.weight")
    return table.shape == own.shape and bool(np.allclose(table, own, rtol=0, atol=1e-6))


def _start(file: IncomingAdapter) -> str:
    """Returns "pissa" or "olora", which subtract a part of the base weights, else "default"."""
    word = str(file.config["init_lora_weights"]).lower()
    if word in ("true", "false", "gaussian", "orthogonal", "eva"):
        return "default"
    if word in ("pissa", "olora"):
        return word
    if word.startswith("pissa_niter_"):
        reason = "subtracts the result of a randomised SVD from the base, which cannot be reproduced"
    else:
        reason = "is not supported"
    file.problems.append(
        f"init_lora_weights={file.config['init_lora_weights']!r} {reason}; save it with PEFT's "
        "path_initial_model_for_weight_conversion, which converts it to a plain LoRA"
    )
    return "default"


def _taken_out(module: Module, method: LoRA) -> Tensors:
    """Returns the initial A and B, whose product is subtracted from the base weights."""
    from keras import ops

    weights = method.weights(module.site)
    start: Any = {name: weights[name].initializer for name in ("a0", "b0")}
    return {name: ops.convert_to_numpy(make(weights[name].shape)) for name, make in start.items()}
