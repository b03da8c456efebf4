"""Import of an AdapterHub adapter as a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import bundle as bundles
from keras_peft.errors import AdapterError, OptionError, listed
from keras_peft.files import sha256_of
from keras_peft.interop._bundle import labelled, write_imported
from keras_peft.interop._locating import locate
from keras_peft.interop.adapter_hub._folder import TENSORS, read_folder
from keras_peft.interop.adapter_hub._head import describe
from keras_peft.interop.adapter_hub._kinds import kinds
from keras_peft.interop.adapter_hub._places import sorted_by_module
from keras_peft.interop.hf_peft._base import base_named, load_base
from keras_peft.interop.hf_peft._names import Names
from keras_peft.interop.hf_peft._pieces import IncomingAdapter, ReadAdapter, Tensors, joined, pieces_of

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.tasks import Task

# Files without a version are from early releases, in which these names had another meaning.
_FORMER_ACTIVATIONS = {"gelu": "gelu_new", "gelu_orig": "gelu"}


def import_adapter_hub(
    folder: str | Path,
    *,
    out: str | Path,
    base: str | None = None,
    labels: Sequence[str] | None = None,
    task: str | None = None,
    max_length: int | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Imports an AdapterHub adapter with its head as a bundle, and verifies it.

    Args:
        folder: Folder that `save_adapter(folder, name, use_safetensors=True)` wrote for a classifier of
            texts or tokens, or its `hf://owner/name`.
        out: Folder to write the bundle to.
        base: Base model, as accepted by `load_base`; defaults to the one that the adapter names.
        labels: Labels in the order of the head's outputs; defaults to those in the head's configuration.
        task: Name of the task; defaults to the one for the head's type.
        max_length: Maximum tokens per text; defaults to the base model's limit.
        overwrite: Replace an existing bundle at `out`.

    Returns:
        The bundle.

    Raises:
        AdapterError: If the adapter or its head is not supported, or the files are damaged; the message lists
            all problems.
        OptionError: If the head does not fit the task.
        BaseError: If the base model cannot be loaded.
        BundleError: If the bundle cannot be written.

    Example:
        >>> keras_peft.interop.import_adapter_hub("saved-adapter", out="my-bundle")
        >>> keras_peft.load("my-bundle").predict(["Which model is faster?"])
    """
    folder, out = locate(folder), Path(out)
    bundles.refuse_existing(out, overwrite=overwrite)
    files = read_folder(folder)
    loaded = load_base(base or base_named(files.config.get("model_name"), folder))
    problems = []
    read: ReadAdapter | None = None
    made: Task | None = None
    found: Tensors = {}
    try:
        read = translate(files.config, files.tensors, loaded.names)
    except AdapterError as error:
        problems.append(str(error).removesuffix("."))
    try:
        described = describe(files.head_config, loaded.names.kind_in(files.tensors), task)
        left = dict(files.head_tensors)
        found, missing = described.head.read(left, loaded.tensors())
        problems += [f"{name} is in neither the head nor the base {loaded.base.name}" for name in missing]
        problems += [f"{name} fits no supported head" for name in left]
    except AdapterError as error:
        problems.append(str(error).removesuffix("."))
    else:
        if not missing:
            outputs = found["head/logits/bias"].size
            known, activation = labels or described.labels, described.head.activation
            try:
                made = labelled(described.task, activation, known, outputs, are_given=bool(labels))
            except OptionError as error:
                problems.append(str(error).removesuffix("."))
    if made is not None and len(made.input.columns) > 1 and (problem := loaded.no_pairs):
        problems.append(problem)
    if problems or read is None or made is None:
        raise AdapterError(f"{folder} cannot be imported: {'; '.join(problems)}.")
    return write_imported(
        out,
        folder=folder,
        source=f"the adapter {files.config.get('name')} of AdapterHub",
        sha256=sha256_of(folder / TENSORS),
        base=loaded.base,
        task=made,
        methods=read.methods,
        tensors=read.tensors | found,
        max_length=max_length,
        overwrite=overwrite,
    )


def translate(config: Mapping[str, Any], tensors: Tensors, names: Names) -> ReadAdapter:
    """Converts an AdapterHub adapter to methods and their tensors.

    Args:
        config: Content of `adapter_config.json`.
        tensors: Content of `adapter.safetensors`.
        names: Module names of the base model.

    Returns:
        The arguments of `keras_peft.adapt` and `assign_adapter_tensors`.

    Raises:
        AdapterError: If the adapter is not supported; the message lists all problems.
    """
    own = _as_meant(config)
    kind = next((one for one in kinds() if one.matches(own)), None)
    if kind is None:
        known = listed(one.__name__.rpartition(".")[2] for one in kinds())
        raise AdapterError(
            f"architecture={own.get('architecture')!r} is not supported; the supported values are {known}."
        )
    used, problems = kind.SETTINGS.read(own)
    modules, rest = sorted_by_module(tensors, str(config.get("name")), names)
    file = IncomingAdapter(used, modules, rest, names, problems)
    pieces = pieces_of(kind.read, file)
    if not file.problems:
        left = [*file.rest, *(f"{m.name}: {name}" for m in file.modules for name in m.tensors)]
        file.problems += [f"{name} fits no supported method" for name in left]
    if not file.problems and not pieces:
        file.problems.append(f"it has no tensors of the adapter {config.get('name')!r}")
    if file.problems:
        raise AdapterError(f"{'; '.join(file.problems)}.")
    return joined(pieces, names)


def _as_meant(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an adapter's configuration with the library's version and today's activation names."""
    own = {**config["config"], "version": config.get("version")}
    if not own["version"] and "non_linearity" in own:
        said = str(own["non_linearity"])
        own["non_linearity"] = _FORMER_ACTIVATIONS.get(said, said)
    return own
