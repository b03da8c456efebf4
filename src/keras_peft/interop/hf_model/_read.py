"""From a classifier of transformers to a bundle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_peft import bundle as bundles
from keras_peft.errors import AdapterError, OptionError
from keras_peft.interop._bundle import write_imported
from keras_peft.interop._locating import locate
from keras_peft.interop.hf_peft._base import load_base
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
    """Makes a bundle of a classifier that Hugging Face's transformers saved, and verifies it.

    The checkpoint stays where it is and is the bundle's base; the bundle has its head. To train on instead, name
    the checkpoint as `base` of `fine_tune`, which begins with its head.

    Args:
        source: A folder with a checkpoint of a class ForSequenceClassification or ForTokenClassification, of an
            architecture that can be a base; or its `hf://owner/name`.
        out: Folder of the bundle to write.
        base: Nothing, as the checkpoint is its own base.
        labels: What the head's outputs mean, in their order; those of its config.json by default.
        task: What the head means; by default what `problem_type` of its config.json says.
        max_length: Most tokens of a text; as many as the checkpoint reads by default.
        overwrite: Replace a bundle that lies at `out`.

    Returns:
        The bundle.

    Raises:
        AdapterError: If the checkpoint is no classifier, or its head is damaged; all that is wrong is in the message.
        OptionError: If a base is named.
        BaseError: If the checkpoint cannot be had, or is of no architecture that can be read.
        BundleError: If the bundle cannot be written.

    Example:
        >>> keras_peft.interop.import_hf_model("./classifier", out="my-bundle").labels
        ('negative', 'positive')
    """
    if base is not None:
        raise OptionError(
            f"{source} is a whole classifier, which is its own base; leave `base={base!r}` out."
        )
    out = Path(out)
    bundles.refuse_existing(out, overwrite=overwrite)
    # A folder may be called as a base is that has a name of its own.
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
    """Returns how many tokens a checkpoint's tokenizer cuts to; None where it does not say."""
    try:
        said = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["model_max_length"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return int(said) if isinstance(said, int) else None
