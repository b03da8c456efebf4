"""The candidates of a comparison, and how much work they are."""

from __future__ import annotations

import pytest

from keras_peft import BitFit, LoRA, methods, tasks
from keras_peft.comparing.candidates import chosen, is_trained, method_of, name_of, work
from keras_peft.comparing.jobs import Job
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


def test_methods_with_options_are_candidates_of_their_own():
    given = [LoRA(rank=4), "lora(rank=16, alpha=4)", "lora", BitFit]
    named = chosen(given, TEXTS)
    assert [one.name for one in named] == ["lora(rank=4)", "lora(rank=16, alpha=4)", "lora", "bitfit"]
    assert [one.title for one in named][:2] == ["LoRA with rank=4", "LoRA with rank=16, alpha=4"]
    assert chosen("lora(rank=4),lora(rank=16, alpha=4), lora, bitfit", TEXTS) == named
    assert chosen(LoRA(rank=4), TEXTS) == named[:1]
    assert all(is_trained(one.name) for one in named)


def test_a_name_says_the_options():
    method = LoRA(rank=4, initialization="pissa", rank_stabilized=True)
    assert name_of(method) == "lora(rank=4, rank_stabilized=True, initialization='pissa')"
    assert method_of(name_of(method)) == method


def test_candidates_have_files_of_their_own():
    names = ["lora", "lora(rank=4)", "lora(rank=4, alpha=2)", "prompt(text='a/b')", "prompt(text='a:b')"]
    files = [Job(name, 0, 1).name for name in [*names, "x" * 300]]
    assert files[:2] == ["lora-0-1", "lora(rank=4)-0-1"]
    assert len(set(files)) == len(files)
    assert not set("".join(files)) & set("/:' ")
    assert max(map(len, files)) < 120


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("lora,bitfti", "'bitfti' is unknown; expected all, or some of .* Did you mean 'bitfit'?"),
        ("lora,lora", "lora is given twice"),
        ([LoRA(rank=4), "lora( rank = 4 )"], r"lora\(rank=4\) is given twice"),
        (["lora", LoRA(rank=8), LoRA], "lora is given twice"),
        ("lroa(rank=4)", "'lroa\\(rank=4\\)' is unknown; .* Did you mean 'lora'?"),
        ("lora(rank=4", "'lora\\(rank=4' is unknown"),
        ("words(a=1)", "'words\\(a=1\\)' is unknown"),
        ("lora(rnk=4)", "lora has no option 'rnk'; .* Did you mean 'rank'?"),
        ("lora(rank=0)", "`rank` must be at least 1, got 0"),
        ("lora(4)", "options of 'lora\\(4\\)' cannot be read"),
        ("lora(**{'rank': 4})", "cannot be read"),
        ("lora(rank=print())", "cannot be read"),
        (f"lora(rank={'(' * 400}4{')' * 400})", "cannot be read"),
        ([3], "3 is unknown"),
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
