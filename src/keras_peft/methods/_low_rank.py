"""Weights and initialisers shared by the low-rank methods."""

from __future__ import annotations

from keras_peft.core.method import Weight


def uniform_by_inputs(inputs: int) -> object:
    """Returns a uniform initialiser in ±1/sqrt(inputs), as used for LoRA's A."""
    import keras

    bound = inputs**-0.5
    return keras.initializers.RandomUniform(-bound, bound)


def factors(inputs: int, rank: int, outputs: int) -> dict[str, Weight]:
    """Returns A (inputs, rank), random, and B (rank, outputs), zero."""
    return {
        "a": Weight((inputs, rank), uniform_by_inputs(inputs)),  # type: ignore[arg-type]
        "b": Weight((rank, outputs), "zeros"),
    }
