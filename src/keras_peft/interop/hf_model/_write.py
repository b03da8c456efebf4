"""Export of a bundle as a transformers classifier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import bases, sources
from keras_peft import bundle as bundles
from keras_peft.bases import distilbert
from keras_peft.bundle.tokenizer_files import write_tokenizer
from keras_peft.errors import AdapterError, BundleError
from keras_peft.files import refuse_existing, write_json
from keras_peft.interop._checkpoint import encoder_checkpoint
from keras_peft.interop._exporting import BundleExport, Exported, outputs_of, reading_again
from keras_peft.interop._files import write_torch_tensors
from keras_peft.interop._verifying import check_same, folded_outputs
from keras_peft.interop.adapter_hub import kinds as adapter_hub_kinds
from keras_peft.interop.hf_peft import kinds as hf_peft_kinds
from keras_peft.interop.hf_peft._base import HuggingFaceBase, load_base
from keras_peft.interop.hf_peft._head import Head, folded, head_of, pooling_problems

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.core.adapter import Adapter
    from keras_peft.tasks import Task

_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md")
_MADE_BY = "written by keras-peft"


def export_hf_model(
    bundle: str | Path, *, out: str | Path, base: str | None = None, overwrite: bool = False
) -> Exported:
    """Exports a bundle as a classifier of Hugging Face's transformers, and verifies it.

    The adapter is merged into the base model. The written checkpoint is read back, and its logits must match
    the bundle's. The temperature is folded into the last layer, so that a plain softmax returns the
    calibrated probabilities. For regression, the mean and standard deviation of the targets are folded into
    it.

    Args:
        bundle: Folder of the bundle, or its `hf://owner/name`.
        out: Folder to write the checkpoint to.
        base: Base model, as accepted by `load_base`, if it is no longer where it was in training.
        overwrite: Replace a previously exported checkpoint at `out`.

    Returns:
        The written folder and the measured difference.

    Raises:
        AdapterError: If the adapter cannot be merged, or no transformers class has such a head; the message
            lists all problems.
        BaseError: If the base model cannot be loaded.
        BundleError: If the bundle is not valid, or the folder cannot be written.

    Example:
        >>> keras_peft.interop.export_hf_model("my-bundle", out="classifier").max_abs_logit_difference
    """
    out = Path(out)
    read = bundles.read(bundle)
    loaded = load_base(base or read.base_name)
    if overwrite and out.resolve() == loaded.folder.resolve():
        raise BundleError(f"{out} is the bundle's base, so it is not overwritten; choose another `out`.")
    refuse_existing(
        out,
        overwrite=overwrite,
        error=BundleError,
        kind="a checkpoint exported by keras-peft",
        is_kind=_was_exported,
    )
    model = bundles.load_model(read, loaded.base)
    task = read.task()
    export = BundleExport(
        out=out,
        read=read,
        expected=outputs_of(model, read),
        template="hf_model.md",
        overwrite=overwrite,
    )
    form, problems = _form(loaded, task)
    adapter = model.adapters[model.active[0]]
    try:
        model.merge()
    except AdapterError as error:
        problems.append(f"{str(error).removesuffix('.')}{_way_out(adapter, task)}")
    if problems or form is None:
        raise AdapterError(f"{read.folder} cannot be exported as a whole model: {'; '.join(problems)}.")
    kind, head = form
    config, tensors = encoder_checkpoint(loaded, kind)
    config = _config(config, task, f"{bases.checkpoints()[kind].CHECKPOINT.classes}{head.class_name}")
    own = {key: value for key, value in model.adapter_tensors().items() if key.startswith("head/")}
    tensors |= head.write(folded(own, task))
    del adapter, model

    def files(staging: Path) -> None:
        write_json(staging / "config.json", config)
        write_torch_tensors(staging / "model.safetensors", tensors)
        write_tokenizer(staging, read)
        tensors.clear()  # They take as much memory as the model that is read back.

    return export.write(
        files,
        lambda staging, expected: _compare(staging, read, expected),
        config=config,
        template_values={"made_by": _MADE_BY},
    )


def _way_out(adapter: Adapter, task: Task) -> str:
    """Returns a hint at the format that can hold an adapter without its base, if there is one."""
    if not task.per_word and any(one.site.role == "embedding.token" for one in adapter.site_weights):
        return ""  # PEFT's text classifiers read another token than those with virtual tokens here.
    methods = {placement.method for placement in adapter.placements}
    if len(methods) > 1:  # The other formats hold few combinations.
        return ""
    (method,) = methods
    if method.hugging_face in hf_peft_kinds():
        return "; `format='hf-peft'` exports only the adapter"
    if any(type(method) in kind.METHODS for kind in adapter_hub_kinds()):
        return "; `format='adapter-hub'` exports only the adapter"
    return ""


def _form(loaded: HuggingFaceBase, task: Task) -> tuple[tuple[str, Head] | None, list[str]]:
    """Returns the architecture whose classifier has the task's head, the base model's or DistilBERT."""
    if unfit := pooling_problems(task):
        return None, unfit
    own = head_of(loaded.kind, type(task))
    if task.per_word or own.activation == task.activation:
        return (loaded.kind, own), []
    other = head_of(distilbert.MODEL_TYPE, type(task))
    differs = (
        f"its head uses {task.activation}, but that of Hugging Face's {loaded.names.checkpoint.classes} uses "
        f"{own.activation}"
    )
    if other.activation != task.activation:
        return None, [differs]
    if loaded.no_distilbert:
        return None, [f"{differs}; {loaded.no_distilbert}"]
    return (distilbert.MODEL_TYPE, other), []


def _config(config: Mapping[str, Any], task: Task, class_name: str) -> dict[str, Any]:
    """Returns the base model's config.json with the classifier's class and labels."""
    names = task.labels or tuple(f"LABEL_{number}" for number in range(task.outputs))
    return {
        **config,
        "architectures": [class_name],
        "id2label": {str(number): label for number, label in enumerate(names)},
        "label2id": {label: number for number, label in enumerate(names)},
        "problem_type": task.problem_type,
    }


def _compare(staging: Path, read: Bundle, expected: Any) -> float:
    """Reads the staged checkpoint back and compares its logits with the bundle's."""
    from keras_peft import attach
    from keras_peft.methods.linear_probe import LinearProbe

    task = read.task()
    with reading_again():
        fresh = sources.load(str(staging))
    if fresh.head is None:
        raise BundleError("Nothing was exported: when read back, the checkpoint has no head.")
    head = fresh.head.task.head(fresh.dim)
    model = attach.adapt(fresh.encoder, LinearProbe(), head=head, pooling=task.pooling)
    model.assign_adapter_tensors({f"head/{key}": value for key, value in fresh.head.read().items()})
    outputs = outputs_of(model, read)
    if not task.per_word:
        expected = folded_outputs(expected, task)
    return check_same(outputs, expected, unit=getattr(task, "deviation", 1.0))


def _was_exported(folder: Path) -> bool:
    """Returns whether a folder holds an exported checkpoint and no other files."""
    if not folder.is_dir() or {file.name for file in folder.iterdir()} - set(_FILES):
        return False
    card = folder / "README.md"
    return card.is_file() and _MADE_BY in card.read_text(encoding="utf-8", errors="replace")
