"""LoKr: parameter counts, and how sizes are split; test_hugging_face.py compares its outputs with HF PEFT."""

from __future__ import annotations

import pytest

import keras_peft
from methods.counting import BLOCKS, count


def test_count():
    # 16 = 4 × 4: K is (4, 4); with rank 1, A is (4, 1) and B (1, 4); from rank 2, C is (4, 4).
    assert count(keras_peft.methods.LoKr(rank=1)) == 2 * BLOCKS * (16 + 1 * (4 + 4))
    assert count(keras_peft.methods.LoKr(rank=2)) == 2 * BLOCKS * (16 + 16)


@pytest.mark.parametrize(
    ("size", "factor", "expected"),
    [(128, None, (8, 16)), (127, None, (1, 127)), (256, None, (16, 16)), (128, 4, (4, 32)), (12, 5, (3, 4))],
)
def test_sizes_are_split_near_the_root(size, factor, expected):
    assert keras_peft.methods.LoKr(factor=factor)._divided(size) == expected
