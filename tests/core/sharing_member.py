"""One of two processes that share a base, with four virtual devices each.

    python sharing_member.py RANK PORT FOLDER

Trains an adapter with the other process and saves it. The first process then trains one alone, and saves it too.
"""

import os
import sys
from pathlib import Path


def main(rank, port, folder):
    """Joins the other process and trains."""
    os.environ.update(
        KERAS_BACKEND="jax",
        JAX_PLATFORMS="cpu",
        JAX_CPU_COLLECTIVES_IMPLEMENTATION="gloo",
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
    )
    import keras

    keras.distribution.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=rank)
    import keras_hub

    import keras_peft

    mesh = keras.distribution.DeviceMesh((2, 4), ("batch", "model"))
    layout_map = keras_hub.models.LlamaBackbone.get_layout_map(mesh)
    with keras.distribution.ModelParallel(layout_map=layout_map, batch_dim_name="batch").scope():
        model = trained()
        weights = [weight.value for weight in model.adapter_variables().values()]
        assert not any(weight.is_fully_addressable for weight in weights)
        keras_peft.save_adapter(model, folder / f"together{rank}")
        keras_peft.load_adapter(model, folder / f"together{rank}", "again")
        model.merge()
        model.unmerge()
        model.detach()
    if rank == 0:
        keras_peft.save_adapter(trained(), folder / "alone")


def trained():
    """Trains a small Llama; each process reads its half of the batches."""
    import keras
    import keras_hub
    import numpy as np
    import tensorflow as tf

    import keras_peft

    keras.utils.set_random_seed(0)
    base = keras_hub.models.LlamaBackbone(
        vocabulary_size=48,
        num_layers=1,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
    )
    model = keras_peft.adapt(base, keras_peft.LoRA(rank=2))
    ids = np.random.default_rng(0).integers(1, 48, (8, 6)).astype("int32")
    targets = np.random.default_rng(1).normal(size=(8, 6, 16)).astype("float32")
    rows = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.fit(tf.data.Dataset.from_tensor_slices((rows, targets)).batch(4), epochs=2, verbose=0)
    return model


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
