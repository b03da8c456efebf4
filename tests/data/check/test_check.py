"""Each data check reports its kind of problem with the affected rows, and nothing else."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import keras_peft
from conftest import TINY, make_rows, write_jsonl
from keras_peft.checking import check_data
from keras_peft.data.check.oddities import unmangled
from keras_peft.data.check.scripts import script_of
from keras_peft.data.duplicates import near_pairs
from keras_peft.errors import DataError, KerasPeftError, OptionError

ROWS = make_rows(40)


@pytest.fixture
def check(tmp_path):
    def checker(rows, others=None, **options):
        path = write_jsonl(tmp_path / "d.jsonl", rows)
        if others is not None:
            options["validation"] = write_jsonl(tmp_path / "v.jsonl", others)
        return check_data(path, base=str(TINY), **options)

    return checker


def found(report, name):
    checked = next(one for one in report.checks if one.name == name)
    assert all(finding.advice.endswith(".") for finding in checked.findings)
    return {finding.title: finding.rows for finding in checked.findings}


def test_sound_rows_have_no_findings(check):
    # The rows consist of the same few words, so a lower threshold would report near duplicates.
    report = check(ROWS, similarity=1.0)
    assert report.findings == ()
    assert (report.rows, report.text_form, report.label_form) == (40, "text", "label")
    assert report.facts("labels")["counts"] == {
        label: {"count": 20, "share": 0.5} for label in ("alpha", "beta")
    }


def test_oddities(check):
    odd = [
        {"text": " ", "label": "alpha"},
        {"text": "no label here", "label": None},
        {"text": "ok", "label": "alpha"},
        {"text": "a bell\x07 rings", "label": "alpha"},
        {"text": "a cafÃ© in Orléans, theyâ€™re open", "label": "alpha"},
        {"text": "a caf\ufffd", "label": "alpha"},
        {"text": "salt &amp; pepper", "label": "alpha"},
        {"text": "line<br/>break", "label": "beta"},
        {"text": "a cut emoji \ud83d", "label": "beta"},
        {"text": "word " * 2100, "label": "beta"},
        {"text": "a < b & c > d; AT&T; &nosuch;", "label": "beta"},
        {"text": "«À» São Paulo, ÂME", "label": "beta"},
    ]
    report = check([*ROWS, *odd])
    assert found(report, "oddities") == {
        "1 row has no text": (41,),
        "1 row has no label": (42,),
        "1 text has fewer than 3 characters": (43,),
        "1 text has more than 10,000 characters": (50,),
        "1 text contains control characters": (44,),
        "1 text contains replacement characters (\ufffd)": (46,),
        "1 text was read in the wrong encoding": (45,),
        "2 texts contain HTML": (47, 48),
        "1 text contains an unpaired surrogate": (49,),
    }
    samples = {finding.title: finding.samples for finding in report.findings}
    assert samples["1 text was read in the wrong encoding"] == (
        "row 45: a cafÃ© in Orléans, theyâ€™re open → a café in Orléans, they’re open",
    )
    assert samples["1 text contains control characters"] == (r"row 44: a bell\x07 rings",)
    assert report.facts("lengths")["over_limit"] == 1


@given(st.text("éüßñ€’“Жд日 abc\n"))
def test_mangled_text_is_repaired(text):
    read_wrongly = text.encode().decode("latin-1")
    assert unmangled(read_wrongly) == text
    # With these characters, a correct text can equal the wrongly decoded bytes of another: é€€ is 退.
    plain = re.sub("[ß’“€]", "", text)
    assert unmangled(plain) == plain


def test_duplicates_and_contradictions(check):
    text = "What a day it was by the sea, and how warm the water"
    rows = [
        *make_rows(4),
        {"text": f"{text}.", "label": "alpha"},
        {"text": f" {text}. ", "label": "alpha"},
        {"text": f"{text.upper()}!", "label": "beta"},
        {"text": f"{text}.", "label": "beta"},
    ]
    report = check(rows)
    assert found(report, "duplicates") == {
        "1 row is an exact duplicate": (6,),
        "4 rows are near duplicates of one another, in 1 group": (5, 6, 7, 8),
    }
    assert report.facts("duplicates")["near_groups"] == [[5, 6, 7, 8]]
    assert found(report, "contradictions")["1 text has contradictory labels"] == (5, 6, 8)
    assert "1 pair of near duplicates has different labels" in found(report, "contradictions")


def test_leakage(check):
    others = [
        {"text": ROWS[3]["text"], "label": "alpha"},
        {"text": ROWS[5]["text"].upper() + "!", "label": "alpha"},
        {"text": "nothing like any other", "label": "gamma"},
    ]
    report = check(ROWS, others, similarity=0.99)
    titles = list(found(report, "leakage").items())
    assert [rows for _, rows in titles] == [(1,), (2,), ()]
    assert "1 row of" in titles[0][0]
    assert "is also in" in titles[0][0]
    assert "is nearly in" in titles[1][0]
    assert titles[2][0].endswith("lacks: 'gamma'")
    assert report.facts("leakage") == {"rows": 1, "near": 1}


def test_labels_that_are_rare_or_look_alike(check):
    words = ["Positive", "positive ", "positives", "NEW_ITEM", "new-item", "as", "a", "NNP", "NNPS"]
    rows = [{"text": f"text number {n} {word}", "label": word} for n, word in enumerate(words)]
    report = check([*ROWS, *rows])
    assert report.facts("spelling")["alike"] == [
        ["Positive", "positive ", "positives"],
        ["NEW_ITEM", "new-item"],
    ]
    assert found(report, "spelling") == {"2 labels have several spellings": (42, 43, 45)}
    titles = list(found(report, "labels"))
    assert titles[0] == "9 labels have fewer than 10 examples"
    assert titles[1] == "the most frequent label 'alpha' is 20 times as frequent as the rarest"
    report = check([{"text": f"text {n}", "label": "x"} for n in range(12)])
    assert list(found(report, "labels")) == ["there is only one label"]


def test_lengths(check):
    rows = [*ROWS, {"text": "model " * 150, "label": "alpha"}]
    report = check(rows)
    assert report.facts("lengths") == {
        "base": str(TINY),
        "median": pytest.approx(14, abs=6),
        "percentile_95": pytest.approx(20, abs=6),
        "longest": 152,
        "default_limit": 128,
        "over_default": 1,
        "limit": report.facts("lengths")["limit"],
        "over_limit": int(report.facts("lengths")["limit"] < 152),
    }
    assert any(title.startswith("1 text is longer than the") for title in found(report, "lengths"))


def test_scripts(check):
    rows = [
        *ROWS,
        {"text": "Это совсем другой язык", "label": "alpha"},
        {"text": "これは日本語です", "label": "beta"},
    ]
    report = check(rows)
    assert found(report, "scripts") == {"2 texts are in a script other than Latin": (41, 42)}
    assert report.facts("scripts")["rows"] == {"Latin": 40, "Cyrillic": 1, "Chinese or Japanese": 1}
    assert [script_of(one) for one in "aé1Жあ漢"] == [
        "Latin",
        "Latin",
        "",
        "Cyrillic",
        "Chinese or Japanese",
        "Chinese or Japanese",
    ]


def test_the_other_forms_of_rows(check):
    pairs = [{"text_a": f"one {n}", "text_b": "two" * (n != 3), "label": "ab"[n % 2]} for n in range(20)]
    report = check(pairs)
    assert report.text_form == "pair"
    assert found(report, "oddities") == {"1 row has no text": (4,)}
    several = [{"text": f"text {n}", "labels": ["x"] * (n % 2) + ["y"] * (n % 3 > 0)} for n in range(30)]
    report = check(several)
    assert report.label_form == "labels"
    assert report.facts("labels")["counts"]["y"] == {"count": 20, "share": 20 / 35}
    assert "oddities" not in {one.name for one in report.checks if one.findings}
    values = [{"text": f"text {n}", "label": n / 7} for n in range(50)]
    report = check(values)
    assert report.label_form == "number"
    assert [one["count"] for one in report.facts("labels")["histogram"]] == [5] * 10
    tagged = [{"tokens": ["a", "word", str(n)], "tags": ["O", "B"] + ["O"] * (n != 4)} for n in range(20)]
    report = check(tagged)
    assert (report.text_form, report.label_form) == ("tokens", "tags")
    assert found(report, "oddities") == {"1 row has a different number of tags and tokens": (5,)}
    assert report.facts("labels")["counts"]["O"]["count"] == 39
    classes = [{"text": f"text {n}", "label": n % 3} for n in range(30)]
    assert check(classes).label_form == "label"


def test_what_cannot_be_checked(check, bundle):
    with pytest.raises(DataError, match=r"no column 'text'; it has: txt, n, label\..* Set `text_column`"):
        check([{"txt": "a", "n": 3, "label": "b"}])
    with pytest.raises(DataError, match=r"no column 'label', 'labels' or 'tags'.* Did you mean 'lable'\?"):
        check([{"text": "a", "lable": "b"}])
    with pytest.raises(DataError, match="no column 'body'"):
        check(ROWS, text_column="body")
    with pytest.raises(OptionError, match="`similarity=0`: expected"):
        check(ROWS, similarity=0)
    with pytest.raises(OptionError, match="`bundle` requires one text and one label"):
        check([{"text": "a", "labels": ["b"]}], bundle=bundle)


def test_the_rows_whose_label_is_doubted(check, bundle):
    rows = make_rows(40, seed=5)
    report = check(
        [*rows, {"text": "the model", "label": "delta"}, {"text": "", "label": "beta"}], bundle=bundle
    )
    ranked = report.facts("doubts")["ranked"]
    answers = keras_peft.load(bundle).predict([row["text"] for row in rows])
    given = {
        n: answer.probabilities[row["label"]]
        for n, (row, answer) in enumerate(zip(rows, answers, strict=True), 1)
    }
    assert [one["probability"] for one in ranked] == pytest.approx(sorted(given.values()), abs=1e-5)
    for one in ranked:
        assert one["probability"] == pytest.approx(given[one["row"]], abs=1e-5)
        assert one["instead"] == answers[one["row"] - 1].label
    titles = found(report, "doubts")
    assert any("does not know: 'delta'" in title and rows == (41,) for title, rows in titles.items())
    doubted = tuple(
        n
        for n, (row, answer) in enumerate(zip(rows, answers, strict=True), 1)
        if answer.label != row["label"]
    )
    assert not doubted or doubted in titles.values()


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "text": st.none() | st.text() | st.integers(),
                "label": st.none() | st.text() | st.floats() | st.lists(st.text(), max_size=3),
            }
        ),
        min_size=1,
        max_size=6,
    )
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_rows_are_reported_on(tmp_path, rows):
    path = write_jsonl(tmp_path / "d.jsonl", rows)
    try:
        assert check_data(path, validation=path, base=str(TINY)).to_json()["rows"] == len(rows)
    except KerasPeftError as error:
        assert str(error)


@pytest.mark.parametrize("similarity", [0.6, 0.85, 1.0])
def test_near_pairs_are_those_of_a_comparison_of_all(similarity):
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from sklearn.feature_extraction.text import HashingVectorizer

    generator = random.Random(0)
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta"]
    texts = [" ".join(generator.choices(words, k=generator.randint(1, 7))) for _ in range(200)]
    grams = HashingVectorizer(
        analyzer="char_wb", ngram_range=(4, 4), n_features=2**20, binary=True, alternate_sign=False
    ).transform(texts)
    expected = connected_components((grams @ grams.T).toarray() >= similarity - 1e-9)[1]
    pairs = near_pairs(texts, similarity)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(200, 200))
    groups = connected_components(graph)[1]
    same = [[one == other for other in labels] for labels in (expected, groups) for one in labels]
    assert same[:200] == same[200:]


def test_many_rows_are_compared_quickly():
    generator = random.Random(0)
    words = ["".join(generator.choices("abcdefghijklmnop", k=6)) for _ in range(2000)]
    texts = [" ".join(generator.choices(words, k=15)) for _ in range(4000)]
    texts += [text + "!" for text in texts[:50]]
    start = time.perf_counter()
    assert len(near_pairs(texts, 0.9)) == 50
    assert time.perf_counter() - start < 20


def test_of_many_texts_some_are_compared_for_being_nearly_the_same():
    generator = random.Random(0)
    texts = ["".join(generator.choices("abcdefgh ", k=40)) for _ in range(60)]
    texts += [f"{text}!" for text in texts[:30]] + [f"{text} xy" for text in texts[30:]]
    near = near_pairs(texts, 0.8).tolist()
    assert near == [[n, 60 + n] for n in range(60)]
    some = near_pairs(texts, 0.8, most_compared=60).tolist()
    # Texts with the same words are always found.
    assert some[:30] == near[:30]
    assert 0 < len(some[30:]) < 30
    assert all(pair in near for pair in some)
    assert some == near_pairs(texts, 0.8, most_compared=60).tolist()


@pytest.mark.parametrize("label", ["label", "number", "labels"])
def test_rows_that_lie_on_the_disk_are_reported_on_as_others(check, monkeypatch, tmp_path, label):
    monkeypatch.setenv("KERAS_PEFT_CACHE", str(tmp_path / "cache"))
    rows = [*ROWS, *ROWS[:3], {"text": f"{ROWS[4]['text']}!", "label": "x"}, {"text": "", "label": "x"}]
    rows = [{"text": row["text"], "label": row["label"]} for row in rows]
    if label == "number":
        rows = [{**row, "label": n / 7} for n, row in enumerate(rows)]
    if label == "labels":
        rows = [{"text": row["text"], "labels": [row["label"], "both"]} for row in rows]
    inside = check(rows, rows[5:9])
    monkeypatch.setenv("KERAS_PEFT_MEMORY", "0")
    assert check(rows, rows[5:9]).to_json() == inside.to_json()


def test_no_keras_is_imported(tmp_path):
    path = write_jsonl(tmp_path / "d.jsonl", ROWS)
    code = (
        f"import sys; from keras_peft import check_data; check_data({str(path)!r}, base={str(TINY)!r}); "
        "assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
