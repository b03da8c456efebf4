"""Import of a transformers classifier as a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_peft import bundle as bundles
from keras_peft.errors import AdapterError, OptionError
from keras_peft.interop._bundle import write_imported
from keras_peft.interop._locating import locate
from keras_peft.interop.hf_peft._base import load_base
from keras_peft.json_files import JsonError, read_object
from keras_peft.methods.linear_probe import LinearProbe
from keras_peft.sources import find_head, hub

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle


def import_hf_model(
    source: str | Path,
    *,
    out: str | Path,
    base: str | None = None,
    labels: Sequence[str] | None = None,
    task: str | None = None,
    max_length: int | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Imports a classifier of Hugging Face's transformers as a bundle, and verifies it.

    The bundle contains the classifier's head. Its base model is the checkpoint, which is not copied. To train
    the classifier further, pass the checkpoint to `fine_tune` as `base`; training then starts from its head.

    Args:
        source: Folder with a ForSequenceClassification or ForTokenClassification checkpoint of a supported
            architecture, or its `hf://owner/name`.
        out: Folder to write the bundle to.
        base: Must be None, since the checkpoint is its own base model.
        labels: Labels in the order of the head's outputs; defaults to those in config.json.
        task: Name of the task; defaults to the `problem_type` in config.json.
        max_length: Maximum tokens per text; defaults to the `model_max_length` of the checkpoint's tokenizer,
            else the model's limit.
        overwrite: Replace an existing bundle at `out`.

    Returns:
        The bundle.

    Raises:
        AdapterError: If the checkpoint is not a classifier or its head is damaged; the message lists all
            problems.
        OptionError: If `base` is given.
        BaseError: If the checkpoint cannot be loaded or its architecture is not supported.
        BundleError: If the bundle cannot be written.

    Example:
        >>> keras_peft.interop.import_hf_model("./classifier", out="my-bundle").labels
        ('negative', 'positive')
    """
    if base is not None:
        raise OptionError(
            f"{source} is a complete classifier, which is its own base; remove `base={base!r}`."
        )
    out = Path(out)
    bundles.refuse_existing(out, overwrite=overwrite)
    # The absolute path, since a relative one may equal the name of a base model, such as minilm.
    loaded = load_base(str(source) if hub.is_hub_name(source) else str(locate(source).absolute()))
    tensors = loaded.tensors()
    head, problems = find_head(
        loaded.config, tensors, loaded.names.checkpoint, loaded.base.dim, labels=labels, task=task
    )
    if head is not None and len(head.task.input.columns) > 1 and (problem := loaded.no_pairs):
        problems.append(problem)
    if problems or head is None:
        raise AdapterError(f"{loaded.folder} cannot be imported: {'; '.join(problems)}.")
    return write_imported(
        out,
        folder=loaded.folder,
        source=f"the classifier {hub.name_of(loaded.folder)}",
        sha256=loaded.base.sha256,
        base=loaded.base,
        task=head.task,
        methods=[LinearProbe()],
        tensors={f"head/{key}": value for key, value in head.read().items()},
        max_length=max_length or _most_tokens(loaded.folder),
        overwrite=overwrite,
    )


def _most_tokens(folder: Path) -> int | None:
    """Returns the `model_max_length` of a checkpoint's tokenizer, or None if it is not set."""
    try:
        said = read_object(folder / "tokenizer_config.json")["model_max_length"]
    except (OSError, JsonError, KeyError):
        return None
    return int(said) if isinstance(said, int) else None
