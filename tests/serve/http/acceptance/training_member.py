"""One of several processes that train an adapter together.

    python training_member.py RANK PROCESSES PORT FOLDER ROWS...

Trains once for each number of rows and prints the losses. The first process saves each adapter in the folder,
named by the number of rows.
"""

import json
import os
import sys
from pathlib import Path


def main(rank, processes, port, folder, counts):
    """Joins the other processes, if any, and trains."""
    os.environ.update(KERAS_BACKEND="jax", JAX_PLATFORMS="cpu", JAX_CPU_COLLECTIVES_IMPLEMENTATION="gloo")
    sys.path.insert(0, str(Path(__file__).parents[3]))
    import keras

    if processes > 1:
        keras.distribution.initialize(f"127.0.0.1:{port}", num_processes=processes, process_id=rank)
    # JAX must be imported after initialising the distribution.
    import jax
    import numpy as np
    import tensorflow as tf

    import keras_peft
    from core import models
    from core.trying import dense

    assert jax.process_count() == processes
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    found = []
    for rows in counts:
        keras.utils.set_random_seed(0)
        model = keras_peft.adapt(models.small_distilbert(), keras_peft.LoRA(rank=2), head=dense())
        draw = np.random.default_rng(0)
        ids = draw.integers(1, 20, (rows, 10)).astype("int32")
        inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
        data = tf.data.Dataset.from_tensor_slices((inputs, draw.normal(size=(rows, 3)).astype("float32")))
        model.compile(keras.optimizers.Adam(0.01), "mse")
        found.append(model.fit(data.batch(4), epochs=3, verbose=0, shuffle=False).history["loss"])
        if rank == 0:
            keras_peft.save_adapter(model, folder / str(rows))
    sys.stdout.write(f"{json.dumps(found)}\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), Path(sys.argv[4]), [int(rows) for rows in sys.argv[5:]])
