"""Tests of how the loss of another process is recognised."""

import pytest

import keras_peft
from keras_peft.errors import OptionError
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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": 4}, "`workers=4` needs `on='ray'`"),
        ({"on": "ray", "distributed": True}, "omit one of them"),
        ({"gpus": 1}, "`gpus=1` needs `on='ray'`"),
        ({"on": "ray", "gpus": -1}, "`gpus=-1`: expected 0 or more"),
        ({"on": "slurm"}, "expected one of machine, ray"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(options, words, tmp_path):
    with pytest.raises(OptionError, match=words):
        keras_peft.fine_tune("rows.csv", out=tmp_path / "b", **options)
