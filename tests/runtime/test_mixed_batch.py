"""Mixed batches: one model for each adapter shape, and errors for rows that cannot share a batch."""

import gc

import pytest

import keras_peft
from conftest import TINY
from keras_peft import sources
from keras_peft.core.placement import Placement
from keras_peft.core.selection import Selection
from keras_peft.errors import AdapterError
from keras_peft.runtime.mixed_batch import MixedBatchBase


@pytest.fixture(scope="module")
def base():
    return MixedBatchBase(sources.load(str(TINY)).encoder)


def test_tops_that_no_adapter_has_are_forgotten_but_for_the_last_ones():
    base = MixedBatchBase(sources.load(str(TINY)).encoder)

    def ask(rank):
        return base.top(
            [Placement(keras_peft.LoRA(rank=rank), Selection(("attention.query",)))], pooling="first-token"
        )

    in_use = ask(1)
    # The traced function does not hold one either.
    ask(2).warm_up()
    for rank in range(3, 22):
        ask(rank)
    assert ask(21) is ask(21)
    gc.collect()
    assert len(base._tops) == 16 + 1
    assert ask(1) is in_use


def test_what_moves_the_base_itself_is_refused(base):
    placement = Placement(keras_peft.FullFineTuning(), Selection.of(["ffn.up"], "last:1"))
    with pytest.raises(AdapterError, match="cannot share a batch: it uses full"):
        base.top([placement], pooling="first-token")


def test_the_same_method_twice_at_a_site_is_refused(base):
    placement = Placement(keras_peft.LoRA(rank=2), Selection.of(["attention.query"], "last:1"))
    with pytest.raises(AdapterError, match="a method can act only once per layer"):
        base.top([placement, placement], pooling="first-token")
