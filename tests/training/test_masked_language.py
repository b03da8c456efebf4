"""Adapting to texts without labels: masked tokens, the head, and whether the result is kept."""

from __future__ import annotations

import shutil

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import keras_peft
from conftest import REFERENCE, TINY
from keras_peft import bases, sources
from keras_peft.core.adapter import choose_placements
from keras_peft.core.sites import find_sites
from keras_peft.errors import OptionError
from keras_peft.inputs.tokens import Tokens
from keras_peft.progress import Progress
from keras_peft.tasks import UNLABELLED
from keras_peft.training import masked_language, rounds
from keras_peft.training.masked_language import MaskedRows, adapt_to_texts
from keras_peft.training.settings import Settings

QUICK = {"base": str(TINY), "epochs": 2, "pooling": "mean", "learning_rate": 3e-3}
MASK = 4


def checkpoint(name, folder):
    """The tiny checkpoint with a head for masked tokens, as transformers saves it."""
    shutil.copytree(REFERENCE / name, folder)
    stored = load_file(REFERENCE / "masked.safetensors")
    tensors = {
        f"{name}.{key.removeprefix(f'{name}.')}": value
        for key, value in load_file(folder / "model.safetensors").items()
    }
    tensors |= {
        key.removeprefix(f"{name}/"): value for key, value in stored.items() if key.startswith(f"{name}/")
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return sources.load(str(folder)), stored["ids"], stored[f"{name}.logits"]


@pytest.mark.parametrize("name", ["distilbert", "bert", "roberta"])
def test_the_head_is_that_of_transformers(name, tmp_path):
    base, ids, expected = checkpoint(name, tmp_path / name)
    vocabulary = np.array([3, 17, 250, 599])
    vectors = base.encoder({"token_ids": ids, "padding_mask": np.ones_like(ids)})
    found = keras.ops.convert_to_numpy(masked_language._head(base, vocabulary)(vectors))
    np.testing.assert_allclose(found, expected[..., vocabulary], atol=2e-4)


def rows_of(lengths, seed=0):
    generator = np.random.default_rng(0)
    ids = [
        np.array([1, *generator.integers(5, 60, length - 2), 2], np.int32) if length > 2 else np.array([1, 2])
        for length in lengths
    ]
    return ids, MaskedRows(Tokens(ids, 0), mask=MASK, seed=seed)


@given(st.lists(st.integers(2, 40), min_size=1, max_size=12), st.integers(0, 3))
def test_the_targets_are_the_hidden_tokens(lengths, epoch):
    ids, rows = rows_of(lengths)
    rows.epoch = epoch
    batch = rows.batch(np.arange(len(ids)))
    targets = rows.targets()
    for row, own in enumerate(ids):
        chosen = targets[row] != UNLABELLED
        np.testing.assert_array_equal(rows.vocabulary[targets[row][chosen]], own[chosen])
        masked = batch["token_ids"][row, : len(own)]
        np.testing.assert_array_equal(masked[~chosen], own[~chosen])
        assert not chosen[0] and not chosen[-1]
        assert chosen.any() == (len(own) > 2)
    assert {*rows.vocabulary} == {*np.concatenate(ids)}


def test_tokens_are_masked_as_for_bert():
    ids, rows = rows_of([60] * 400)
    masked = np.stack([rows.batch(np.array([row]))["token_ids"][0, :60] for row in range(400)])
    chosen = np.stack([*rows.targets()]) != UNLABELLED
    assert chosen[:, 1:-1].mean() == pytest.approx(0.15, abs=0.01)
    assert (masked[chosen] == MASK).mean() == pytest.approx(0.8, abs=0.02)
    assert (masked == np.stack(ids))[chosen].mean() == pytest.approx(0.1, abs=0.02)
    rows.epoch = 1
    assert (np.stack([*rows.targets()]) != UNLABELLED).tolist() != chosen.tolist()


class Losses(Progress):
    def __init__(self):
        self.losses = []

    def stepped(self, *, loss):
        self.losses.append(loss)


def test_it_learns_from_texts(tmp_path):
    base, _, _ = checkpoint("distilbert", tmp_path / "base")
    sites = find_sites(base.encoder, bases.roles_of(base.encoder))
    placements = choose_placements(sites, keras_peft.LoRA(rank=4), "all", None)
    ids = [np.array([1, 10, 20, 30, 40, 10, 20, 30, 40, 2], np.int32)] * 64
    progress = Losses()
    before = [np.array(weight) for weight in base.encoder.get_weights()]
    settings = Settings(learning_rate=3e-2)
    learned = adapt_to_texts(base, placements, Tokens(ids, 0), settings, progress=progress)
    assert len(progress.losses) == 40 * 4
    assert np.mean(progress.losses[-8:]) < 0.8 * np.mean(progress.losses[:8])
    assert not any(key.startswith("head/") for key in learned)
    assert min(np.abs(value).max() for value in learned.values()) > 0  # Half of them start at zero.
    for weight, value in zip(base.encoder.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_the_report_says_whether_it_is_kept(data, tmp_path):
    made = keras_peft.fine_tune(data, out=tmp_path / "b", adapt_first="mlm", **QUICK)
    told = made.report["adapt_first"]
    assert told["kept"] == (told["after"] >= told["before"])
    assert 'adapt-first = "mlm"' in (made.bundle / "run.toml").read_text()


@pytest.mark.slow
def test_a_worse_start_is_not_kept(data, tmp_path, monkeypatch):
    spoiled = rounds.Rounds._fit

    def worse(self, plan, folds, callbacks, **kwargs):
        if kwargs:
            return spoiled(self, plan, folds, callbacks, **kwargs)
        raise AssertionError("A round whose folds are worse does not train on all rows.")

    def unlike(base, placements, tokens, settings, *, progress, processes):
        found = adapt_to_texts(base, placements, tokens, settings, progress=progress, processes=processes)
        return {key: 30 * np.ones_like(value) for key, value in found.items()}

    monkeypatch.setattr(rounds.Rounds, "_fit", worse)
    monkeypatch.setattr(masked_language, "adapt_to_texts", unlike)
    made = keras_peft.fine_tune(data, out=tmp_path / "b", adapt_first="mlm", **QUICK)
    told = made.report["adapt_first"]
    assert not told["kept"]
    assert made.report["validation"]["accuracy"] == told["before"] > told["after"]
    tensors = load_file(made.bundle / "adapter.safetensors")
    assert all(np.abs(value).max() < 10 for value in tensors.values())


def test_a_base_without_a_mask_token_is_refused(tmp_path, data):
    folder = tmp_path / "base"
    shutil.copytree(TINY, folder)
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace("[MASK]", "[COVER]"))
    with pytest.raises(OptionError, match="has no mask token"):
        keras_peft.fine_tune(data, out=tmp_path / "b", **{**QUICK, "base": str(folder)}, adapt_first="mlm")
    with pytest.raises(OptionError, match="`adapt_first='clm'`: expected one of mlm"):
        Settings(adapt_first="clm")
