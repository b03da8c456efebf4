"""Export of a bundle for sentence-transformers and SetFit: an encoder, its pooling and a linear head.

SetFit: Tunstall et al. 2022, https://arxiv.org/abs/2209.11055.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft import bundle as bundles
from keras_peft import sources
from keras_peft.bundle.tokenizer_files import write_tokenizer
from keras_peft.core.pooling import FIRST_TOKEN, MAX, MEAN
from keras_peft.errors import AdapterError, BundleError
from keras_peft.files import refuse_existing, write_json
from keras_peft.interop._checkpoint import encoder_checkpoint
from keras_peft.interop._exporting import BundleExport, Exported, outputs_of, reading_again
from keras_peft.interop._files import write_torch_tensors
from keras_peft.interop._verifying import check_same, folded_outputs
from keras_peft.interop.hf_peft._base import load_base
from keras_peft.interop.hf_peft._head import folded

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.interop.hf_peft._base import HuggingFaceBase
    from keras_peft.tasks import Task

FORMAT = "sentence-transformers"
LOOKS_LIKE = "a folder with modules.json and model_head.pkl, for sentence-transformers and SetFit"

_HEAD = "model_head.pkl"
_POOLING = "1_Pooling"
_FILES = (
    "modules.json",
    "config.json",
    "config_sentence_transformers.json",
    "config_setfit.json",
    "sentence_bert_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
    _HEAD,
    _POOLING,
)
_MADE_BY = "written by keras-peft"
_TYPES = "sentence_transformers.models"
_FLAGS = {
    FIRST_TOKEN: "pooling_mode_cls_token",
    MEAN: "pooling_mode_mean_tokens",
    MAX: "pooling_mode_max_tokens",
}


def export_sentence_transformers(
    bundle: str | Path, *, out: str | Path, base: str | None = None, overwrite: bool = False
) -> Exported:
    """Exports a bundle as a folder that `SentenceTransformer` and `SetFitModel` load, and verifies it.

    The adapter is merged into the base model. The head becomes a logistic regression of scikit-learn, with
    the temperature folded in, so that SetFit returns the calibrated probabilities.

    Args:
        bundle: Folder of the bundle, or its `hf://owner/name`.
        out: Folder to write.
        base: Base model, as accepted by `load_base`, if it is no longer where it was in training.
        overwrite: Replace an earlier export at `out`.

    Returns:
        The written folder and the measured difference.

    Raises:
        AdapterError: If the adapter cannot be merged, or the head is not one linear layer for one label per
            text; the message lists all problems.
        BaseError: If the base model cannot be loaded.
        BundleError: If the bundle is not valid, or the folder cannot be written.

    Example:
        >>> keras_peft.interop.export_sentence_transformers("my-bundle", out="classifier")
    """
    out = Path(out)
    read = bundles.read(bundle)
    loaded = load_base(base or read.base_name)
    refuse_existing(
        out,
        overwrite=overwrite,
        error=BundleError,
        kind="a model exported by keras-peft",
        is_kind=_was_exported,
    )
    model = bundles.load_model(read, loaded.base)
    task = read.task()
    export = BundleExport(
        out=out,
        read=read,
        expected=outputs_of(model, read),
        template="sentence_transformers.md",
        overwrite=overwrite,
    )
    problems = _problems(task)
    try:
        model.merge()
    except AdapterError as error:
        problems.append(str(error).removesuffix("."))
    if problems:
        raise AdapterError(
            f"{read.folder} cannot be exported to sentence-transformers: {'; '.join(problems)}."
        )
    config, tensors = encoder_checkpoint(loaded, loaded.kind)
    head = folded(model.adapter_tensors(), task)
    del model

    def files(staging: Path) -> None:
        write_json(staging / "config.json", {**config, "architectures": [_encoder_class(loaded)]})
        write_torch_tensors(staging / "model.safetensors", tensors)
        write_tokenizer(staging, read)
        _write_modules(staging, read, task, loaded.base.dim)
        _write_head(staging / _HEAD, head["head/logits/kernel"], head["head/logits/bias"])
        tensors.clear()  # They take as much memory as the model that is read back.

    return export.write(
        files,
        lambda staging, expected: _compare(staging, read, expected),
        config=config,
        template_values={"made_by": _MADE_BY},
    )


export = export_sentence_transformers


def _problems(task: Task) -> list[str]:
    """Returns the reasons why SetFit cannot hold the head of a task."""
    if task.name != "single-label":
        return [f"SetFit's head predicts one label for one text, but the task is {task.name}"]
    if task.activation is not None:
        return ["its head has two layers, and SetFit's has one; train with `pooling='mean'`"]
    return []


def _encoder_class(loaded: HuggingFaceBase) -> str:
    return f"{loaded.names.checkpoint.classes}Model"


def _write_modules(folder: Path, read: Bundle, task: Task, dim: int) -> None:
    """Writes the configuration files of sentence-transformers and SetFit."""
    modules = [("", f"{_TYPES}.Transformer"), (_POOLING, f"{_TYPES}.Pooling")]
    listed = [
        {"idx": number, "name": str(number), "path": path, "type": kind}
        for number, (path, kind) in enumerate(modules)
    ]
    write_json(folder / "modules.json", listed)
    (folder / _POOLING).mkdir()
    flags = {flag: pooling == task.pooling for pooling, flag in _FLAGS.items()}
    write_json(folder / _POOLING / "config.json", {"word_embedding_dimension": dim, **flags})
    length = {"max_seq_length": read.content["max_length"], "do_lower_case": False}
    write_json(folder / "sentence_bert_config.json", length)
    write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": "cosine"})
    write_json(folder / "config_setfit.json", {"labels": list(task.labels), "normalize_embeddings": False})


def _write_head(path: Path, kernel: np.ndarray, bias: np.ndarray) -> None:
    """Writes a logistic regression of scikit-learn with the weights of a head, as SetFit does."""
    import joblib
    from sklearn.linear_model import LogisticRegression

    if len(bias) == 2:  # scikit-learn keeps the difference of the two logits.
        kernel, bias = kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]
    head = LogisticRegression()
    head.classes_ = np.arange(max(2, len(bias)))
    head.coef_, head.intercept_ = kernel.T.astype(np.float64), bias.astype(np.float64)
    head.n_features_in_, head.n_iter_ = len(kernel), np.zeros(1, np.int32)
    joblib.dump(head, path)


def _compare(staging: Path, read: Bundle, expected: Any) -> float:
    """Reads the staged files back and compares the logits with the bundle's."""
    import joblib

    from keras_peft import attach
    from keras_peft.methods.linear_probe import LinearProbe

    task = read.task()
    with reading_again():
        fresh = sources.load(str(staging))
    if fresh.pooling != task.pooling:
        raise BundleError(f"Nothing was exported: when read back, the pooling is {fresh.pooling}.")
    model = attach.adapt(fresh.encoder, LinearProbe(), head=task.head(fresh.dim), pooling=task.pooling)
    head = joblib.load(staging / _HEAD)  # Written by this function's caller.
    kernel, bias = head.coef_.T.astype(np.float32), head.intercept_.astype(np.float32)
    expected = folded_outputs(expected, task)
    if len(bias) == 1:
        kernel, bias = np.concatenate([0 * kernel, kernel], 1), np.append(np.float32(0), bias)
        expected = expected - expected[:, :1]
    model.assign_adapter_tensors({"head/logits/kernel": kernel, "head/logits/bias": bias})
    return check_same(outputs_of(model, read), expected)


def _was_exported(folder: Path) -> bool:
    """Returns whether a folder holds an export and no other files."""
    if not folder.is_dir() or {file.name for file in folder.iterdir()} - set(_FILES):
        return False
    card = folder / "README.md"
    return card.is_file() and _MADE_BY in card.read_text(encoding="utf-8", errors="replace")
