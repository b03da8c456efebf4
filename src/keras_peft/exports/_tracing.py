"""SavedModels of adapted models, traced by Keras. LiteRT and OpenVINO read them too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.errors import OptionError
from keras_peft.exports._copying import folded
from keras_peft.graph.names import IDS, LOGITS, MASK

if TYPE_CHECKING:
    from keras_peft.predict import Classifier

SIGNATURE = "serving_default"
"""Name of the signature, as TensorFlow Serving expects it."""


def need_tensorflow(what: str) -> None:
    """Checks that Keras runs on TensorFlow.

    Args:
        what: What needs it. It starts the error message.

    Raises:
        OptionError: If Keras runs on another backend.
    """
    import keras

    if (backend := keras.config.backend()) != "tensorflow":
        raise OptionError(
            f"{what} needs Keras on TensorFlow, and it runs on {backend}; set KERAS_BACKEND=tensorflow, on which "
            "bundles of other backends work as well."
        )


def write_traced(folder: Path, classifier: Classifier) -> None:
    """Writes a SavedModel with the adapter merged if possible, and the task folded into the head.

    Args:
        folder: Folder to write.
        classifier: The bundle in Keras on TensorFlow. It is unchanged afterwards.
    """
    import keras

    # Without `archive.track(model)`, which would store each variable twice: keras-team/keras#23553. The variables that
    # the function reads are stored in any case.
    archive = keras.export.ExportArchive()
    with folded(classifier.model, classifier.task) as model:

        def serve(input_ids: Any, attention_mask: Any) -> dict[str, Any]:
            return {LOGITS: model({"token_ids": input_ids, "padding_mask": attention_mask}, training=False)}

        signature = [keras.InputSpec(shape=(None, None), dtype="int32", name=name) for name in (IDS, MASK)]
        archive.add_endpoint("serve", serve, input_signature=signature)
        archive.write_out(str(folder), verbose=False)
