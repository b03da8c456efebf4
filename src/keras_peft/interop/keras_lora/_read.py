"""Import of a KerasHub LoRA file into an adapted model."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_peft import attach, bases
from keras_peft.core.adapted import DEFAULT_NAME, AdaptedModel
from keras_peft.core.linear_layers import is_linear
from keras_peft.core.method import Method
from keras_peft.core.placement import Placement
from keras_peft.core.projection import linear_projection
from keras_peft.core.select_sites import selection_of
from keras_peft.core.sites import Site, find_sites, own_variables
from keras_peft.errors import AdapterError, OptionError, listed
from keras_peft.extras import need
from keras_peft.interop.keras_lora import _file
from keras_peft.interop.keras_lora._factors import flat_factors
from keras_peft.interop.keras_lora._trained_backbone import TrainedBackbone
from keras_peft.methods.bitfit import BitFit
from keras_peft.methods.lora import LoRA


def import_keras_lora(
    path: str | Path,
    model: keras.Model,
    *,
    trained_model: keras.Model | None = None,
    alpha: float | None = None,
    head: keras.Layer | None = None,
    adapter: str = DEFAULT_NAME,
) -> AdaptedModel:
    """Adapts a KerasHub model with LoRA weights that `backbone.save_lora_weights` saved.

    The file does not record its model, its alpha, or the biases of its layers, which `enable_lora` leaves
    trainable. This function checks them if it can and warns otherwise.

    Args:
        path: The LoRA file, `*.lora.h5`.
        model: A KerasHub backbone or a task on one, in its state before `enable_lora`.
        trained_model: The trained model, or another model with its weights. The trained biases and the head of a
            task are copied from it. It must equal `model` with this LoRA.
        alpha: Alpha of the LoRA; defaults to that of `trained_model`, else the rank, as in `backbone.enable_lora`.
        head: A layer to put on top of the model's output, as accepted by `adapt`.
        adapter: Name of the adapter.

    Returns:
        The model with LoRA at the file's layers. It computes the same outputs as the trained model, and can
        be trained, saved and merged like any adapted model.

    Raises:
        AdapterError: If the file is damaged, contains only zeros, or is not for this model, or if `trained_model` is
            a different model; the message lists all problems.
        OptionError: If `model` contains no KerasHub backbone, or is already adapted.

    Warns:
        UserWarning: If the file's layers have biases and `trained_model` is not given, or if the LoRA has no effect
            at some or all layers.

    Example:
        >>> backbone = keras_hub.models.Backbone.from_preset("gemma_2b_en")
        >>> adapted = keras_peft.interop.import_keras_lora("haiku.lora.h5", backbone)
        >>> keras_peft.save_adapter(adapted, "haiku-adapter")
    """
    if isinstance(model, AdaptedModel):
        raise OptionError(
            f"`model`: {model.name!r} is already an adapted model; import into a model without adapters."
        )
    path = Path(path)
    read = translate(path, model, trained_model=trained_model, alpha=alpha)
    adapted = attach.adapt(model, read.methods, head=head, adapter=adapter)
    tensors = read.tensors | _heads(adapted, trained_model)
    try:
        adapted.assign_adapter_tensors(adapted.adapter_tensors() | tensors)
    except AdapterError as error:
        adapted.detach()
        raise AdapterError(
            f"{path} and the model given with trained_model= do not fit {model.name}: {error}"
        ) from None
    for warning in read.warnings:
        warnings.warn(f"{path} {warning}", stacklevel=2)
    return adapted


@dataclass(frozen=True)
class ReadAdapter:
    """The arguments of `keras_peft.adapt` and `assign_adapter_tensors`.

    Attributes:
        methods: LoRA, once for each rank and alpha, and BitFit for biases that are known to have trained.
        tensors: Their tensors by key.
        warnings: Warnings about the file, phrased to follow its name.
    """

    methods: list[Method | Placement]
    tensors: dict[str, np.ndarray]
    warnings: list[str]


def translate(
    path: Path, model: keras.Model, *, trained_model: keras.Model | None = None, alpha: float | None = None
) -> ReadAdapter:
    """Converts a LoRA file to methods and their tensors.

    Args:
        path: The LoRA file.
        model: A model that is or contains a KerasHub backbone.
        trained_model: The trained model.
        alpha: Alpha of the LoRA.

    Raises:
        AdapterError: As raised by `import_keras_lora`.
        OptionError: If the model contains no KerasHub backbone.
    """
    file = _file.read(path)
    if all(factors.is_dead for factors in file.layers.values()):
        raise AdapterError(
            f"{path} contains no adapter: A and B are zero at all {len(file.layers)} layers, as after "
            "load_weights(), which merges the update into the kernels. Load those weights into a model without "
            "enable_lora() and use it as the base, or save the LoRA before load_weights()."
        )
    all_sites = find_sites(model, bases.roles_of(model))
    sites = _numbered(backbone_of(model), all_sites)
    if problems := _unfit(file, sites):
        raise AdapterError(
            f"{path} is not for {model.name}: {'; '.join(problems)}. Keras names layers only by their place in "
            "the model, so pass a model of the same architecture and size, built in the same way."
        )
    trained = None if trained_model is None else TrainedBackbone(_weighted(backbone_of(trained_model)))
    scalings = {number: _strength(number, alpha, trained, file) / file.rank for number in file.layers}
    if trained is not None:
        trained.refuse_unlike(sites, file.layers, scalings)
    methods: dict[tuple[int, float], list[Site]] = {}
    tensors: dict[str, np.ndarray] = {}
    moved: list[Site] = []
    for number, factors in file.layers.items():
        site = sites[number]
        a, b = flat_factors(factors.a, factors.b, linear_projection(site))
        paths = a.shape[1]
        methods.setdefault((paths, scalings[number] * paths), []).append(site)
        tensors |= {f"{site.key}/{LoRA.name}/a": a, f"{site.key}/{LoRA.name}/b": b}
        bias = None if trained is None else trained.bias(number, site)
        if bias is not None:
            moved.append(site)
            tensors[f"{site.key}/{BitFit.name}/bias"] = bias
    placements: list[Method | Placement] = [
        Placement(LoRA(rank=rank, alpha=strength, dropout=0.0), selection_of(all_sites, chosen))
        for (rank, strength), chosen in methods.items()
    ]
    if moved:
        placements.append(Placement(BitFit(), selection_of(all_sites, moved)))
    return ReadAdapter(
        placements, tensors, list(_warnings(file, sites, biases_are_known=trained is not None))
    )


def backbone_of(model: keras.Model) -> keras.Model:
    """Returns the KerasHub backbone that a model is or contains.

    Raises:
        OptionError: If there is none.
    """
    need("KerasHub's own LoRA", "keras_hub")
    import keras_hub

    inside = [model, *model._flatten_layers(include_self=False, recursive=True)]
    found = next((layer for layer in inside if isinstance(layer, keras_hub.models.Backbone)), None)
    if found is None:
        raise OptionError(
            f"{model.name!r} contains no KerasHub backbone, and only backbones save LoRA; pass a backbone or a task."
        )
    return found


def _weighted(backbone: keras.Model) -> list[keras.Layer]:
    """Returns the layers with weights, in the order in which KerasHub numbers them."""
    return [layer for layer in backbone._flatten_layers(include_self=False) if layer.weights]


def _numbered(backbone: keras.Model, all_sites: Sequence[Site]) -> list[Site]:
    by_layer = {id(site.layer): site for site in all_sites}
    return [by_layer[id(layer)] for layer in _weighted(backbone)]


def _unfit(file: _file.LoraFile, sites: Sequence[Site]) -> list[str]:
    problems = []
    for number, factors in file.layers.items():
        if number >= len(sites):
            problems.append(f"layer {number} does not exist; there are {len(sites)} layers")
            continue
        site = sites[number]
        if not is_linear(site.layer):
            problems.append(
                f"layer {number} is {site.path}, a {type(site.layer).__name__}, and LoRA adapts only projections"
            )
            continue
        view = linear_projection(site)
        kernel = tuple(view.shape[place] for place in np.argsort(view.order))
        shape = (*factors.a.shape[:-1], factors.b.shape[-1])
        if kernel != shape:
            problems.append(f"layer {number}, {site.path}, has a kernel {kernel}, but the file has {shape}")
    return problems


def _strength(
    number: int, alpha: float | None, trained: TrainedBackbone | None, file: _file.LoraFile
) -> float:
    """Returns the LoRA alpha of a layer."""
    if alpha is None and trained is not None:
        alpha = trained.strength(number)
    return float(file.rank) if alpha is None else alpha


def _heads(adapted: AdaptedModel, trained_model: keras.Model | None) -> dict[str, np.ndarray]:
    """Returns the values of a task's own head, if `trained_model` is such a task too."""
    if trained_model is None:
        return {}
    there = {
        f"{site.key}/{variable.name}": keras.ops.convert_to_numpy(variable)
        for site in find_sites(trained_model)
        for variable in own_variables(site.layer)
    }
    moves = adapted.adapters[adapted.active[0]].moves
    return {key: there[key] for key in moves if key in there}


def _warnings(file: _file.LoraFile, sites: Sequence[Site], *, biases_are_known: bool) -> Iterator[str]:
    chosen = {number: sites[number] for number in file.layers}
    if all(factors.is_silent for factors in file.layers.values()):
        yield f"has no effect yet: B is zero at all {len(chosen)} layers. It was saved before training."
    elif dead := [sites[number].path for number, factors in file.layers.items() if factors.is_dead]:
        yield f"has no effect at {listed(dead, most=4)}, where A and B are zero, and cannot be trained there."
    biases = [site.layer.bias for site in chosen.values() if getattr(site.layer, "bias", None) is not None]
    if biases and not biases_are_known:
        values = sum(int(np.prod(bias.shape)) for bias in biases)
        yield (
            f"lacks the biases of its {len(biases)} layers ({values:,} values): enable_lora() leaves them "
            "trainable, and save_lora_weights() does not save them. Unless you froze them, the outputs differ from "
            "those of the trained model; pass that model, or one with its weights, as trained_model=."
        )
