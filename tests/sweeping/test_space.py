"""Search spaces: their format, their faults, and those that ship with the package."""

from __future__ import annotations

import dataclasses
import tomllib

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from conftest import TINY
from keras_peft import LoRA, Settings, methods
from keras_peft.errors import OptionError
from keras_peft.sweeping.job import Job
from keras_peft.sweeping.space import Choice, Space
from keras_peft.sweeping.space_file import read_space, shipped
from sampling import sample


class Chooses:
    """Chooses the first, the last or another value, as Optuna would."""

    def __init__(self, at=0.0):
        self.at, self.asked = at, {}

    def suggest_categorical(self, name, choices):
        self.asked[name] = list(choices)
        return choices[round(self.at * (len(choices) - 1))]

    def suggest_float(self, name, low, high, *, step, log):
        self.asked[name] = (low, high, step, log)
        return low + self.at * (high - low)

    def suggest_int(self, name, low, high, *, step, log):
        self.asked[name] = (low, high, step, log)
        return round(low + self.at * (high - low))


def test_a_space_is_read_and_drawn_from(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(
        """
        learning_rate = { low = 1e-4, high = 1e-2, log = true }
        batch_size = { low = 8, high = 32, step = 8 }
        rank = { values = [4, 8] }
        targets = { values = ["default", ["attention.query", "ffn.up"]] }
        [method.lora]
        dropout = { values = [0.0, 0.2] }
        [method.bitfit]
        learning_rate = { low = 1e-3, high = 1e-1, log = true }
        """
    )
    space = read_space(path, "lora")
    first, last = Chooses(0), Chooses(1)
    assert space.draw(first, "lora") == Choice(
        "lora", {"rank": 4, "dropout": 0.0}, {"learning_rate": 1e-4, "batch_size": 8}
    )
    assert first.asked["batch_size"] == (8, 32, 8, False)
    assert first.asked["targets"] == ["default", "attention.query,ffn.up"]
    # BitFit has no rank, and a learning rate of its own.
    assert space.draw(last, "lora") == Choice(
        "bitfit",
        {},
        {"batch_size": 32, "targets": ("attention.query", "ffn.up"), "learning_rate": 0.1},
    )
    assert set(last.asked) == {"method", "batch_size", "targets", "bitfit.learning_rate"}
    assert read_space(space.to_json(), "lora") == dataclasses.replace(space, source="`space`")


def test_the_defaults_are_those_that_the_space_contains():
    lines = {
        "learning_rate": {"low": 1e-3, "high": 1e-2},
        "batch_size": {"values": [8, 32]},
        "rank": {"low": 2, "high": 10, "step": 2},
        "layers": {"values": ["last:2", "all"]},
        "pooling": {"values": ["default", "mean"]},
        "class_weights": {"values": [True, False]},
    }
    space = read_space(lines, "lora")
    assert space.defaults(LoRA(), Settings()) == {
        "learning_rate": 2e-3,
        "rank": 8,
        "layers": "last:2",
        "pooling": "default",
        "class_weights": False,
    }
    assert space.defaults(LoRA(rank=3), Settings(batch_size=32))["batch_size"] == 32
    assert "rank" not in space.defaults(LoRA(rank=3), Settings())


FAULTS = [
    ({}, "it varies nothing"),
    ({"rnak": {"values": [4]}}, "'rnak' is neither a setting nor an option of lora. Did you mean 'rank'?"),
    ({"size": {"values": [4]}}, "'size' is neither a setting nor an option of lora"),
    ({"rank": {"values": [0]}}, "`rank` must be at least 1, got 0"),
    ({"rank": {"values": []}}, "rank has the values []"),
    ({"rank": {"values": [4, 4]}}, "rank has a value twice"),
    ({"rank": {"valeus": [4]}}, "the key 'valeus'; expected"),
    ({"rank": 4}, "rank is 4; expected { values = [4, 8] }"),
    ({"rank": {"low": 4}}, "rank has no high"),
    ({"rank": {"low": 4.5, "high": 8}}, "rank is a whole number"),
    ({"rank": {"low": 4, "high": 8, "values": [4]}}, "both values and low"),
    ({"rank": {"low": 8, "high": 4}}, "a higher high"),
    ({"rank": {"low": 4, "high": 8, "step": 9}}, "the step 9"),
    ({"rank": {"low": "4", "high": 8}}, "the low '4'; expected a number"),
    ({"learning_rate": {"low": 0, "high": 1, "log": True}}, "a low above 0"),
    ({"learning_rate": {"low": 0, "high": 1}}, "`learning_rate=0`"),
    ({"learning_rate": {"low": 1e-3, "high": float("inf")}}, "the high inf"),
    ({"learning_rate": {"low": 1e-3, "high": 1, "log": 1}}, "the log 1; expected true or false"),
    ({"learning_rate": {"low": 1e-3, "high": 1, "log": True, "step": 0.1}}, "both log and step"),
    ({"pooling": {"low": 1, "high": 2}}, "pooling is not a number"),
    ({"pooling": {"values": ["maen"]}}, "Did you mean 'mean'?"),
    ({"layers": {"values": ["lats:2"]}}, "Did you mean 'last:2'?"),
    ({"validation": {"values": [0.1, 0.2]}}, "changes what is scored"),
    ({"text_column": {"values": ["a"]}}, "changes the rows"),
    ({"abstain_below": {"values": [0.9]}}, "no effect on the score"),
    ({"method": ["lroa"]}, "there is no method 'lroa'. Did you mean 'lora'?"),
    ({"method": "lora"}, "method is 'lora'; expected a list"),
    ({"method": {"lora": 3}}, "method.lora is 3"),
    ({"method": {"bitfit": {"rank": {"values": [4]}}}}, "'method.bitfit.rank' is not a setting"),
    ({"rank": {"values": list(range(1, 102))}}, "101 values; expected at most 100"),
]


@pytest.mark.parametrize(("lines", "told"), FAULTS, ids=[told for _, told in FAULTS])
def test_faults_are_told(lines, told):
    with pytest.raises(OptionError) as raised:
        read_space(lines, "lora")
    assert told in str(raised.value)


def test_all_faults_are_in_one_message():
    lines = {"rank": {"values": [0]}, "epoch": {"values": [3]}, "batch_size": 8}
    with pytest.raises(OptionError) as raised:
        read_space(lines, "lora")
    for told in ("`rank` must be at least 1", "Did you mean 'epochs'?", "batch_size is 8"):
        assert told in str(raised.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"rank = ", "is not valid TOML"),
        (b"\xff", "is not valid TOML"),
        (b"a = " + b"[" * 5_000 + b"]" * 5_000, "nested too deeply"),
        (b"#" * 1_000_001, "has more than 1,000,000 bytes"),
    ],
    ids=["syntax", "bytes", "nested", "large"],
)
def test_files_of_strangers_are_refused_with_a_sentence(tmp_path, content, told):
    path = tmp_path / "space.toml"
    path.write_bytes(content)
    with pytest.raises(OptionError, match=told):
        read_space(path, "lora")


def test_a_space_that_does_not_exist():
    with pytest.raises(OptionError, match=r"lroa: No such file.* Did you mean 'lora'\?"):
        read_space("lroa", "lora")
    with pytest.raises(OptionError, match="is not valid TOML"):
        read_space("a\0b", "lora")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
NAMES = st.sampled_from(["rank", "learning_rate", "layers", "method", "targets", "epochs", "x", "base"])
LINES = st.dictionaries(
    st.sampled_from(["values", "low", "high", "log", "step", "y"]) | st.text(max_size=3),
    SCALARS | st.lists(SCALARS | st.lists(SCALARS, max_size=2), max_size=3),
    max_size=4,
)


@given(st.dictionaries(NAMES, SCALARS | LINES | st.dictionaries(NAMES, LINES, max_size=2), max_size=4))
def test_any_content_is_read_or_refused(content):
    try:
        space = read_space(content, "lora")
    except OptionError as error:
        assert "\n" not in str(error) or "\\n" in repr(content)
        return
    for at in (0.0, 0.5, 1.0):
        choice = space.draw(Chooses(at), "lora")
        job = Job("rows.csv", LoRA(), {}, TINY)
        job.settings_of(choice), job.method_of(choice)


@given(st.integers(1, 64), st.integers(1, 64), st.sampled_from([None, 1, 2]))
def test_a_range_of_whole_numbers_is_read(low, extra, step):
    line = {"low": low, "high": low + extra + 1, **({} if step is None else {"step": step})}
    space = read_space({"rank": line}, "lora")
    (rank,) = space.parameters
    assert (rank.low, rank.high, rank.step, rank.whole) == (low, low + extra + 1, step, True)
    assert read_space(tomllib.loads(tomli_w.dumps(space.to_json())), "lora") == space


def shipped_space(name: str) -> Space:
    return read_space(name, name if name in methods.names() else "lora")


def test_every_method_has_a_space_with_its_defaults():
    assert set(methods.names()) <= set(shipped())
    for name in methods.names():
        space = shipped_space(name)
        defaults = space.defaults(methods.find(name)(), Settings())
        assert set(defaults) == {one.label for one in space.of(name)}, name
    assert len(shipped_space("methods").methods) > 3


@pytest.mark.eager
@pytest.mark.parametrize("name", sample(shipped(), "lora", "prefix"))
def test_every_value_of_a_shipped_space_builds(name):
    import keras

    from keras_peft import attach, bases, sources
    from keras_peft.core.adapter import choose_placements
    from keras_peft.core.sites import find_sites

    space = shipped_space(name)
    base = sources.load(str(TINY))
    sites = find_sites(base.encoder, bases.roles_of(base.encoder))
    for own in space.methods or (name,):
        job = Job("rows.csv", methods.find(own)(), {}, TINY)
        tried = [Choice(own)]
        for one in space.of(own):
            values = (one.low, one.high) if one.values is None else one.values
            tried += [
                Choice(own, {one.name: value}, {})
                if one.name in [field.name for field in dataclasses.fields(job.method)]
                else Choice(own, {}, {one.name: value})
                for value in values
                if value != "default"
            ]
        for choice in tried:
            settings, method = job.settings_of(choice), job.method_of(choice)
            placements = choose_placements(
                sites, method, settings.layers or method.default_layers, settings.targets
            )
            head = keras.Sequential([keras.Input((base.dim,)), keras.layers.Dense(2, name="logits")])
            model = attach.adapt(base.encoder, placements, head=head, pooling="first-token")
            assert model.plan.trainable_parameters > 2 * base.dim
            model.detach()
