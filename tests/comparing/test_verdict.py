"""What is recommended, what cannot be told apart, and how it is said."""

import json

import msgspec
import numpy as np
import pytest

from comparing.studies import TASK, difficulty, results, right, study
from keras_peft.comparing import racing
from keras_peft.comparing.findings import sentences
from keras_peft.comparing.racing import clearly_beaten
from keras_peft.comparing.results import Result
from keras_peft.comparing.verdict import judge
from keras_peft.errors import DataError, OptionError


def scored(accuracies, rows=300, seeds=3):
    generator = np.random.default_rng(1)
    same = difficulty(rows, 0)
    return {name: right(accuracy, same, generator, seeds=seeds) for name, accuracy in accuracies.items()}


def judged(accuracies, rows=300, *, seconds=None, parameters=None, folds=None, **changes):
    own = scored(accuracies, rows)
    how = "cross-validation" if folds else "test"
    made = results(own, seconds=seconds, parameters=parameters, folds=folds)
    return judge(study(own, how=how, **changes), made)


def places(verdict):
    return {one.candidate.name: one.place for one in verdict.standings}


NEAR = {"lora": 0.9, "ia3": 0.9, "prompt": 0.6}


@pytest.mark.parametrize("folds", [None, 5])
def test_the_cheapest_of_those_next_to_the_best_is_recommended(folds):
    verdict = judged(
        NEAR,
        seconds={"lora": 60.0, "ia3": 40.0, "prompt": 5.0},
        parameters={"lora": 9_000, "ia3": 20_000, "prompt": 10},
        folds=folds,
    )
    assert sorted(places(verdict).values()) == ["below", "best", "same"]
    assert places(verdict)["prompt"] == "below"
    assert verdict.recommended is verdict.cheapest
    assert verdict.recommended.candidate.name == "ia3"
    assert verdict.smallest.candidate.name == "lora"
    first, *rest = sentences(verdict)
    assert first == (
        "Use Ia3: it trains in 40 s, the shortest time of the 2 methods that are within 0.02 of the best accuracy and "
        "cannot be told apart from it."
    )
    assert any("one other is clearly below" in one for one in rest)
    assert any(one.endswith("Lora has the fewest trainable parameters: 9.0 K.") for one in rest)


def test_few_rows_recommend_no_method_that_was_much_worse():
    """On 40 rows a method that is right in 5 fewer cannot be told apart, but is not recommended either."""
    rows = np.arange(40)
    own = {"lora": [rows >= 4], "prompt": [(rows >= 12) | (rows < 3)]}
    verdict = judge(study(own), results(own, seconds={"lora": 60.0, "prompt": 5.0}))
    assert places(verdict) == {"lora": "best", "prompt": "same"}
    assert verdict.cheapest.candidate.name == "prompt"
    assert verdict.recommended.candidate.name == "lora"
    said = sentences(verdict)
    assert (
        said[0] == "Use Lora: its accuracy is the highest, and that of no other method is within 0.02 of it."
    )
    assert "Prompt trains in 5.0 s and cannot be told apart from the best either" in " ".join(said)
    assert "Prompt cannot be told apart from it." in said
    assert said[-1].startswith("To find a difference of 0.02, about ")
    assert said[-1].endswith("there are 40.")


def test_enough_rows_need_no_more():
    same = np.arange(5_000) % 10 > 0
    other = same.copy()
    other[:20] = ~other[:20]
    own = {"lora": [same], "ia3": [other]}
    verdict = judge(study(own), results(own))
    assert verdict.needed[0] <= verdict.needed[1] < 5_000
    assert not any("needed" in one for one in sentences(verdict))


def test_seeds_that_differ_much_ask_for_more_seeds():
    generator = np.random.default_rng(1)
    same = difficulty(600, 0)
    own = {f"method {n}": right(0.85, same, generator, spread=0.05) for n in range(4)}
    told = "The results depend so much on the seed that a difference of 0.02 also takes more seeds to find."
    assert told in sentences(judge(study(own), results(own)))
    own = {f"method {n}": right(0.85, same, generator) for n in range(4)}
    assert told not in sentences(judge(study(own), results(own)))


def test_yardsticks_are_compared_with_the_best_method():
    """The first is as good in all but two rows, the others are not."""
    good = np.arange(300) >= 30
    own = {"lora": [good], "words!": [good & (np.arange(300) < 298)]}
    own |= {"vectors!": [good & (np.arange(300) < 240)], "probe!": [good & (np.arange(300) < 200)]}
    verdict = judge(study(own), results(own, seconds={"words!": 0.1}))
    assert verdict.recommended.candidate.name == "lora"
    said = sentences(verdict)
    assert "No method is shown to be better than Words! (0.893)." in said
    assert "Vectors! (0.700) and Probe! (0.567) are clearly below the best method." in said


def test_a_yardstick_that_is_clearly_better_is_said():
    verdict = judged({"lora": 0.6, "words!": 0.9})
    assert verdict.recommended is None
    assert sentences(verdict)[0] == (
        "Use none of the methods: the accuracy of Words! (0.896) is clearly above that of each, the best of which is "
        "Lora (0.573)."
    )
    assert "is clearly above the best method" not in " ".join(sentences(verdict))


def test_a_better_yardstick_that_is_a_method_is_recommended():
    own = scored({"lora": 0.6, "full": 0.9})
    known = study(own)
    candidates = [
        msgspec.structs.replace(one, kind="yardstick") if one.name == "full" else one
        for one in known.candidates
    ]
    verdict = judge(msgspec.structs.replace(known, candidates=candidates), results(own))
    assert verdict.recommended.candidate.name == "full"
    assert sentences(verdict)[0] == "Use Full: its accuracy is clearly above that of every method."


def as_yardsticks(scores):
    """The verdict on candidates that are all yardsticks."""
    own = scored(scores)
    known = study(own)
    candidates = [msgspec.structs.replace(one, kind="yardstick") for one in known.candidates]
    return judge(msgspec.structs.replace(known, candidates=candidates), results(own))


def test_without_a_method_nothing_is_said_of_methods():
    verdict = as_yardsticks({"linear-probe": 0.8, "words": 0.79})
    assert sentences(verdict)[0] == (
        "Use Linear-Probe: of the candidates that a bundle can be trained with, it has the highest accuracy."
    )
    assert sentences(verdict)[2] == "Words cannot be told apart from it."
    verdict = as_yardsticks({"vectors": 0.8, "words": 0.79})
    assert verdict.recommended is None
    assert sentences(verdict)[0] == (
        "No bundle can be trained with any of these yardsticks; compare them with a method."
    )


def test_a_single_candidate():
    verdict = judged({"lora": 0.9})
    assert verdict.recommended.candidate.name == "lora"
    assert verdict.needed is None
    assert "only candidate" in sentences(verdict)[0]


def test_candidates_without_results_are_named():
    own = scored(NEAR)
    made = [one for one in results(own) if one.candidate != "prompt"]
    verdict = judge(study(own, left_out=["The budget left out Prompt."]), made)
    assert [one.name for one in verdict.missing] == ["prompt"]
    assert sentences(verdict)[-2:] == ["Too few results to compare: Prompt.", "The budget left out Prompt."]
    with pytest.raises(DataError, match="No candidate has results yet"):
        judge(study(own), [])


def test_a_candidate_with_options_is_not_taken_for_another():
    own = scored({"lora": 0.9, "ia3": 0.6, "lora(rank=4)": 0.8})
    left = ["The budget left out lora(rank=4) (about 3 s)."]
    made = [one for one in results(own) if one.candidate == "ia3"]
    said = sentences(judge(study(own, left_out=left), made))
    assert said[-2:] == ["Too few results to compare: Lora.", *left]


def test_the_order_of_the_rows_in_a_result_does_not_matter():
    own = scored(NEAR)
    made = results(own)
    turned = [
        msgspec.structs.replace(one, counts=one.counts[::-1], test_rows=one.test_rows[::-1])
        if one.candidate == "ia3"
        else one
        for one in made
    ]
    assert judge(study(own), turned).to_json() == judge(study(own), made).to_json()


def test_an_incomplete_cross_validation_is_left_out():
    own = scored(NEAR)
    made = results(own, folds=5)
    fewer = [
        one for one in made if (one.candidate, one.seed, one.fold) not in {("ia3", 2, 4), ("prompt", 0, 1)}
    ]
    verdict = judge(
        study(own, how="cross-validation"),
        [one for one in fewer if one.candidate != "prompt" or not one.seed],
    )
    assert {one.candidate.name: one.seeds for one in verdict.standings} == {"lora": 3, "ia3": 2}
    assert [one.name for one in verdict.missing] == ["prompt"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"test_rows": [7, 8]}, "ia3 has not one list of counts for each test row"),
        ({"test_rows": list(range(1, 301))}, "scored on different rows"),
        ({"seed": 0}, "ia3 has two results for the same seed and fold"),
        ({"counts": [[1.0]] * 300}, "different numbers of counts"),
        ({"fold": 0}, "Some results are those of test rows and others those of a cross-validation"),
    ],
)
def test_results_that_do_not_belong_together(changes, told):
    own = scored(NEAR)
    *others, last = results({name: own[name] for name in ("lora", "prompt", "ia3")})
    with pytest.raises(DataError, match=told):
        judge(study(own), [*others, msgspec.structs.replace(last, **changes)])


def test_counts_of_another_task():
    own = scored({"lora": 0.9})
    with pytest.raises(DataError, match="The counts are not those of the task multi-label"):
        judge(study(own, task="multi-label"), results(own))
    with pytest.raises(OptionError, match="nothing"):
        judge(study(own, task="nothing"), results(own))


def test_the_verdict_as_json():
    content = judged(NEAR).to_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert [one["candidate"] for one in content["candidates"]][-1] == "prompt"
    assert content["candidates"][0]["against_best"] is None
    assert content["candidates"][-1]["p"] < 0.05


def test_a_result_survives_its_file():
    (made,) = results({"lora": [np.array([True, False])]})
    assert msgspec.json.decode(msgspec.json.encode(made), type=Result) == made
    content = msgspec.to_builtins(made)
    with pytest.raises(msgspec.ValidationError, match="unknown field `more`"):
        msgspec.convert({**content, "more": 1}, Result)


@pytest.mark.parametrize("folds", [None, 5])
def test_only_those_clearly_below_the_best_method_are_beaten(folds):
    own = scored({"lora": 0.9, "ia3": 0.895, "prompt": 0.6, "words!": 0.5, "full!": 0.99}, rows=400, seeds=1)
    assert clearly_beaten(TASK, results(own, folds=folds)) == {"prompt", "words!"}


def test_the_best_method_is_rarely_beaten(monkeypatch):
    """With seed 0 only; the best of six is better by 0.01, and its trainings vary by 0.01 with the seed."""
    monkeypatch.setattr(racing, "_RESAMPLES", 500)
    lost = 0
    for repetition in range(60):
        generator = np.random.default_rng(repetition)
        same = difficulty(300, repetition)
        own = {
            f"method {n}": right(0.88 if n else 0.89, same, generator, seeds=1, spread=0.01) for n in range(6)
        }
        lost += "method 0" in clearly_beaten(TASK, results(own))
    assert lost <= 3


def test_nothing_is_beaten_before_two_have_results():
    assert clearly_beaten(TASK, results(scored({"lora": 0.9}))) == set()
    assert clearly_beaten(TASK, []) == set()


def test_a_single_method_is_not_above_every_other():
    rows = np.arange(200)
    own = {"lora": [rows >= 10], "words!": [rows >= 90]}
    verdict = judge(study(own), results(own))
    assert sentences(verdict)[0] == "Use Lora, the only method with results."
