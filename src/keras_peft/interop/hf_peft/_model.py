"""Hugging Face PEFT adapters on a Keras model without a bundle, mainly for language models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft import bases
from keras_peft.core.method import Method
from keras_peft.errors import AdapterError, KerasPeftError, listed
from keras_peft.extras import need
from keras_peft.files import refuse_existing, whole_folder, write_json
from keras_peft.interop._files import write_torch_tensors
from keras_peft.interop._locating import locate
from keras_peft.interop.hf_peft._folder import CONFIG, FILES, TENSORS, is_adapter, read_folder
from keras_peft.interop.hf_peft._names import Names
from keras_peft.interop.hf_peft._read import translate
from keras_peft.interop.hf_peft._write import write_tensors_of
from keras_peft.sources import hub

if TYPE_CHECKING:
    import keras

    from keras_peft.core.adapted import AdaptedModel
    from keras_peft.core.adapter import Adapter

# Relative to the largest value that an adapter adds to a matrix.
_TOLERANCE = 1e-5


def load_hf_peft(
    model: keras.Model | AdaptedModel, folder: str | Path, name: str | None = None
) -> AdaptedModel:
    """Loads a Hugging Face PEFT adapter onto a KerasHub model.

    Args:
        model: A backbone or a CausalLM with the weights that the adapter was trained on. An adapted model
            gets the adapter as an additional one, which is not active yet.
        folder: Folder that PEFT's `save_pretrained` wrote, or its `hf://owner/name`.
        name: Name of the adapter in the model; defaults to "default", or to the name of the folder or
            repository if the model already has adapters.

    Returns:
        The adapted model, ready for inference, training or generation.

    Raises:
        AdapterError: If the adapter is not supported, its files are damaged, or its tensors do not fit the
            model; the message lists all problems.
        BaseError: If the adapter cannot be downloaded.

    Example:
        >>> llama = keras_hub.models.CausalLM.from_preset("hf://meta-llama/Llama-3.2-1B")
        >>> adapted = keras_peft.interop.load_hf_peft(llama, "peft-adapter")
        >>> adapted.generate("Which model is faster?")
    """
    from keras_peft import attach
    from keras_peft.core.adapted import DEFAULT_NAME, AdaptedModel
    from keras_peft.core.adapter import choose_placements, shapes_of
    from keras_peft.core.fitting import refuse_unfit

    folder = locate(folder)
    config, tensors = read_folder(folder)
    is_adapted = isinstance(model, AdaptedModel)
    names = names_of(model.base if is_adapted else model)
    try:
        read = translate(config, tensors, names)
        if problems := _refuse_prompts(
            one if isinstance(one, Method) else one.method for one in read.methods
        ):
            raise AdapterError(f"{'; '.join(problems)}.")
    except AdapterError as error:
        raise AdapterError(f"{folder} cannot be loaded: {error}") from None
    name = name or (_name_of(folder) if is_adapted else DEFAULT_NAME)
    try:
        placements = choose_placements(names.all_sites, read.methods, "all", None)
        refuse_unfit(read.tensors, shapes_of(names.all_sites, placements))
    except AdapterError as error:
        raise AdapterError(f"{folder} does not fit the model: {error}") from None
    if is_adapted:
        model.add_adapter(name, placements)
    else:
        model = attach.adapt(model, placements, adapter=name)
    model.assign_adapter_tensors(read.tensors, name)
    return model


def save_hf_peft(
    model: AdaptedModel,
    folder: str | Path,
    name: str | None = None,
    *,
    base: str,
    overwrite: bool = False,
) -> None:
    """Saves an adapter of a KerasHub model in Hugging Face PEFT's format.

    Before the folder is put in place, the adapter is read back, and its update of each matrix must be the same.
    Besides PEFT's two files, the folder contains a README.md with the metadata for the Hugging Face Hub.

    Args:
        model: The adapted model. An adapter of a CausalLM is for Hugging Face's causal language model, an
            adapter of a backbone for the model without a head.
        folder: Folder to write.
        name: Name of the adapter; defaults to the active one, if there is only one.
        base: Hugging Face's name of the model's checkpoint: `owner/name`, or a folder.
        overwrite: Replace an existing PEFT adapter.

    Raises:
        AdapterError: If PEFT has no equivalent of the adapter, or the folder exists or cannot be written; the
            message lists all problems.

    Example:
        >>> keras_peft.interop.save_hf_peft(adapted, "peft-adapter", base="meta-llama/Llama-3.2-1B")
    """
    folder = Path(folder).absolute()
    refuse_existing(
        folder,
        overwrite=overwrite,
        error=AdapterError,
        option="folder",
        kind="an adapter of PEFT",
        is_kind=is_adapter,
        files=FILES,
    )
    adapter = _adapter_of(model, name)
    if model.is_merged:
        raise AdapterError(
            "The adapters are merged, so the base is not the one they were trained on; call unmerge() to save one."
        )
    names = names_of(model.base)
    settings, tensors, _, problems = write_tensors_of(adapter, names)
    problems += _refuse_prompts(placement.method for placement in adapter.placements)
    if adapter.head is not None:
        problems.append(
            "it has its own head, which PEFT cannot store without a task; save it without the head"
        )
    if problems:
        raise AdapterError(f"The adapter cannot be saved in PEFT's format: {'; '.join(problems)}.")
    config = {
        **settings,
        "auto_mapping": None,
        "base_model_name_or_path": base,
        "fan_in_fan_out": names.checkpoint.is_transposed,
        "inference_mode": True,
        "revision": None,
        "task_type": "CAUSAL_LM" if _is_causal(model.base) else "FEATURE_EXTRACTION",
    }
    try:
        with whole_folder(folder, overwrite=overwrite) as staging:
            write_json(staging / CONFIG, dict(sorted(config.items())))
            write_torch_tensors(staging / TENSORS, tensors)
            _verify(staging, adapter, names)
            (staging / "README.md").write_text(_card(folder.name, config), encoding="utf-8")
    except OSError as error:
        raise AdapterError(f"{folder} could not be written ({error.strerror or error}).") from error


def names_of(model: keras.Model) -> Names:
    """Returns Hugging Face's module names of a KerasHub model.

    Raises:
        AdapterError: If the architecture is not supported.
    """
    from keras_peft.core.sites import find_sites

    architecture = bases.architecture_of(model)
    if architecture is None or not hasattr(architecture, "CHECKPOINT"):
        known = [module.BACKBONE for module in bases.architectures() if hasattr(module, "CHECKPOINT")]
        raise AdapterError(
            f"{model.name!r} is a {type(model).__name__}, whose layers have no PEFT names; expected a model that is or "
            f"contains one of {listed(known, most=20)}."
        )
    own = next((layer for layer in model.layers if type(layer).__name__ == architecture.BACKBONE), None)
    return Names(
        find_sites(model, architecture.ROLES),
        architecture.MODEL_TYPE,
        below="" if own is None else f"{own.name}/",
        has_head=_is_causal(model),
    )


def _name_of(folder: Path) -> str:
    """Returns the name of an adapter: its repository's if it was downloaded, else its folder's."""
    name = hub.name_of(folder)
    return name.partition("@")[0].rpartition("/")[2] if hub.is_hub_name(name) else name


def _is_causal(model: keras.Model) -> bool:
    need("A language model's adapter", "keras_hub")
    import keras_hub

    return isinstance(model, keras_hub.models.CausalLM)


def _card(name: str, config: Mapping[str, Any]) -> str:
    from keras_peft.templating import cards

    base = config["base_model_name_or_path"]
    # The hub rejects model cards whose base model is a local folder.
    repository = base if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", base) and not Path(base).exists() else None
    template = cards().get_template("hf_peft_model.md")
    return template.render(name=name, config=config, repository=repository)


def _adapter_of(model: AdaptedModel, name: str | None) -> Adapter:
    if name is None and len(model.active) != 1:
        raise AdapterError(
            f"{len(model.active)} adapters are active; choose the one to save: {listed(model.adapters)}."
        )
    name = name or model.active[0]
    if name not in model.adapters:
        raise AdapterError(f"There is no adapter {name!r}; the model has {listed(model.adapters)}.")
    return model.adapters[name]


def _refuse_prompts(methods: Iterable[Method]) -> list[str]:
    """Returns a problem for each method that changes no matrix, such as the prompt methods."""
    return [
        f"{method.name} changes no matrix; only methods that do can be exchanged without a bundle"
        for method in methods
        if not method.merges
    ]


def _verify(folder: Path, adapter: Adapter, names: Names) -> None:
    """Reads the written adapter back and compares its changes to each layer's weights."""
    from keras_peft.core.adapter import Adapter, choose_placements

    config, tensors = read_folder(folder)
    try:
        read = translate(config, tensors, names)
        again = Adapter(names.all_sites, choose_placements(names.all_sites, read.methods, "all", None))
        again.refuse_unfit(read.tensors)
    except KerasPeftError as error:
        raise AdapterError(
            f"Nothing was saved, because the result could not be read back: {error}"
        ) from error
    again.assign(read.tensors)
    before, after = _changes(adapter), _changes(again)
    for key in before | after:
        change, size = before.get(key, (np.float32(0), 0.0))
        other, other_size = after.get(key, (np.float32(0), 0.0))
        difference = float(np.abs(change - other).max())
        if not difference <= _TOLERANCE * max(size, other_size):
            raise AdapterError(
                f"Nothing was saved: when read back, {key} differs by {difference:.2e}, with values up to "
                f"{size:.2e}."
            )


def _changes(adapter: Adapter) -> dict[str, tuple[np.ndarray, float]]:
    """Returns the changes to the layers' variables, and the largest values that scale the tolerance."""
    from keras import ops

    from keras_peft.core.sites import own_variables

    changes: dict[str, tuple[np.ndarray, float]] = {}
    for site_weights in adapter.site_weights:
        weights = {
            name: ops.convert_to_numpy(value)
            for name, value in {**site_weights.shared.values, **site_weights.values}.items()
        }
        key = f"{site_weights.site.path}/{site_weights.method.name}"
        product = site_weights.method.product(site_weights.site, weights)
        if product is not None:
            added = product[0] @ product[1]
            changes[key] = added, float(np.abs(added).max())
            continue
        values = {
            variable.name: ops.convert_to_numpy(variable).astype(np.float32)
            for variable in own_variables(site_weights.site.layer)
        }
        for name, value in site_weights.method.merged(site_weights.site, weights, values).items():
            changes[f"{key}/{name}"] = value - values[name], float(np.abs(value).max())
    return changes
