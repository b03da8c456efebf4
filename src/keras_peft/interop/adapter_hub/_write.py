"""Export of a bundle as an AdapterHub adapter."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from keras_peft import bundle as bundles
from keras_peft.bases import bert
from keras_peft.errors import AdapterError, BundleError, listed
from keras_peft.files import refuse_existing, write_json
from keras_peft.interop._exporting import BundleExport, Exported, outputs_of, reading_again
from keras_peft.interop._files import write_torch_tensors
from keras_peft.interop._verifying import compared_on
from keras_peft.interop.adapter_hub._folder import CONFIG, HEAD_CONFIG, HEAD_TENSORS, TENSORS, read_folder
from keras_peft.interop.adapter_hub._head import describe, written
from keras_peft.interop.adapter_hub._kinds import kinds
from keras_peft.interop.adapter_hub._places import SHARED
from keras_peft.interop.hf_peft._base import HuggingFaceBase, load_base
from keras_peft.interop.hf_peft._head import folded, pooling_problems
from keras_peft.interop.hf_peft._names import Names
from keras_peft.interop.hf_peft._pieces import OutgoingAdapter, Tensors, places_of
from keras_peft.sources import embedded

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.core.adapter import Adapter

# The library version whose format is written.
_VERSION = "adapters.1.3.0"
# All files of an export; a folder with any other file is not replaced.
_FILES = (CONFIG, TENSORS, HEAD_CONFIG, HEAD_TENSORS, "tokenizer.json", "README.md")


def export_adapter_hub(
    bundle: str | Path,
    *,
    out: str | Path,
    base: str | None = None,
    overwrite: bool = False,
) -> Exported:
    """Exports a bundle's adapter and head for AdapterHub's library, and verifies them.

    The adapter is read back onto a newly loaded base model, and its logits must match the bundle's. The
    folder also contains the tokenizer and a README. The head becomes a flexible head on every architecture;
    for regression, the mean and standard deviation of the targets are folded into its last layer.

    Args:
        bundle: Folder of the bundle, or its `hf://owner/name`.
        out: Folder to write. Its name becomes the name of the adapter.
        base: Base model, as accepted by `load_base`, if it is no longer where it was in training.
        overwrite: Replace an existing adapter at `out`.

    Returns:
        The written folder and the measured difference.

    Raises:
        AdapterError: If AdapterHub has no equivalent of the adapter; the message lists all problems.
        BaseError: If the base model cannot be loaded.
        BundleError: If the bundle is not valid, or the folder cannot be written.

    Example:
        >>> keras_peft.interop.export_adapter_hub("my-bundle", out="adapter").max_abs_logit_difference
    """
    out = Path(out)
    refuse_existing(
        out,
        overwrite=overwrite,
        error=BundleError,
        kind="an adapter of AdapterHub",
        is_kind=lambda folder: (folder / CONFIG).is_file(),
        files=_FILES,
    )
    read = bundles.read(bundle)
    loaded = load_base(base or read.base_name)
    names, base_name = _as_there(loaded)
    model = bundles.load_model(read, loaded.base)
    task = read.task()
    adapter = model.adapters[model.active[0]]
    name = re.sub(r"[^\w-]", "-", out.absolute().name)
    config, tensors, problems = write_tensors_of(adapter, names, name)
    problems += pooling_problems(task)
    if problems:
        raise AdapterError(f"{read.folder} cannot be exported to AdapterHub: {'; '.join(problems)}.")
    head_config, head = written(task, name)
    about = {
        "name": name,
        "model_type": names.kind,
        "model_class": f"{names.checkpoint.classes}AdapterModel",
        "model_name": base_name,
        "hidden_size": loaded.base.dim,
        "version": _VERSION,
    }
    export = BundleExport(
        out=out,
        read=read,
        expected=outputs_of(model, read),
        template="adapter_hub.md",
        overwrite=overwrite,
    )
    own = adapter.tensors()
    head_tensors = head.write(own if task.labels else folded(own, task))
    del model

    def files(staging: Path) -> None:
        write_json(staging / CONFIG, {**about, "config": config})
        write_json(staging / HEAD_CONFIG, {**about, "config": head_config})
        write_torch_tensors(staging / TENSORS, tensors)
        write_torch_tensors(staging / HEAD_TENSORS, head_tensors)
        (staging / "tokenizer.json").write_bytes((read.folder / "tokenizer.json").read_bytes())

    return export.write(
        files,
        lambda staging, expected: _compare(staging, read, loaded, names, expected),
        config=config,
        template_values={"about": about},
    )


def write_tensors_of(adapter: Adapter, names: Names, name: str) -> tuple[dict[str, Any], Tensors, list[str]]:
    """Converts an adapter to AdapterHub's configuration and tensors, without its head.

    Args:
        adapter: The adapter.
        names: Module names of its base model.
        name: Name of the adapter in AdapterHub.

    Returns:
        The configuration, the tensors by full name, and the problems that prevent the export.
    """
    found = [_kind_of(placement.method) for placement in adapter.placements]
    without = [
        placement.method.name
        for placement, kind in zip(adapter.placements, found, strict=True)
        if kind is None
    ]
    if without:
        return {}, {}, [f"AdapterHub has no equivalent of {listed(without)}"]
    kind = found[0]
    if kind is None or any(other is not kind for other in found):
        together = listed(placement.method.name for placement in adapter.placements)
        return (
            {},
            {},
            [f"AdapterHub supports one method per adapter, but this one combines {together or 'none'}"],
        )
    places = places_of(adapter, names)
    for place in places:
        followed = place.site.inner["ffn.down"] if place.site.role == "block" else place.site
        module = names.module(followed)
        if module is None:
            return {}, {}, [f"AdapterHub has no name for {place.site.path}"]
        place.module = f"{kind.held_at(module)}.{name}"
    outgoing = OutgoingAdapter(places, names, library="AdapterHub")
    config = kind.write(outgoing)
    shared = {
        f"{names.checkpoint.prefix}.{SHARED}.{name}.{key}": value for key, value in outgoing.whole.items()
    }
    return config, outgoing.tensors | shared, outgoing.problems


def _kind_of(method: Any) -> ModuleType | None:
    return next((kind for kind in kinds() if type(method) in kind.METHODS), None)


def _as_there(loaded: HuggingFaceBase) -> tuple[Names, str]:
    """Returns a base model's module names and its name on Hugging Face."""
    if (known := embedded.NAMES.get(loaded.base.name)) is not None:
        # It is a BERT that was converted to DistilBERT.
        return Names(loaded.names.all_sites, bert.MODEL_TYPE), known.source.partition(",")[0]
    return loaded.names, loaded.base.name.removeprefix("hf://").partition("@")[0]


def _compare(staging: Path, read: Bundle, loaded: HuggingFaceBase, names: Names, expected: Any) -> float:
    """Reads the staged files onto a fresh base model and compares the logits with the bundle's."""
    from keras_peft.interop.adapter_hub._read import translate

    task = read.task()
    files = read_folder(staging)
    fresh = load_base(loaded.base.name)
    with reading_again():
        again = translate(files.config, files.tensors, fresh.names)
        found, _ = describe(files.head_config, names.kind, task.name).head.read(files.head_tensors, {})
    return compared_on(fresh.base, read, again.methods, again.tensors | found, expected)
