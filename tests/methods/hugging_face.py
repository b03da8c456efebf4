"""Reads the networks that generate virtual tokens, which PEFT does not save, into the methods here.

The tensors are in `encoder/` in `reference/peft`. `keras_peft.interop` reads everything that PEFT does save.
"""

from __future__ import annotations

import itertools

import keras_peft
from keras_peft.interop.hf_peft._pieces import MethodPiece, joined


def p_tuning(config, encoder, names):
    """P-tuning with its MLP or LSTM."""
    kind, layers = config["encoder_reparameterization_type"].lower(), config["encoder_num_layers"]
    weights = {"embedding": encoder["embedding.weight"]}
    for number, name in enumerate(("dense_0", "dense_1", "dense_2")[: 3 if kind == "mlp" else 2]):
        weights[name] = encoder[f"mlp_head.{2 * number}.weight"].T
        weights[f"{name}_bias"] = encoder[f"mlp_head.{2 * number}.bias"]
    options = {"tokens": config["num_virtual_tokens"], "encoder": kind}
    if kind == "mlp":
        options["hidden"] = weights["dense_1"].shape[0]
    else:
        for layer, (way, ending) in itertools.product(
            range(layers), (("forward", ""), ("backward", "_reverse"))
        ):
            parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            kernel, recurrent, bias, more = (encoder[f"lstm_head.{part}_l{layer}{ending}"] for part in parts)
            weights[f"{way}_{layer}"] = kernel.T
            weights[f"{way}_{layer}_recurrent"] = recurrent.T
            weights[f"{way}_{layer}_bias"] = bias + more
        options |= {"hidden": weights["forward_0_recurrent"].shape[0], "encoder_layers": layers}
    (site,) = [site for site in names.all_sites if site.role == "embedding.token"]
    return joined(
        [MethodPiece(keras_peft.methods.PTuning(**options), site, weights, places_itself=True)], names
    )


def prefix(config, encoder, names):
    """Prefix tuning with the MLP that generates keys and values."""
    sites = [site for site in names.all_sites if site.role == "attention"]
    inner, kernel, bias = (
        encoder["transform.0.weight"].T,
        encoder["transform.2.weight"].T,
        encoder["transform.2.bias"],
    )
    method = keras_peft.PrefixTuning(
        tokens=config["num_virtual_tokens"], projection=True, hidden=inner.shape[1], shift_positions=True
    )
    shared = {
        "embedding": encoder["embedding.weight"],
        "inner": inner,
        "inner_bias": encoder["transform.0.bias"],
    }
    pieces = [MethodPiece(method, None, shared, places_itself=True)]
    for layer, site in enumerate(sites):
        weights = {}
        for number, part in enumerate(("key", "value")):
            weights[part] = kernel.reshape(len(kernel), len(sites), 2, -1)[:, layer, number]
            weights[f"{part}_bias"] = bias.reshape(len(sites), 2, -1)[layer, number]
        pieces.append(MethodPiece(method, site, weights, places_itself=True))
    return joined(pieces, names)
