"""Every method from the command line: training, saving, loading and description."""

from __future__ import annotations

import json
import re

import pytest

from conftest import TINY
from keras_peft import methods
from keras_peft.cli import main
from sampling import sample

SMALL = {"prompt": ["--tokens", "4"], "p-tuning": ["--tokens", "4"], "compacter": ["--size", "8"]}


def run(capfd, *arguments):
    capfd.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    captured = capfd.readouterr()
    return stopped.value.code, captured.out, captured.err


@pytest.mark.parametrize("name", sample(methods.names(), "lora"))
def test_trains_and_is_loaded_again(name, data, tmp_path, capfd):
    """Trains and loads; writing a bundle compares its logits after loading with the trained model's."""
    flags = ["--base", TINY, "--epochs", 1, "--batch-size", 64, "--method", name, *SMALL.get(name, [])]
    code, out, err = run(capfd, "train", data, "--out", tmp_path / "bundle", *flags, "--json")
    assert code == 0, err
    report = json.loads(out)
    assert report["parts"][0]["method"]["name"] == name
    assert report["plan"]["method"] == name
    assert report["verification"]["reloaded"]["max_abs_logit_difference"] < 1e-4
    assert name in (tmp_path / "bundle" / "README.md").read_text()
    code, out, _ = run(capfd, "show", tmp_path / "bundle")
    assert code == 0
    assert name in out


@pytest.mark.parametrize("name", methods.names())
def test_is_described(name, capfd):
    code, out, _ = run(capfd, "methods", name, "--json")
    assert code == 0
    (described,) = json.loads(out)["methods"]
    assert described["name"] == name
    assert described["paper"]
    assert all({"name", "default", "help"} == set(parameter) for parameter in described["parameters"])
    assert run(capfd, "methods", name)[0] == 0


def test_a_text_to_start_with_is_read_by_the_tokenizer(data, tmp_path, capfd):
    flags = ["--base", TINY, "--epochs", 1, "--method", "prompt", "--tokens", 3]
    text = ["--initialization", "text", "--text", "the model"]
    code, out, err = run(capfd, "train", data, "--out", tmp_path / "bundle", *flags, *text, "--json")
    assert code == 0, err
    assert len(json.loads(out)["parts"][0]["method"]["token_ids"]) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method", "prompt", "--layers", "last:1"], "must act on the whole base model"),
        (["--method", "prompt", "--tokens", "0"], "--tokens must be at least 1"),
        (["--method", "prompt", "--text", "words"], "--text require each other"),
        (["--method", "prompt", "--tokens", "5000"], "uses? fewer|lower one of them|use fewer"),
        (["--method", "linear-probe", "--targets", "ffn.up"], "takes neither --targets nor --layers"),
        (["--method", "linear-probe", "--layers", "last:2"], "takes neither --targets nor --layers"),
        (["--method", "LoRA"], "Did you mean 'lora'"),
        (["--method", "lora", "--method=dora"], "--method is given 2 times"),
        (["--learning-rate-ratio", "-1"], "--learning-rate-ratio must be above 0, got -1"),
        (["--method", "prefx"], "Did you mean 'prefix'"),
        (["--method", "adalora", "--rank", "20"], "--initial-rank must be at least --rank"),
        (["--method", "lora", "--initialization", "pisa"], "Did you mean 'pissa'"),
        (["--method", "compacter", "--size", "7"], "--size must be divisible by --products"),
    ],
)
def test_mistakes_are_one_sentence(flags, message, data, tmp_path, capfd):
    code, out, err = run(capfd, "train", data, "--out", tmp_path / "bundle", "--base", TINY, *flags)
    assert (code, out) == (2, "")
    assert re.search(message, " ".join(err.split())), err
    assert "Traceback" not in err
    assert not (tmp_path / "bundle").exists()
