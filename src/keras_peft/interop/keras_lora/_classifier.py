"""Import of a LoRA-trained KerasHub classifier as a bundle.

A LoRA file has no head. The file of the classifier's `save_weights` has the head, the trained biases, and the
kernels with LoRA added, which show whether the base model, the LoRA and its alpha are the right ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import keras
import numpy as np

from keras_peft import attach, sources, tasks
from keras_peft import bundle as bundles
from keras_peft.bundle.verifying import TOLERANCE
from keras_peft.errors import AdapterError, BaseNotFound, OptionError, listed
from keras_peft.files import sha256_of
from keras_peft.interop._bundle import labelled, write_imported
from keras_peft.interop._locating import locate
from keras_peft.interop.keras_lora._file import ENDING
from keras_peft.interop.keras_lora._read import ReadAdapter, backbone_of, translate

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.sources import Base
    from keras_peft.tasks import Task

WEIGHTS = ".weights.h5"
_LAYERS = ("pooled_dense", "logits")


def import_classifier(
    source: str | Path,
    *,
    out: str | Path,
    base: str | None = None,
    labels: Sequence[str] | None = None,
    task: str | None = None,
    max_length: int | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Imports a LoRA-trained KerasHub text classifier as a bundle, and verifies it.

    Args:
        source: `name.lora.h5`, from the backbone's `save_lora_weights`, with `name.weights.h5`, from the
            classifier's `save_weights`, in the same folder; or a folder with these two files.
        out: Folder to write the bundle to.
        base: Base model that was trained on, as accepted by `load_base`. Required.
        labels: Labels in the order of the head's outputs; defaults to LABEL_0, LABEL_1 and so on.
        task: Name of the task; defaults to "single-label".
        max_length: Maximum tokens per text; defaults to the base model's limit.
        overwrite: Replace an existing bundle at `out`.

    Returns:
        The bundle. Its logits match those of the classifier.

    Raises:
        AdapterError: If the weights are missing, or are not those of the base model with this LoRA.
        OptionError: If the task or the labels do not fit the classifier.
        BaseError: If the base model is not named or cannot be loaded.
        BundleError: If the bundle cannot be written.
    """
    path, out = file_in(locate(source)), Path(out)
    bundles.refuse_existing(out, overwrite=overwrite)
    weights = path.with_name(path.name.removesuffix(ENDING) + WEIGHTS)
    if not weights.is_file():
        raise AdapterError(
            f"{path} is LoRA without a head, but a bundle is a classifier. Save the whole classifier to "
            f"{weights.name} in the same folder with classifier.save_weights(), and import it again. To import LoRA of "
            "a backbone or a language model, use Python: keras_peft.interop.import_keras_lora(file, model)."
        )
    if base is None:
        raise BaseNotFound(f"{path} does not name its base model; set `base`.")
    kind = tasks.find(task or "single-label")
    if kind.per_word or len(kind.input.columns) > 1:
        raise OptionError(
            f"{path}: KerasHub's text classifier reads one text, which does not fit the task {kind.name}; omit "
            "the task to use single-label."
        )
    loaded = sources.load(base)
    classifier = _classifier(weights, backbone_of(loaded.encoder))
    read = translate(path, loaded.encoder, trained_model=classifier)
    head = _head(classifier, weights)
    activation = keras.activations.serialize(classifier_layer(classifier, "pooled_dense").activation)
    try:
        made = labelled(
            kind, str(activation), labels or (), len(head["head/logits/bias"]), are_given=bool(labels)
        )
    except OptionError as error:
        raise OptionError(f"{weights}: {error}") from None
    _refuse_other_logits(weights, loaded, made, read, head, classifier)
    return write_imported(
        out,
        folder=path,
        source=f"the KerasHub LoRA {path.name}",
        sha256=sha256_of(path),
        base=loaded,
        task=made,
        methods=read.methods,
        tensors=read.tensors | head,
        max_length=max_length,
        overwrite=overwrite,
    )


def file_in(path: Path) -> Path:
    """Returns the LoRA file at a path, which may be the file or a folder with it.

    Raises:
        AdapterError: If a folder does not hold exactly one LoRA file.
    """
    if not path.is_dir():
        return path
    found = sorted(path.glob(f"*{ENDING}"))
    if len(found) != 1:
        raise AdapterError(f"{path} contains {listed(one.name for one in found)}; choose one of them.")
    return found[0]


def _classifier(weights: Path, backbone: keras.Model) -> keras.Model:
    """Builds the trained classifier on a copy of the backbone and loads its weights."""
    import keras_hub

    subclasses = keras_hub.models.TextClassifier.__subclasses__()
    found = next((one for one in subclasses if one.backbone_cls is type(backbone)), None)
    if found is None:
        raise AdapterError(f"KerasHub has no text classifier for a {type(backbone).__name__}.")
    outputs = _outputs(weights)
    classifier = found(type(backbone).from_config(backbone.get_config()), num_classes=outputs)
    if cause := _load(classifier, weights):
        raise AdapterError(
            f"{weights} was not saved by save_weights() of a {found.__name__} on the base: {cause} Pass the base "
            "that the classifier was created from, and save all of its weights, not only the task's."
        )
    return classifier


def _load(classifier: keras.Model, weights: Path) -> str:
    """Loads weights and returns the first mismatch, or an empty string if all of them fit."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            # KerasHub compiles a task on creation, and its optimizer may differ from the one in training.
            keras.saving.load_weights(classifier, weights, objects_to_skip=[classifier.optimizer])
        except (ValueError, KeyError) as error:
            # The first line counts the objects that do not fit; the second explains the first of them.
            return [line for line in str(error).splitlines() if line.strip()][:2][-1]
    # Keras only warns about layers that it skips.
    return next((str(one.message) for one in caught if issubclass(one.category, UserWarning)), "")


def _outputs(weights: Path) -> int:
    """Returns the number of outputs of the head in a Keras weights file."""
    sizes = []

    def visit(_: str, group: Any) -> None:
        # Keras names the group after the layer's class and stores the layer's name as an attribute.
        if isinstance(group, h5py.Group) and group.attrs.get("name") == "logits" and "0" in group:
            sizes.append(int(group["0"].shape[-1]))

    try:
        with h5py.File(weights) as file:
            file.visititems(visit)
    except OSError:
        raise AdapterError(f"{weights} is not an HDF5 file or is damaged; save it again.") from None
    if len(sizes) != 1:
        raise AdapterError(
            f"{weights} has {len(sizes)} layers named 'logits', but a classifier has one; write it with "
            "classifier.save_weights()."
        )
    return sizes[0]


def _head(classifier: keras.Model, weights: Path) -> dict[str, np.ndarray]:
    """Returns the head's values by their keys in an adapted model."""
    head: dict[str, np.ndarray] = {}
    for name in _LAYERS:
        layer = classifier_layer(classifier, name)
        head |= {
            f"head/{name}/{part}": keras.ops.convert_to_numpy(getattr(layer, part))
            for part in ("kernel", "bias")
        }
    inputs, outputs = head["head/pooled_dense/kernel"].shape
    if inputs != outputs:
        raise AdapterError(
            f"{weights} has a hidden layer of {inputs} × {outputs} in its head; only square ones are supported."
        )
    return head


def classifier_layer(classifier: keras.Model, name: str) -> keras.layers.Dense:
    """Returns a layer of a classifier's head by name; it may be the pooler of the backbone."""
    return next(layer for layer in classifier._flatten_layers() if layer.name == name)


def _refuse_other_logits(
    weights: Path,
    base: Base,
    task: Task,
    read: ReadAdapter,
    head: Mapping[str, np.ndarray],
    classifier: keras.Model,
) -> None:
    """Compares the imported model's logits with the classifier's on random token ids."""
    generator = np.random.default_rng(0)
    length = min(16, base.max_length)
    vocabulary = backbone_of(base.encoder).vocabulary_size
    inputs = {
        "token_ids": generator.integers(0, vocabulary, (8, length)).astype("int32"),
        "padding_mask": np.arange(length) < generator.integers(2, length + 1, (8, 1)),
    }
    inputs["padding_mask"] = inputs["padding_mask"].astype("int32")
    adapted = attach.adapt(base.encoder, read.methods, head=task.head(base.dim), pooling=task.pooling)
    adapted.assign_adapter_tensors({**read.tensors, **head})
    ours = keras.ops.convert_to_numpy(adapted(inputs, training=False))
    adapted.detach()
    given = {**inputs, "segment_ids": np.zeros_like(inputs["token_ids"])}
    theirs = classifier({name: given[name] for name in classifier.input}, training=False)
    difference = float(np.abs(ours - keras.ops.convert_to_numpy(theirs)).max())
    if not difference <= TOLERANCE:
        raise AdapterError(
            f"{weights}: the logits here differ from the classifier's by {difference:.1e}, more than "
            f"{TOLERANCE:.0e}, so its head computes something different."
        )
