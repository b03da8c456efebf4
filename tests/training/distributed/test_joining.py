"""Tests of how the loss of another process is recognised."""

import pytest

from keras_peft.training.distributed.joining import is_of_lost_process


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Gloo all-reduce failed: [external/gloo/pair.cc:553] Connection reset by peer", True),
        ("NCCL operation ncclAllReduce failed: remote process exited", True),
        ("The task has missed its heartbeat.", True),
        ("RESOURCE_EXHAUSTED: Out of memory while compiling the step", False),
        ("Connection refused by the tracking server", False),
        ("compilation failed: simple error", False),
    ],
)
def test_other_errors_are_not_taken_for_a_lost_process(message, expected):
    assert is_of_lost_process(ValueError(message)) is expected
