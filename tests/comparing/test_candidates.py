"""The candidates of a comparison, and how much work they are."""

from __future__ import annotations

import pytest

from keras_peft import methods, tasks
from keras_peft.comparing.candidates import chosen, work
from keras_peft.errors import OptionError

TEXTS, WORDS = tasks.find("single-label"), tasks.find("token-labels")


def test_all_are_all_methods_and_the_yardsticks_that_suit_the_task():
    assert {one.name for one in chosen("all", TEXTS)} == {*methods.names(), "words", "vectors"}
    assert {one.name for one in chosen("all", WORDS)} == {*methods.names(), "words"}


def test_some_are_chosen_by_name_in_their_order():
    names = [one.name for one in chosen("words, lora,full", TEXTS)]
    assert (
        names == [one.name for one in chosen(["words", "lora", "full"], TEXTS)] == ["words", "lora", "full"]
    )
    assert [one.kind for one in chosen("words,lora,full", TEXTS)] == ["yardstick", "method", "yardstick"]


def test_titles_are_short():
    titles = {one.name: one.title for one in chosen("all", TEXTS)}
    assert titles["lora"] == "LoRA"
    assert titles["full"] == "Full fine-tuning"
    assert titles["pfeiffer-norm"] == "Adapter layers (Pfeiffer, at the norm)"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("lora,bitfti", "'bitfti' is unknown; expected all, or some of .* Did you mean 'bitfit'?"),
        ("lora,lora", "a name is given twice in lora, lora"),
        ([], "expected at least one method, got none"),
        ("", "'' is unknown"),
    ],
)
def test_what_cannot_be_compared_is_refused(asked, message):
    with pytest.raises(OptionError, match=message):
        chosen(asked, TEXTS)


def test_a_yardstick_that_does_not_suit_the_task_is_refused():
    with pytest.raises(OptionError, match="vectors has no meaning for the task token-labels"):
        chosen("vectors", WORDS)


def test_the_work_grows_with_the_blocks_that_gradients_flow_through():
    of_base = {
        name: work(name, TEXTS, 6) for name in ("words", "linear-probe", "lora", "bitfit", "full", "prompt")
    }
    assert of_base["words"] == of_base["linear-probe"] == 0
    assert of_base["lora"] == 2
    assert of_base["bitfit"] == of_base["full"] == 6
    assert of_base["prompt"] > 6  # Its positions make every text longer.
    assert work("lora", TEXTS, 1) == 1
    assert work("bitfit", TEXTS, None) > work("lora", TEXTS, None)
