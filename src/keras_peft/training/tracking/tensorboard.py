"""TensorBoard event files; `tensorboard --logdir logs` shows them.

They are written with TensorFlow alone. Keras's own callback also needs the package
`tensorboard`, which is only required to view them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from keras_peft.training.tracking import TrackedRun

if TYPE_CHECKING:
    import keras

PACKAGE = "tensorflow"


@contextmanager
def tracked(run: TrackedRun) -> Iterator[keras.callbacks.Callback]:
    """Writes the metrics of each epoch to event files, replacing those of an earlier run of this name."""
    import keras
    import tensorflow as tf

    if not run.resumed and run.folder.is_dir():
        for file in run.folder.glob("*/events.out.tfevents.*"):
            file.unlink()
    writers = {
        part: tf.summary.create_file_writer(str(run.folder / part)) for part in ("train", "validation")
    }
    kind = tf.compat.v1.SummaryMetadata
    scalar = kind(plugin_data=kind.PluginData(plugin_name="scalars"), data_class=1)

    class EventWriter(keras.callbacks.Callback):
        """Writes the metrics of each epoch; training and validation values share a chart."""

        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            for key, value in (logs or {}).items():
                part = "validation" if key.startswith("val_") else "train"
                if part not in writers:
                    writers[part] = tf.summary.create_file_writer(str(run.folder / part))
                with writers[part].as_default():
                    name = f"epoch_{key.removeprefix('val_')}"
                    tf.summary.write(name, tf.constant(value, tf.float32), step=epoch + 1, metadata=scalar)
            for writer in writers.values():
                writer.flush()

    try:
        yield EventWriter()
    finally:
        for writer in writers.values():
            writer.close()
