"""Tests of what processes exchange."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from hypothesis.extra import numpy as arrays

from keras_peft.training.distributed.packing import packed, unpacked

plain = strategies.none() | strategies.booleans() | strategies.integers() | strategies.text()
some_array = arrays.arrays(
    strategies.sampled_from([np.float16, np.float32, np.int32, np.uint8, np.bool_]),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
content = strategies.recursive(
    plain | some_array,
    lambda inner: (
        strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(), inner, max_size=3)
    ),
    max_leaves=8,
)


def equal(one, other):
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    return one == other and type(one) is type(other)


@hypothesis.given(content)
def test_content_arrives_as_it_was_sent(content):
    assert equal(content, unpacked(packed(content)))


def test_numbers_of_numpy_become_plain_ones():
    assert unpacked(packed({"rows": np.int64(3), "of": (np.float32(0.5), 2)})) == {"rows": 3, "of": [0.5, 2]}


def test_other_objects_are_refused():
    with pytest.raises(TypeError):
        packed({"object": object()})
