"""Side: this package, called from Python on whatever device its backend chooses.

    python benchmarks/gpu/ours.py --model BASE --train FILE --test FILE --out FOLDER

Prints one line of JSON with the seconds of each epoch, from the beginning of the epoch to the end of its last step,
and the losses.
"""

from __future__ import annotations

import argparse
import json
import time


def main() -> None:
    """Trains and prints."""
    task = parse()
    import jax
    import keras

    import keras_peft
    from keras_peft.progress import Progress

    class EpochTimes(keras.callbacks.Callback):
        """Measures the steps of each epoch."""

        def __init__(self) -> None:
            super().__init__()
            self.seconds: list[float] = []

        def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
            """Starts the clock."""
            self._began = time.perf_counter()
            self.seconds.append(0.0)

        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            """Stops the clock. The loss is known, so the step is complete."""
            self.seconds[-1] = time.perf_counter() - self._began

    times = EpochTimes()
    result = keras_peft.fine_tune(
        task.train,
        out=task.out,
        validation=task.test,
        base=task.model,
        method=keras_peft.LoRA(rank=task.rank),
        layers=task.blocks,
        epochs=task.epochs,
        batch_size=task.batch_size,
        max_length=task.max_length,
        seed=task.seed,
        frozen_precision=task.precision,
        trunk_cache=task.trunk_cache,
        overwrite=True,
        callbacks=[times],
        progress=Progress(),
    )
    report = result.to_json()
    device = jax.devices()[0]
    print(
        json.dumps(
            {
                "device": device.device_kind,
                "platform": device.platform,
                "trunk_seconds": report["seconds"].get("trunk", 0.0),
                "epoch_seconds": times.seconds,
                "losses": [epoch["loss"] for epoch in report["history"]],
                "accuracy": report["accuracy"],
            }
        )
    )


def parse() -> argparse.Namespace:
    """Parses the task from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("model", "train", "test", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--blocks", default="last:2")
    for name, value in (("epochs", 3), ("batch-size", 16), ("max-length", 64), ("rank", 8), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--precision", default="bfloat16", help="of products with frozen matrices")
    parser.add_argument("--no-trunk-cache", dest="trunk_cache", action="store_false")
    return parser.parse_args()


if __name__ == "__main__":
    main()
