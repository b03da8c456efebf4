"""Fine-tuning from the data to the bundle, on a tiny base."""

from __future__ import annotations

import json

import keras
import numpy as np
import polars as pl
import pytest

import keras_peft
from conftest import TINY, make_rows, write_jsonl
from keras_peft.errors import BundleError, DataError, KerasPeftError, OptionError
from keras_peft.memory import peak_rss_mb
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.training.fine_tune import fine_tune
from sampling import thorough


class Recorder(Progress):
    def __init__(self):
        self.news = []

    def planned(self, plan, settings):
        self.news.append(("planned", plan.trainable_parameters))

    def started(self, *, epochs, steps, done):
        self.news.append(("started", epochs, steps))

    def stepped(self, *, loss):
        self.news.append(("stepped",))

    def epoch_ended(self, **values):
        self.news.append(("epoch", values["epoch"]))

    def finished(self):
        self.news.append(("finished",))

    def note(self, text):
        self.news.append(("note", text))


def test_it_learns_and_reports(tmp_path, data):
    recorder = Recorder()
    result = fine_tune(
        data,
        out=tmp_path / "b",
        base=str(TINY),
        epochs=12,
        learning_rate=1e-2,
        progress=recorder,
        layers="all",
    )
    report = result.to_json()
    assert report["accuracy"] >= 0.85
    assert report["history"][-1]["loss"] < 0.5 * report["history"][0]["loss"]
    assert report["trainable_parameters"] == 3 * 2 * 8 * 32 + (16 * 16 + 16) + (16 * 2 + 2)
    assert report["total_parameters"] > report["trainable_parameters"]
    assert set(report["seconds"]) == {"import", "load", "train", "evaluate", "save", "total"}
    assert sum(report["seconds"].values()) - report["seconds"]["total"] <= report["seconds"]["total"]
    assert report["peak_rss_mb"] > 0
    assert report["bundle"] == str(tmp_path / "b")
    kinds = [news[0] for news in recorder.news]
    assert kinds[0] == "planned"
    assert kinds[1] == "started"
    assert kinds[-1] == "finished"
    assert kinds.count("epoch") == 12
    # On three folds, then on all rows.
    started = [news for news in recorder.news if news[0] == "started"]
    assert [news[1] for news in started] == [36, 12]
    assert kinds.count("stepped") == sum(epochs * steps for _, epochs, steps, *_ in started)
    json.dumps(report)
    scores = keras_peft.load(tmp_path / "b").evaluate(keras_peft.read_examples(data))
    assert scores.metrics["accuracy"] >= 0.9


@pytest.mark.slow
def test_what_the_check_knows_is_said(tmp_path):
    rows = [
        *make_rows(24),
        {"text": "some words here", "label": "Alpha"},
        {"text": "other words here", "label": "Alpha"},
    ]
    result = fine_tune(rows, out=tmp_path / "b", base=str(TINY), epochs=1, validation=0.2)
    notes = " ".join(result.report["notes"])
    assert "1 label has several spellings ('alpha' (12), 'Alpha' (2))" in notes
    assert "1 label has fewer than 10 examples ('Alpha' (2))" in notes
    assert result.report["baseline"]["answer"] == "alpha"
    assert 0 < result.report["baseline"]["metrics"]["accuracy"] < 1
    assert result.report["data"]["source"] == "the list"
    assert result.report["data"]["reading"].startswith("list of dicts; text from ")
    assert not (tmp_path / "b" / "run.toml").exists()


def test_all_data_may_be_in_memory(tmp_path):
    rows, others = make_rows(24), pl.DataFrame(make_rows(10, seed=3))
    texts = [row["text"] for row in make_rows(20, seed=5)]
    result = fine_tune(
        ((row["text"], row["label"]) for row in rows),
        out=tmp_path / "b",
        base=str(TINY),
        epochs=1,
        validation=others,
        unlabelled=texts,
    )
    assert (result.report["data"]["validation_rows"], result.report["data"]["source"]) == (10, "the list")
    assert 0 < result.report["self_training"]["used_rows"] <= 20
    assert not (tmp_path / "b" / "run.toml").exists()


def test_a_separator_is_for_files_that_have_one(tmp_path):
    rows = [f"{row['text']}:{row['label']}" for row in make_rows(24)]
    (tmp_path / "d.csv").write_text("\n".join(["text:label", *rows]))
    others = write_jsonl(tmp_path / "v.jsonl", make_rows(8, seed=2))
    settings = {"base": str(TINY), "epochs": 1, "separator": ":", "validation": others}
    assert fine_tune(tmp_path / "d.csv", out=tmp_path / "b", **settings).report["validation"]["rows"] == 8


def test_a_result_shows_itself(tmp_path, data):
    result = fine_tune(data, out=tmp_path / "b", base=str(TINY), epochs=2)
    assert repr(result).startswith(f"Result({tmp_path / 'b'}: accuracy ")
    assert "in 3 folds" in repr(result)
    assert "<th>always alpha</th>" in result._repr_html_()
    figure = result.plot()
    assert [axes.get_xlabel() for axes in figure.axes] == ["epoch", "epoch", "validation F1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": "3"}, "`epochs='3'`: expected a whole number"),
        ({"epochs": 1.5}, "`epochs=1.5`: expected a whole number"),
        ({"learning_rate": "fast"}, "`learning_rate='fast'`: expected a number"),
        ({"class_weights": 1}, "`class_weights=1`: expected True or False"),
        ({"method": 3}, "`method=3`: expected a method such as LoRA"),
        ({"method": "lora2"}, "no method 'lora2'"),
        ({"method": []}, "expected at least one method"),
    ],
)
def test_values_of_the_wrong_type_are_refused_in_a_sentence(tmp_path, data, options, message):
    with pytest.raises(KerasPeftError, match=message):
        fine_tune(data, out=tmp_path / "b", base=str(TINY), **options)
    assert not (tmp_path / "b").exists()


def test_a_seed_repeats_a_run(tmp_path, data):
    def train(name, seed):
        fine_tune(
            data,
            out=tmp_path / name,
            base=str(TINY),
            epochs=2,
            seed=seed,
            method=keras_peft.LoRA(dropout=0.1),
        )
        return (tmp_path / name / "adapter.safetensors").read_bytes()

    first = train("a", 3)
    assert train("b", 3) == first
    assert train("c", 4) != first


@pytest.mark.slow
@pytest.mark.eager
@pytest.mark.one_backend
def test_a_file_to_validate_on(tmp_path, data):
    held_out = write_jsonl(tmp_path / "v.jsonl", make_rows(20, seed=9))
    recorder = Recorder()
    result = fine_tune(
        data,
        out=tmp_path / "b",
        base=str(TINY),
        epochs=1,
        validation=held_out,
        progress=recorder,
        max_length=8,
    )
    assert result.report["data"]["validation_rows"] == 20
    assert result.report["data"]["training_rows"] == 60
    assert any("texts were truncated to 8 tokens" in news[1] for news in recorder.news if news[0] == "note")
    recorder = Recorder()
    fine_tune(data, out=tmp_path / "c", base=str(TINY), epochs=1, validation=data, progress=recorder)
    assert (
        "note",
        "60 validation texts are also in the training file, so the scores are too optimistic",
    ) in recorder.news


@pytest.mark.one_backend
def test_labels_of_the_validation_file_must_be_known(tmp_path, data):
    held_out = write_jsonl(tmp_path / "v.jsonl", make_rows(9, labels=("alpha", "gamma")))
    with pytest.raises(DataError, match="'gamma'"):
        fine_tune(data, out=tmp_path / "b", base=str(TINY), validation=held_out)


@pytest.mark.eager
@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "`epochs=0`: expected a number above 0"),
        (
            {"batch_size": -1, "learning_rate": 0.0},
            "`batch_size=-1`: expected a number above 0. `learning_rate=0.0`: expected",
        ),
        ({"layers": "lats:2"}, "Did you mean 'last:2'"),
        ({"layers": "last:4"}, "this base model has 3"),
        ({"targets": ["attention.qeury"]}, "Did you mean 'attention.query'"),
        ({"label_smoothing": 1.0}, "`label_smoothing=1.0`: expected a fraction from 0 to below 1"),
        ({"label_smoothing": -0.1}, "`label_smoothing=-0.1`: expected a fraction"),
        ({"seed": -1}, "`seed=-1`: expected an integer"),
        ({"seed": 2**32}, "expected an integer from 0"),
        ({"max_length": 2}, "`max_length=2` leaves no room for text after 2 special tokens"),
        ({"max_length": 100}, "`max_length=100` exceeds the limit of"),
        ({"validation": 1.5}, "between 0 and 1"),
        ({"validation": "missing.csv"}, "missing.csv does not exist"),
        ({"base": "minlim"}, "Did you mean 'minilm'"),
        ({"learning_rate": 1e30, "epochs": 3}, "Training diverged"),
    ],
)
def test_what_cannot_be_used_writes_nothing(tmp_path, data, options, message):
    with pytest.raises(KerasPeftError, match=message):
        fine_tune(data, out=tmp_path / "new" / "b", track=[], **{"base": str(TINY), **options})
    assert [path for path in tmp_path.rglob("*") if path != tmp_path / "new"] == []


@pytest.mark.eager
@pytest.mark.one_backend
def test_a_bundle_that_is_there(tmp_path, data, bundle):
    out = tmp_path / "b"
    fine_tune(data, out=out, base=str(TINY), epochs=1, validation=0.2)
    first = (out / "bundle.json").read_text()
    with pytest.raises(
        BundleError, match="exists; choose another `out`, or replace it with `overwrite=True`"
    ):
        fine_tune(data, out=out, base=str(TINY), epochs=1, validation=0.2)
    assert (out / "bundle.json").read_text() == first
    fine_tune(data, out=out, base=str(TINY), epochs=1, validation=0.2, seed=5, overwrite=True)
    assert (out / "bundle.json").read_text() != first
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter1.txt").write_text("years of work")
    with pytest.raises(BundleError, match="is not a bundle, so it is not overwritten"):
        fine_tune(data, out=other, base=str(TINY), overwrite=True)
    assert (other / "chapter1.txt").exists()


@pytest.mark.one_backend
def test_a_place_that_cannot_be_written(tmp_path, data):
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="cannot be written to"):
        fine_tune(data, out=tmp_path / "file" / "bundle", base=str(TINY))


@pytest.mark.slow
def test_training_above_the_trunk_is_training_on_the_whole(tmp_path, data):
    # The default would also round the frozen products to bfloat16 where the processor supports it.
    options = {"base": str(TINY), "epochs": 3, "frozen_precision": "float32"}
    kept = fine_tune(data, out=tmp_path / "a", **options).report
    whole = fine_tune(data, out=tmp_path / "b", trunk_cache=False, **options).report
    assert kept["cache"]["rows"] > 0
    assert whole["cache"] is None
    for name in ("loss", "validation_loss"):
        ours, theirs = ([epoch[name] for epoch in report["history"]] for report in (kept, whole))
        assert ours == pytest.approx(theirs, rel=1e-4)  # The tolerance covers half precision only.
    # Single weights may differ more: Adam makes full steps for gradients that are almost zero.
    texts = [row["text"] for row in make_rows(20, seed=4)]
    first, second = (keras_peft.load(tmp_path / name).probabilities(texts) for name in ("a", "b"))
    np.testing.assert_allclose(first, second, atol=1e-3)


@pytest.mark.one_backend
def test_predict_takes_texts_only(bundle):
    classifier = keras_peft.load(bundle)
    with pytest.raises(DataError, match="put it in a list"):
        classifier.predict("one text")
    with pytest.raises(DataError, match=r"Texts 2, 3 "):
        classifier.predict(["a", " ", 5])
    with pytest.raises(DataError, match="does not know: 'gamma'"):
        classifier.evaluate(keras_peft.data.examples.Examples(("a",), ("gamma",), "f"))


def test_tables_are_predicted_and_scored(tmp_path, bundle):
    classifier = keras_peft.load(bundle)
    rows = make_rows(6)
    expected = classifier.predict([row["text"] for row in rows])
    frame = pl.DataFrame(rows)
    frame.write_csv(tmp_path / "d.csv")
    for table in (rows, frame, frame.to_pandas(), frame.to_dict(as_series=False), tmp_path / "d.csv"):
        assert classifier.predict(table) == expected
        assert classifier.evaluate(table).rows == 6
    with pytest.raises(DataError, match=r"the Polars frame has no column 'text'; it has: body"):
        classifier.predict(frame.select(body="text"))


def test_order_and_batching_do_not_matter(bundle):
    classifier = keras_peft.load(bundle)
    texts = [row["text"] for row in make_rows(70, seed=4)]
    together = classifier.probabilities(texts)
    alone = np.concatenate([classifier.probabilities([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_stopwatch_counts_inner_stages_once(monkeypatch):
    clock = iter([0.0, 1.0, 2.0, 5.0, 6.0, 8.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    stopwatch = Stopwatch()
    with stopwatch.measure("outer"), stopwatch.measure("inner"):
        pass
    assert stopwatch.read() == {"inner": 3.0, "outer": 2.0, "total": 8.0}
    assert peak_rss_mb() > 1


@pytest.mark.one_backend
def test_options_of_the_method_are_checked():
    with pytest.raises(OptionError):
        keras_peft.LoRA(rank=-1)


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [4, *thorough(1, eager=False)])
def test_the_learning_rate_falls_over_the_whole_training(tmp_path, data, accumulation):
    rates = []

    class Rates(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    fine_tune(
        data,
        out=tmp_path / "b",
        base=str(TINY),
        epochs=6,
        batch_size=4,
        gradient_accumulation=accumulation,
        callbacks=[Rates()],
    )
    highest = rates.index(max(rates))
    assert highest == pytest.approx(len(rates) / 10, abs=2)
    assert rates[len(rates) // 2] > 0.4 * max(rates)
    assert rates[-1] < 0.01 * max(rates)
