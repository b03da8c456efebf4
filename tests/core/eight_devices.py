"""Trains adapters on one device and on eight virtual ones, which share the base by model parallelism.

    python eight_devices.py CASE FOLDER

Prints what it found as JSON on the last line, and saves adapters in the folder.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

os.environ.update(
    KERAS_BACKEND="jax", JAX_PLATFORMS="cpu", XLA_FLAGS="--xla_force_host_platform_device_count=8"
)
sys.path.insert(0, str(Path(__file__).parents[1]))

import keras
import keras_hub
import numpy as np

import keras_peft
from contract.laws import head, layers_of, make, shake
from core import models
from keras_peft import methods
from keras_peft.errors import AdapterError, OptionError

MESH = keras.distribution.DeviceMesh((2, 4), ("batch", "model"))
BACKBONES = {"llama": keras_hub.models.LlamaBackbone, "gemma": keras_hub.models.GemmaBackbone}
SMALL = {"vocabulary_size": 48, "num_layers": 1, "hidden_dim": 16, "intermediate_dim": 32}
HEADS = {
    "llama": {"num_query_heads": 4, "num_key_value_heads": 2},
    "gemma": {"num_query_heads": 4, "num_key_value_heads": 4, "head_dim": 4},
}
IDS = np.random.default_rng(0).integers(1, 48, (8, 6)).astype("int32")
ROWS = {"token_ids": IDS, "padding_mask": np.ones_like(IDS)}
TARGETS = np.random.default_rng(1).normal(size=(8, 6, 16)).astype("float32")
# A layout map by hand, for a base that has none.
DISTILBERT = {
    ".*embedding/embeddings": (None, "model"),
    ".*self_attention_layer/(query|key|value)/kernel": ("model", "batch", None),
    ".*self_attention_layer/(query|key|value)/bias": ("batch", None),
    ".*attention_output/kernel": ("batch", None, "model"),
    ".*intermediate_dense/kernel": ("batch", "model"),
    ".*intermediate_dense/bias": ("model",),
    ".*output_dense/kernel": ("model", "batch"),
    ".*(attention_output|output_dense)/bias": ("batch",),
    ".*layer_norm/(gamma|beta)": ("model",),
}


# Methods whose weights start as functions that read the base, draw numbers, or both.
STARTS = {
    "pissa": keras_peft.LoRA(rank=4, initialization="pissa"),
    "dora": keras_peft.DoRA(rank=4),
    "prompt": keras_peft.PromptTuning(tokens=4),
    "vera": keras_peft.methods.VeRA(rank=4),
}


def parallel(entries):
    """Returns a context in which the devices share a base; the layout map is given, or its entries."""
    layout_map = entries
    if isinstance(entries, dict):
        layout_map = keras.distribution.LayoutMap(MESH)
        for path, axes in entries.items():
            layout_map[path] = axes
    return keras.distribution.ModelParallel(layout_map=layout_map, batch_dim_name="batch").scope()


def backbone(name):
    keras.utils.set_random_seed(0)
    return BACKBONES[name](**SMALL, **HEADS[name])


def shared_backbone(name):
    """Returns a context in which the devices share a base as KerasHub says."""
    return parallel(BACKBONES[name].get_layout_map(MESH))


def layouts(variables):
    """Returns the mesh axes that divide the values of variables, by key."""
    return {key: list(variable.value.sharding.spec) for key, variable in variables.items()}


def apart(one, other):
    """Returns the largest difference between two arrays, or two lists of arrays."""
    pairs = zip(one, other, strict=True)
    return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)


def predicted(model, count=8):
    return model.predict({key: value[:count] for key, value in ROWS.items()}, batch_size=4, verbose=0)


def train(model):
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model.fit(ROWS, TARGETS, batch_size=4, epochs=2, shuffle=False, verbose=0).history["loss"]


def backbones(name, folder):
    """Trains on one device and on eight, and loads each saved adapter where the other one was trained."""
    kinds = {"lora": keras_peft.LoRA(rank=2), "pfeiffer": keras_peft.methods.PfeifferAdapter(size=4)}
    return {kind: trained_twice(name, method, folder / kind) for kind, method in kinds.items()}


def trained_twice(name, method, folder):
    alone = keras_peft.adapt(backbone(name), method)
    found = {"losses alone": train(alone)}
    outputs_alone = predicted(alone)
    keras_peft.save_adapter(alone, folder / "alone")
    with shared_backbone(name):
        together = keras_peft.adapt(backbone(name), method)
        variables = together.adapter_variables()
        found |= {"layouts": layouts(variables), "losses": train(together), "trained": layouts(variables)}
        found["slots"] = slots_of(together)
        outputs = predicted(together)
        found["seven rows"] = apart(predicted(together, 7), outputs[:7])
        keras_peft.save_adapter(together, folder / "together")
        keras_peft.load_adapter(together, folder / "alone")
        together.activate("alone")
        found["loaded together"] = apart(predicted(together), outputs_alone)
        found["layouts of the loaded"] = layouts(together.adapter_variables())
        together.activate("default")
        found |= left(together, name, outputs)
    keras_peft.load_adapter(alone, folder / "together")
    alone.activate("together")
    found["loaded alone"] = apart(predicted(alone), outputs)
    return found


def slots_of(model):
    """Returns the mesh axes that divide the optimizer's two values for each weight, by key."""
    slots = layouts({slot.path: slot for slot in model.optimizer.variables})
    return {
        key: [
            slots[f"{model.optimizer.name}/{variable.path.replace('/', '_')}_{slot}"]
            for slot in ("momentum", "velocity")
        ]
        for key, variable in model.adapter_variables().items()
    }


def left(model, name, outputs):
    """Merges where the method can, and detaches."""
    variables = {variable.path: variable for variable in model.base.variables}
    before = layouts(variables)
    found = {}
    if model.adapters["default"].placements[0].method.merges:
        model.merge()
        found["merged"] = apart(predicted(model), outputs)
        model.unmerge()
        found["unmerged"] = apart(predicted(model), outputs)
    found["base"] = apart(model.base.get_weights(), backbone(name).get_weights())
    if found.keys() >= {"merged"}:
        found["merged for good"] = apart(predicted(model.merge_and_detach()), outputs)
    else:
        found["detached"] = apart(predicted(model.detach()), predicted(backbone(name)))
    found["layouts of the base"] = [before, layouts(variables)]
    return found


def every_method(folder):
    """Trains each method for a step on one device and on eight, and loads it on one."""
    found = {}
    for name in methods.names():
        alone, rows, loss_alone = one_step(name)
        tensors = alone.adapter_tensors()
        with parallel(DISTILBERT):
            together, _, loss = one_step(name)
            outputs = together.predict(rows, verbose=0)
            keras_peft.save_adapter(together, folder / name)
        keras_peft.load_adapter(alone, folder / name, "again", head=head())
        alone.activate("again")
        found[name] = {
            "layouts": layouts(weights_of(together)),
            "losses": [loss_alone, loss],
            "tensors": apart(tensors.values(), together.adapter_tensors().values()),
            "outputs": apart(alone.predict(rows, verbose=0), outputs),
        }
    return found


def new_distilbert():
    keras.utils.set_random_seed(0)
    return models.distilbert(layers=1)


def weights_of(model):
    """Returns the weights of the adapter's methods by key, also those that are not trained."""
    (adapter,) = model.adapters.values()
    return {key: one for key, one in adapter.weights_by_key().items() if not key.startswith("head/")}


def one_step(name):
    base, method = new_distilbert(), methods.find(name)
    model = keras_peft.adapt(base, make(method), head=head(), layers=layers_of(method))
    shake(model)
    rows = models.inputs_of(base, rows=6)
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(rows, np.arange(6) % 3, batch_size=6, verbose=0)
    return model, rows, history.history["loss"][0]


def data_parallel(folder):
    """Trains a base that each device has in full."""
    found = {}
    for name, where in {
        "alone": contextlib.nullcontext(),
        "together": keras.distribution.DataParallel().scope(),
    }.items():
        with where:
            model = keras_peft.adapt(new_distilbert(), keras_peft.LoRA(rank=2), head=head())
            rows = models.inputs_of(model.base, rows=16)
            model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
            history = model.fit(rows, np.arange(16) % 3, batch_size=8, epochs=2, shuffle=False, verbose=0)
            some = {key: value[:11] for key, value in rows.items()}
            found[name] = {
                "losses": history.history["loss"],
                "outputs": model.predict(some, verbose=0).tolist(),
            }
            if name == "together":
                found["refused"] = error_of(model.evaluate, some, np.arange(11) % 3, batch_size=8)
                # The number of rows in the batches of a generator is not known.
                found["failed"] = error_of(model.predict, (one for one in [(some,)]))
                found["evaluated"] = model.evaluate(rows, np.arange(16) % 3, batch_size=8, verbose=0)
    return found


def error_of(method, *args, **kwargs):
    try:
        method(*args, verbose=0, **kwargs)
    except (AdapterError, ValueError) as error:
        return str(error)
    return None


def entries(folder):
    """Adapts a base with layout maps that have entries for its adapter, on purpose or by accident."""
    query, weight = (
        ".*self_attention_layer/query/kernel",
        "transformer_layer_0_self_attention_layer_query_lora",
    )
    usual = {query: ("model", "batch", None)}
    return {
        "usual": layouts_or_error(usual),
        "own": layouts_or_error({**usual, f"{weight}/a": (None, "model")}),
        "own, on every device": layouts_or_error({**usual, ".*_lora/a": (None, None)}),
        "own, uneven": layouts_or_error({**usual, ".*_lora/a": (None, "model")}, rank=3),
        "too wide": layouts_or_error({".*query(/kernel|_lora/.)": ("model", "batch", None)}),
        "inner axis": layouts_or_error({query: ("model", None, "batch")}),
        "large": {name: large_and_small(method) for name, method in STARTS.items()},
    }


def large_and_small(method):
    """Returns how much weights that Keras takes for large differ from others at the start."""
    from keras.src.backend.jax import core

    own, tensors = core.should_shard_at_init, []
    for is_large in (own, lambda layout, shape: np.prod(shape) > 4):
        core.should_shard_at_init = is_large
        with parallel(DISTILBERT):
            tensors.append(keras_peft.adapt(new_distilbert(), method).adapter_tensors())
    core.should_shard_at_init = own
    return apart(*(one.values() for one in tensors))


def layouts_or_error(map_entries, rank=4):
    """Returns the layouts of the A and B of a LoRA, or the error."""
    with parallel(map_entries):
        try:
            model = keras_peft.adapt(new_distilbert(), keras_peft.LoRA(rank=rank), targets="attention.query")
        except OptionError as error:
            return str(error)
        return list(layouts(weights_of(model)).values())


def main(case, folder):
    """Runs a case."""
    cases = {
        **{name: lambda folder, name=name: backbones(name, folder) for name in BACKBONES},
        "methods": every_method,
        "entries": entries,
        "data": data_parallel,
    }
    sys.stdout.write(f"{json.dumps(cases[case](folder))}\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
