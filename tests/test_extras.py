"""The small install: errors for missing packages, and the same list of packages in both places."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest

import keras_peft
from conftest import ROOT
from keras_peft.errors import ExtraNotInstalled
from keras_peft.extras import EXTRAS, need

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# In the `train` extra, but imported only after Keras or KerasHub, which need them.
BROUGHT_BY_OTHERS = {"tensorflow", "h5py", "ml-dtypes"}
# Blocks the packages of all extras, as in the small install, except two that Keras and JAX install.
SMALL = (
    "import sys; from keras_peft.extras import EXTRAS\n"
    "names = {name for brought in EXTRAS.values() for name in brought} - {'rich', 'scipy'}\n"
    "sys.modules.update(dict.fromkeys(names))\n"
    "import keras_peft\n"
)


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


def remedy(extra: str) -> str:
    return f"pip install '.[{extra}]' in a checkout, or pip install 'keras-peft[{extra}]' elsewhere"


def names_of(extra: str) -> set[str]:
    return {re.split(r"[<>=;\[ ]", line)[0] for line in PROJECT["optional-dependencies"][extra]}


def test_an_extra_names_what_it_brings():
    assert names_of("onnx") == set(EXTRAS["onnx"].values())
    assert names_of("train") == {*EXTRAS["train"].values(), "keras-peft"} | BROUGHT_BY_OTHERS
    for extra in ("litert", "openvino", "sweep", "remote", "ray"):
        assert names_of(extra) == {*EXTRAS[extra].values(), "keras-peft"}
    assert names_of("serve") == {*EXTRAS["serve"].values(), "keras-peft", "uvloop"}


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (
            ["polars"],
            "polars, which is not installed: " + remedy("train"),
        ),
        (
            ["polars", "sklearn"],
            "polars and scikit-learn, which are not installed: " + remedy("train"),
        ),
        (
            ["polars", "fastapi"],
            "polars and fastapi, which are not installed: " + remedy("train,serve"),
        ),
        (
            ["jinja2", "polars", "rich", "scipy", "typer"],
            "rich, typer, jinja2 and 2 more packages, which are not installed: " + remedy("train"),
        ),
    ],
)
def test_missing_packages_are_reported_with_the_command_to_install_them(monkeypatch, missing, told):
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ExtraNotInstalled) as raised:
        need("Training", "jinja2", "polars", "rich", "scipy", "sklearn", "typer", "fastapi")
    assert str(raised.value) == f"Training needs {told}"
    assert isinstance(raised.value, ImportError)


def test_nothing_is_reported_if_nothing_is_missing():
    need("Training", *EXTRAS["train"])


def test_every_public_name_is_there_on_the_small_install():
    result = run(f"{SMALL}from keras_peft import *; print(fine_tune.__name__)")
    assert (result.stdout, result.returncode) == ("fine_tune\n", 0), result.stderr


CALLS = {
    "fine_tune('x.jsonl', out='x')": "Training needs",
    "cross_validate('x.jsonl')": "Training needs",
    "find_rate('x.jsonl')": "Training needs",
    "load('x')": "Loading a bundle needs",
    "predict_files('x', 'x.csv', 'y/')": "Predicting files needs",
    "load_base('x')": "Loading a base needs",
    "check_data('x.jsonl')": "Checking labelled text needs",
    "merge('x', out='y')": "Merging a bundle needs",
    "push('x', 'hf://owner/x')": "Pushing to the Hugging Face Hub needs huggingface-hub, which is",
    "DataGeneration(topic='x', labels=[], rows=1, out='x', endpoint='x', model='x')": (
        "Generating labelled text needs"
    ),
    "import_hf_peft('hf://owner/x', out='x')": "Downloading from Hugging Face's hub needs huggingface-hub",
}


def test_a_missing_extra_is_reported_before_anything_else():
    calls = "".join(
        f"try: keras_peft.{call}\nexcept ExtraNotInstalled as error: print(error)\n" for call in CALLS
    )
    result = run(f"{SMALL}from keras_peft.errors import ExtraNotInstalled\n{calls}")
    said = result.stdout.splitlines()
    assert len(said) == len(CALLS), result.stderr
    for line, told in zip(said, CALLS.values(), strict=True):
        assert line.startswith(told)
        assert line.endswith("not installed: " + remedy("train"))


def test_a_table_without_polars(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    for name in ("csv", "parquet"):
        (tmp_path / f"x.{name}").write_text("text,label\na,b\n")
    assert keras_peft.read_examples(tmp_path / "x.csv").labels == ("b",)
    with pytest.raises(ExtraNotInstalled, match="^Reading Parquet needs polars"):
        keras_peft.read_examples(tmp_path / "x.parquet")


@pytest.mark.parametrize("arguments", [(), ("train", "x.jsonl"), ("--help",)])
def test_the_command_line_without_its_packages_says_one_sentence(arguments):
    result = run(f"{SMALL}sys.modules['rich'] = None\nfrom keras_peft.cli import main; main()", *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert re.fullmatch(
        r"keras-peft: The command line needs rich and typer, which are not installed: "
        r"pip install '\.\[train\]' in a checkout, or pip install 'keras-peft\[train\]' elsewhere\n",
        result.stderr,
    )
