"""Export of a bundle as a transformers classifier."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft import bases, sources
from keras_peft import bundle as bundles
from keras_peft.bases import bert, distilbert
from keras_peft.errors import AdapterError, BundleError
from keras_peft.files import refuse_existing
from keras_peft.interop._exporting import BundleExport, Exported, outputs_of, reading_again
from keras_peft.interop._files import write_json, write_torch_tensors
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
# Special tokens by their names in Hugging Face's tokenizers: BERT's, then RoBERTa's.
_SPECIAL = {
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "mask_token": ("[MASK]", "<mask>"),
}
# These keys describe the environment that wrote the base model, or how its weights were stored.
_LEFT_OUT = (
    "_name_or_path",
    "auto_map",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "quantization_config",
)
_TABLES = (bert.POSITIONS, bert.TYPES)


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
    config, tensors = _encoder(loaded, kind)
    config = _config(config, task, f"{bases.checkpoints()[kind].CHECKPOINT.classes}{head.class_name}")
    own = {key: value for key, value in model.adapter_tensors().items() if key.startswith("head/")}
    tensors |= head.write(folded(own, task))
    del adapter, model

    def files(staging: Path) -> None:
        write_json(staging / "config.json", config)
        write_torch_tensors(staging / "model.safetensors", tensors)
        write_json(staging / "tokenizer.json", _tokenizer(read))
        write_json(staging / "tokenizer_config.json", _tokenizer_config(read))
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


def _encoder(loaded: HuggingFaceBase, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the configuration and current tensors of the base model as a checkpoint of an architecture."""
    config, before = loaded.as_kind(distilbert.MODEL_TYPE)
    now = distilbert.to_checkpoint(loaded.base.encoder)
    if kind == distilbert.MODEL_TYPE:
        return config, now
    own = loaded.names.checkpoint
    blocks = int(config["n_layers"])
    paths = {path: module for module, path in distilbert.CHECKPOINT.modules(blocks).items()}
    tensors = {
        f"{own.prefix}.{module}.{ending}": now[f"{distilbert.CHECKPOINT.prefix}.{paths[path]}.{ending}"]
        for module, path in own.modules(blocks).items()
        for ending in ("weight", "bias")
        if f"{distilbert.CHECKPOINT.prefix}.{paths[path]}.{ending}" in now
    }
    there = {own.bare(name): value for name, value in loaded.tensors().items() if own.bare(name) in _TABLES}
    # DistilBERT's position table includes the token type, so only its change goes into the original table.
    change = (
        tensors[f"{own.prefix}.{bert.POSITIONS}"] - before[f"{distilbert.CHECKPOINT.prefix}.{bert.POSITIONS}"]
    )
    positions = there[bert.POSITIONS].astype(np.float32)
    positions[-len(change) :] += change
    tensors |= {f"{own.prefix}.{bert.TYPES}": there[bert.TYPES], f"{own.prefix}.{bert.POSITIONS}": positions}
    return dict(loaded.config), tensors


def _config(config: Mapping[str, Any], task: Task, class_name: str) -> dict[str, Any]:
    """Returns the base model's config.json with the classifier's class and labels."""
    names = task.labels or tuple(f"LABEL_{number}" for number in range(task.outputs))
    kept = {key: value for key, value in config.items() if key not in _LEFT_OUT}
    return {
        **kept,
        "architectures": [class_name],
        "id2label": {str(number): label for number, label in enumerate(names)},
        "label2id": {label: number for number, label in enumerate(names)},
        "problem_type": task.problem_type,
        "dtype": "float32",
    }


def _tokenizer(read: Bundle) -> dict[str, Any]:
    """Returns the bundle's tokenizer.json, set up so that lists of words give the bundle's tokens."""
    content: dict[str, Any] = json.loads((read.folder / "tokenizer.json").read_text(encoding="utf-8"))
    before = content.get("pre_tokenizer") or {}
    if read.task().per_word and "add_prefix_space" in before:
        # Words that are given one by one are tokenised with a leading space.
        before["add_prefix_space"] = True
    return content


def _tokenizer_config(read: Bundle) -> dict[str, Any]:
    """Returns a tokenizer_config.json for AutoTokenizer that truncates texts as the bundle does."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(read.folder / "tokenizer.json"))
    special = {
        role: next((word for word in words if tokenizer.token_to_id(word) is not None), None)
        for role, words in _SPECIAL.items()
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": read.content["max_length"],
        # No token types: all tokens have the first type.
        "model_input_names": ["input_ids", "attention_mask"],
        **{role: word for role, word in special.items() if word is not None},
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
