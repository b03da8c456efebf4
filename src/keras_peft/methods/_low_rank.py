"""What the methods with two narrow matrices have in common."""

from __future__ import annotations

from keras_peft.core.method import Weight


def uniform_by_inputs(inputs: int) -> object:
    """An initialiser uniform in ±1/sqrt(inputs), as LoRA's A starts."""
    import keras

    bound = inputs**-0.5
    return keras.initializers.RandomUniform(-bound, bound)


def factors(inputs: int, rank: int, outputs: int) -> dict[str, Weight]:
    """A of (inputs, rank), random, and B of (rank, outputs), zero."""
    return {
        "a": Weight((inputs, rank), uniform_by_inputs(inputs)),  # type: ignore[arg-type]
        "b": Weight((rank, outputs), "zeros"),
    }
