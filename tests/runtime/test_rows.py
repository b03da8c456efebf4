"""Batching rows by length."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_peft.inputs.tokens import Tokens
from keras_peft.runtime.rows import inference_batches


def tokens_of(lengths):
    return Tokens(tuple(np.full(length, n + 1, np.int32) for n, length in enumerate(lengths)), truncated=0)


@given(st.lists(st.integers(1, 600), min_size=1, max_size=300))
@settings(deadline=None, max_examples=50)
def test_inference_batches_hold_every_row(lengths):
    seen = []
    for rows, inputs in inference_batches(tokens_of(lengths)):
        assert len(rows) * max(np.array(lengths)[rows]) <= max(1024, 8 * max(lengths))
        np.testing.assert_array_equal(inputs["padding_mask"].sum(axis=1), np.array(lengths)[rows])
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(lengths)))
