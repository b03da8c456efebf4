"""VeRA: two vectors for each site, and shared, frozen matrices that are saved."""

from __future__ import annotations

import keras_peft
from methods.counting import BLOCKS, DIM, INNER, adapted, count


def test_count():
    assert count(keras_peft.methods.VeRA(rank=5)) == 2 * BLOCKS * (5 + DIM)


def test_matrices_are_as_large_as_the_largest_site():
    model = adapted(keras_peft.methods.VeRA(rank=5), targets=["attention.query", "ffn.up", "ffn.down"])
    tensors = model.adapter_tensors()
    assert tensors["vera/a"].shape == (INNER, 5)
    assert tensors["vera/b"].shape == (5, INNER)
    assert not {"vera/a", "vera/b"} & set(model.adapter_variables())
