"""Peer: Keras's own `enable_lora` on KerasHub's text classifier.

    python benchmarks/peers/keras_lora.py --model FOLDER --train FILE --test FILE

The code of a Keras user without this package: the preset's preprocessor, which pads
every text to the same length, the frozen backbone, `enable_lora` on the projections,
and `fit`. Prints one line of JSON.
"""

from __future__ import annotations

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_hub
import numpy as np
import tensorflow as tf
from task import parse, read, tell

SCORED_AT_ONCE = 64


class EpochTimes(keras.callbacks.Callback):
    """Measures the seconds of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts the clock."""
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Stops the clock."""
        self.seconds.append(time.perf_counter() - self._began)


def main() -> None:
    """Trains, evaluates and prints."""
    task = parse(__doc__)
    keras.utils.set_random_seed(task.seed)
    train, test, labels = read(task)
    model = keras_hub.models.TextClassifier.from_preset(str(task.model), num_classes=len(labels))
    preprocessor, model.preprocessor = model.preprocessor, None
    preprocessor.sequence_length = task.max_length

    # A frozen layer cannot enable LoRA, so its variables are frozen instead.
    for variable in model.backbone.variables:
        variable.trainable = False
    for number in task.chosen_blocks(model.backbone.num_layers):
        attention = model.backbone.get_layer(f"transformer_layer_{number}")._self_attention_layer
        for projection in (attention._query_dense, attention._value_dense):
            projection.enable_lora(task.rank, lora_alpha=2 * task.rank)
            projection.bias.trainable = False

    inputs = preprocessor(tf.constant(train.texts))
    rows = tf.data.Dataset.from_tensor_slices((inputs, np.array(train.targets)))
    batches = rows.shuffle(len(train.targets)).batch(task.batch_size).prefetch(2)
    model.compile(
        keras.optimizers.AdamW(task.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    times = EpochTimes()
    model.fit(batches, epochs=task.epochs, verbose=0, callbacks=[times])

    scored = preprocessor(tf.constant(test.texts))
    predicted = model.predict(scored, batch_size=SCORED_AT_ONCE, verbose=0).argmax(-1).tolist()
    tell(
        epoch_seconds=times.seconds,
        predicted=predicted,
        test=test,
        trainable_parameters=sum(int(np.prod(variable.shape)) for variable in model.trainable_variables),
    )


if __name__ == "__main__":
    main()
