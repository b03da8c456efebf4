"""A tokenizer.json of a stranger: that of any real model is read, and nothing else."""

from __future__ import annotations

import base64
import json
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.normalizers import Normalizer

from inputs.tokenizer_files import REAL, altered, charsmap, encoded, normalizing, replacing
from keras_peft.errors import DataError, KerasPeftError, OptionError, TokenizerError
from keras_peft.inputs.charsmap import longest_replacement
from keras_peft.inputs.encoder import Encoder
from keras_peft.inputs.pairs import kept_lengths
from keras_peft.inputs.text import TextEncoder
from keras_peft.inputs.tokenizer import guarded, make
from keras_peft.inputs.tokenizer_content import check
from keras_peft.inputs.tokenizer_patterns import shortest_match
from keras_peft.inputs.words import WordEncoder

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text(
    st.sampled_from("a model's ﷺ\t\n\u00a0é中😀1x<mask>[SEP]"), max_size=60
)
NAMES = st.sampled_from(sorted(REAL))


@pytest.mark.parametrize("name", REAL)
def test_the_tokenizers_of_real_models_are_read(name):
    tokenizer, known = make(REAL[name])
    assert known.largest_id == max(tokenizer.get_vocab(with_added_tokens=True).values())
    assert known.growth >= 1


def test_the_effort_of_a_tokenizer():
    assert {name: check(REAL[name]).effort for name in ("bert", "roberta", "llama3")} == {
        "bert": 1,
        "roberta": 1,
        "llama3": 1,
    }
    long = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 32}
    assert check(normalizing(long)).effort == 4
    assert check(altered(lambda content: content["model"].update(max_input_chars_per_word=200))).effort == 4
    pieces = altered(lambda content: content["model"]["vocab"].append(["a" * 128, -1.0]), "xlm_roberta")
    assert check(pieces).effort > check(REAL["xlm_roberta"]).effort


def test_old_files_do_not_name_the_type_of_the_model():
    content = altered(lambda content: content["model"].pop("type"), "gpt2")
    assert check(content).largest_id == check(REAL["gpt2"]).largest_id
    assert check(altered(lambda content: content["model"].pop("type"))).largest_id > 0


def _nested(content):
    for _ in range(9):
        content["normalizer"] = {"type": "Sequence", "normalizers": [content["normalizer"]]}


def _templates(content, pieces):
    content["post_processor"]["pair"] = pieces
    content["post_processor"]["single"] = pieces[:1]


TEXT_A, TEXT_B = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
ATTACKS = {
    "a replacement": (replacing({"String": "jon"}, "jon " * 2_000_000), "Replace with 'content'"),
    "a short replacement": (replacing({"String": "j"}, "jjjj" * 9), "Replace with 'content'"),
    "replacements that multiply": (
        normalizing(*[{"type": "Replace", "pattern": {"String": "a"}, "content": "aaaa"}] * 6),
        "more than 1024 times",
    ),
    "replacements of nothing": (replacing({"String": ""}, "x"), "Replace with 'pattern'"),
    "an exponential expression": (replacing({"Regex": "(x+x+)+y"}, "z"), "Regex '(x+x+)+y'"),
    "a quadratic expression": (replacing({"Regex": "x+y"}, "z"), "Regex 'x+y'"),
    "an expression that matches nothing": (replacing({"Regex": "x*"}, "z"), "Regex 'x*'"),
    "a split at an expression": (
        altered(
            lambda content: content.update(
                pre_tokenizer={
                    "type": "Split",
                    "pattern": {"Regex": "(a|a)*b"},
                    "behavior": "Isolated",
                    "invert": False,
                }
            )
        ),
        "pre_tokenizer has a Split",
    ),
    "a long prefix": (normalizing({"type": "Prepend", "prepend": "a" * 1000}), "Prepend with 'prepend'"),
    "a nested sequence": (altered(_nested), "nested too deeply"),
    "many parts": (normalizing(*[{"type": "Lowercase"}] * 100), "more than 32 parts"),
    "an unknown part": (normalizing({"type": "Shell", "command": "ls"}), "the type 'Shell'"),
    "a part that is none": (normalizing(None), "the type None"),
    "an unknown field": (altered(lambda content: content.update(hook="x")), "unknown field 'hook'"),
    "a field of a part": (normalizing({"type": "NFC", "times": 9}), "NFC with 'times': 9"),
    "long words": (
        altered(lambda content: content["model"].update(max_input_chars_per_word=10**9)),
        "'max_input_chars_per_word': 1000000000",
    ),
    "a long prefix of pieces": (
        altered(lambda content: content["model"].update(continuing_subword_prefix="#" * 10**6)),
        "'continuing_subword_prefix'",
    ),
    "random tokens": (
        altered(lambda content: content["model"].update(dropout=0.5), "gpt2"),
        "'dropout': 0.5",
    ),
    "no unknown token": (
        altered(lambda content: content["model"].update(unk_token="[NONE]")),
        "the unknown token '[NONE]'",
    ),
    "no unknown piece": (
        altered(lambda content: content["model"].update(unk_id=10**6), "xlm_roberta"),
        "the unk_id 1000000",
    ),
    "a long piece": (
        altered(lambda content: content["model"]["vocab"].append(["a" * 10_000, -1.0]), "xlm_roberta"),
        "a token of 10,000 characters",
    ),
    "a score that is no number": (
        altered(lambda content: content["model"]["vocab"].append(["a", float("inf")]), "xlm_roberta"),
        "not a list of tokens with scores",
    ),
    "ids that are no numbers": (
        altered(lambda content: content["model"]["vocab"].update(a="b")),
        "not a mapping from tokens to ids",
    ),
    "negative ids": (
        altered(lambda content: content["model"]["vocab"].update(a=-1)),
        "not a mapping from tokens to ids",
    ),
    "an unknown model": (altered(lambda content: content["model"].update(type="LLM")), "the type 'LLM'"),
    "many added tokens": (
        altered(lambda content: content.update(added_tokens=content["added_tokens"] * 10_000)),
        "at most 10,000 tokens",
    ),
    "an empty added token": (
        altered(lambda content: content["added_tokens"][0].update(content="")),
        "a token with content: ''",
    ),
    "a text twice": (
        altered(lambda content: _templates(content, [TEXT_A, TEXT_A, TEXT_B]), "xlm_roberta"),
        "each text once",
    ),
    "no second text": (
        altered(lambda content: _templates(content, [TEXT_A]), "xlm_roberta"),
        "each text once",
    ),
    "many special tokens": (
        altered(
            lambda content: content["post_processor"]["special_tokens"]["<s>"].update(ids=[2] * 10**6),
            "xlm_roberta",
        ),
        "without 1 to 8 ids",
    ),
    "two templates": (
        altered(
            lambda content: content.update(
                post_processor={"type": "Sequence", "processors": [content["post_processor"]] * 2}
            )
        ),
        "special tokens more than once",
    ),
    "much padding": (
        altered(lambda content: content.update(padding={"strategy": {"Fixed": 10**9}})),
        "padding makes texts longer",
    ),
    "a damaged character map": (
        normalizing({"type": "Precompiled", "precompiled_charsmap": "?"}, name="xlm_roberta"),
        "Precompiled with 'precompiled_charsmap'",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_anything_else_is_refused(name):
    content, message = ATTACKS[name]
    with pytest.raises(TokenizerError) as raised:
        TextEncoder(content, 16)
    assert message in str(raised.value)
    assert len(str(raised.value)) < 2000
    assert "\n" not in str(raised.value)


def test_all_faults_are_listed():
    content = json.loads(replacing({"Regex": "(x+x+)+y"}, "z"))
    content["decoder"] = {"type": "Unknown"}
    content["model"]["max_input_chars_per_word"] = 10**6
    with pytest.raises(TokenizerError) as raised:
        check(json.dumps(content))
    assert all(word in str(raised.value) for word in ("normalizer", "decoder", "max_input_chars_per_word"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**40) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "Regex", "id", "ids", "a"]), inner, max_size=3)
    ),
    max_leaves=5,
)


def _places(value, depth=0):
    """The places in a file where something else could be, as pairs of a container and a key."""
    keys = range(len(value)) if isinstance(value, list) else list(value)
    for key in list(keys)[:9]:
        yield value, key
        if isinstance(value[key], dict | list) and depth < 6:
            yield from _places(value[key], depth + 1)


@given(NAMES, st.integers(0, 10**6), JSON)
@settings(max_examples=200)
def test_anything_in_its_place_is_read_or_refused(name, place, value):
    content = json.loads(REAL[name])
    places = list(_places(content))
    container, key = places[place % len(places)]
    container[key] = value
    try:
        encoder = TextEncoder(json.dumps(content), 16)
        tokens = encoder(["a model, the people ﷺ\t1984", ("the model", "people")])
    except (TokenizerError, OptionError):
        return
    largest = check(json.dumps(content)).largest_id
    assert all(len(ids) <= 16 and ids.max(initial=0) <= largest for ids in tokens.ids)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "has no model"),
        ('{"model": 3}', "has no model"),
        ('{"model": {"type": "BPE", "type": "WordPiece"}}', "repeats a name"),
        (REAL["distilbert"].replace("{", '{"normalizer": null,', 1), "repeats a name"),
        ("[" * 13_000_000, "more values than any tokenizer"),
        (
            '{"model": {"type": "WordPiece", "vocab": {"\\ud800": 0}, "unk_token": "\\ud800"}}',
            "is not a tokenizer",
        ),
        (
            altered(lambda content: content["model"].update(merges=[["a", "nowhere"]]), "gpt2"),
            "is not a tokenizer",
        ),
    ],
)
def test_files_that_are_no_tokenizers(content, message):
    with pytest.raises(TokenizerError, match=message):
        make(content)


def test_a_file_is_refused_before_it_takes_memory():
    content = "[" * 13_000_000
    tracemalloc.start()
    try:
        with pytest.raises(TokenizerError):
            check(content)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["distilbert", "roberta", "xlm_roberta"])
def test_ids_that_the_base_does_not_have(name):
    encoder = TextEncoder(REAL[name], 16)
    largest = check(REAL[name]).largest_id
    encoder.refuse_foreign_ids(largest + 1)
    encoder.refuse_foreign_ids(None)
    with pytest.raises(TokenizerError, match=f"ids up to {largest:,}, but the base model has {largest:,}"):
        encoder.refuse_foreign_ids(largest)


def test_added_tokens_have_ids_too():
    token = {"content": "new", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    content = altered(lambda content: content["added_tokens"].append({**token, "special": False, "id": 5}))
    tokenizer, known = make(content)
    assert known.largest_id == tokenizer.token_to_id("new") == check(REAL["distilbert"]).largest_id + 1


@pytest.mark.parametrize(
    ("pattern", "fewest"),
    [
        (" {2,}", 2),
        (r"\s+", 1),
        (r"[\n\r\t]", 1),
        (r"\s{2,}|[\n\r\t]", 1),
        (r"\p{N}{1,3}", 1),
        (r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+", 1),
        (r" ?[^\s\p{L}\p{N}]+[\r\n]*", 1),
        (r"\A▁", 1),
        (r"\s*[\r\n]+|\s+", 1),
        (r"a\|b", 3),
        ("", None),
        ("a*", None),
        ("a|b?", None),
        ("x+y", None),
        ("^x+$", None),
        ("(x+x+)+y", None),
        ("(a|b)", None),
        ("a+?", None),
        ("a++", None),
        ("a**", None),
        ("a{2}{3}", None),
        ("a{1000,}", None),
        ("a{1,60}b{1,60}", None),
        (r"\s*[\r\n]+", None),
        (r"(a)\1", None),
        ("(?<=a+)b", None),
        ("[[:alpha:]]", None),
        ("[a-z&&[^b]]", None),
        ("[", None),
        ("\\", None),
        ("a" * 2000, None),
    ],
)
def test_expressions_that_match_in_linear_time(pattern, fewest):
    assert shortest_match(pattern) == fewest


def test_a_character_map():
    assert longest_replacement(charsmap()) == 1
    assert longest_replacement(charsmap("long one\0")) == 8
    assert make(REAL["xlm_roberta"])[0].normalizer.normalize_str("a\tb") == "a b"


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        "",
        "AA",
        charsmap(value=3),
        charsmap("é\0", value=1),
        charsmap(leaf=4096),
        encoded([0] * 3, b""),
        base64.b64encode(struct.pack("<I", 4_000_000_000) + b"\0" * 8).decode(),
        base64.b64encode(struct.pack("<I", 0)).decode(),
        encoded([0] * 256, b"\xff"),
        encoded([1 << 31] + [0] * 255, b""),
    ],
)
def test_a_character_map_that_points_outside(damaged):
    assert longest_replacement(damaged) is None


@given(
    st.lists(st.tuples(st.integers(0, 511), st.integers(0, 2**32 - 1)), max_size=8),
    st.text(max_size=9),
    TEXTS,
)
@settings(max_examples=300)
@example([(0, 1 << 31)], "", "0")
def test_a_character_map_that_is_allowed_never_leaves_its_array(changes, replacements, text):
    units = np.frombuffer(base64.b64decode(charsmap())[4 : 4 + 2048], "<u4").tolist()
    for place, unit in changes:
        units[place] = unit
    changed = encoded(units, replacements.replace("\ud800", "").encode("utf-8", "ignore"))
    most = longest_replacement(changed)
    if most is None:
        return
    part = {"type": "Precompiled", "precompiled_charsmap": changed}
    content = altered(lambda content: content.update(normalizer=part), "xlm_roberta")
    normalizer: Normalizer = make(content)[0].normalizer
    assert len(guarded(lambda: normalizer.normalize_str(text))) <= most * len(text)


@given(NAMES, TEXTS, st.integers(4, 20), st.booleans())
@settings(max_examples=200)
def test_any_text_becomes_few_ids_of_the_base(name, text, most, windows):
    encoder = TextEncoder(REAL[name], most, windows=windows)
    known = check(REAL[name])
    tokens = encoder([text])
    assert all(len(ids) <= most for ids in tokens.ids)
    assert all(ids.min(initial=0) >= 0 and ids.max(initial=0) <= known.largest_id for ids in tokens.ids)
    # A character may become as many tokens as it has bytes, and a prefix is added to each part.
    assert len(encoder.ids(text)) <= 4 * known.growth * (2 * len(text) + 1)
    assert all(one in text for one in encoder.seen(text))


@given(NAMES, TEXTS, TEXTS, st.integers(7, 20), st.booleans())
@settings(max_examples=200)
def test_pairs_are_cut_as_the_tokenizer_cuts_them(name, first, second, most, windows):
    encoder = TextEncoder(REAL[name], most, windows=windows)
    tokens = encoder([(first, second)])
    assert all(len(ids) <= most for ids in tokens.ids)
    try:
        own = guarded(lambda: encoder._tokenizer.encode_batch_fast([(first, second)])[0])
    except TokenizerError:
        # Where both texts are cut to fewer tokens than windows have in common, the tokenizer fails.
        assert windows
        return
    expected = [own, *own.overflowing] if windows else [own]
    assert [ids.tolist() for ids in tokens.ids] == [one.ids for one in expected]
    assert tokens.truncated == (not windows and bool(own.overflowing))


@given(NAMES, st.lists(TEXTS, min_size=1, max_size=6), st.integers(4, 20))
def test_any_words_become_few_ids(name, words, most):
    tokens = WordEncoder(REAL[name], most, marks_case=True)([tuple(words)])
    assert len(tokens.ids[0]) <= most
    assert (tokens.words[0] < len(tokens.ids[0])).all()


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_the_longer_text_is_cut_first(first, second, most):
    kept = kept_lengths(first, second, most)
    assert sum(kept) == min(first + second, most)
    assert kept[0] <= first and kept[1] <= second


def test_pairs_of_long_texts_take_little_memory():
    text = "the model and the people " * 1000
    encoder = TextEncoder(REAL["distilbert"], 16)
    tokens = encoder([(text, text)])
    assert (len(tokens), len(tokens.ids[0]), tokens.truncated) == (1, 16, 1)
    assert [len(one) < 100 for one in encoder.seen((text, text))] == [True, True]
    with pytest.raises(DataError, match=r"would be read in \d+,\d+,\d+ windows; expected at most 10,000"):
        TextEncoder(REAL["distilbert"], 16, windows=True)([(text, text)])


def test_pairs_need_room_for_their_special_tokens():
    encoder = TextEncoder(REAL["roberta"], 3)
    assert len(encoder(["a text"]).ids[0]) == 3
    with pytest.raises(OptionError, match="leaves no room for a pair, which has 4 special tokens"):
        encoder([("a", "text")])


def test_texts_that_grow_too_much_are_refused():
    long = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 32}
    encoder: Encoder = TextEncoder(normalizing(long, long), 16)
    assert encoder.effort > 50
    assert len(encoder(["the model " * 10_000]).ids[0]) == 16
    for row in ("a" * 1900, ("the model", "a" * 1891)):
        with pytest.raises(DataError, match="makes a text of 1,900 characters more than 20 times as long"):
            encoder([row])
    assert len(encoder(["a b"]).ids[0]) == 4


def test_a_panic_becomes_an_error_and_ends_nothing():
    # The check does not let it pass.
    broken = Tokenizer.from_str(replacing({"Regex": "(x+x+)+y"}, "z"))
    with pytest.raises(TokenizerError, match="The tokenizer fails on a text") as raised:
        guarded(lambda: broken.encode("secret" + "x" * 60))
    assert "secret" not in str(raised.value)
    assert isinstance(raised.value, KerasPeftError)
    assert guarded(lambda: broken.encode("the model").ids)


def test_other_errors_stay_as_they_are():
    with pytest.raises(KeyboardInterrupt):
        guarded(lambda: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(TypeError):
        guarded(lambda: make(REAL["gpt2"])[0].encode(3))
