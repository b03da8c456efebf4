"""Finding, naming and selecting layers."""

from __future__ import annotations

import pytest

import keras_peft
from core import models
from keras_peft import bases
from keras_peft.core.select_sites import select_sites, selection_of
from keras_peft.core.selection import Selection
from keras_peft.core.sites import find_sites
from keras_peft.errors import SelectionError


def chosen(base, targets, layers="all"):
    sites = find_sites(base, bases.roles_of(base))
    return [site.path for site in select_sites(sites, Selection.of(targets, layers))]


def test_distilbert_has_every_role_of_an_encoder():
    base = models.distilbert()
    roles = {}
    for site in find_sites(base, bases.roles_of(base)):
        roles.setdefault(site.role, []).append((site.path, site.block))
    assert [block for _, block in roles["attention.query"]] == [0, 1, 2]
    assert roles["embedding.token"] == [("token_and_position_embedding/token_embedding", None)]
    for role in ("attention", "attention.key", "attention.output", "ffn.up", "ffn.down", "block"):
        assert len(roles[role]) == 3
    assert len(roles["norm"]) == 7


def test_a_hand_written_model_has_keras_own_roles():
    base = models.functional()
    assert chosen(base, ["attention.query"], "last:2") == ["attention_1/query", "attention_2/query"]
    assert chosen(base, ["norm"], "first:1") == ["norm_0", "batch_norm"][:1]


def test_layers_can_be_chosen_by_path():
    base = models.subclassed()
    assert chosen(base, ["^first$"]) == ["first"]
    assert chosen(models.functional(), [r"dense_(?P<block>\d)$"], (-1,)) == ["dense_2"]


@pytest.mark.parametrize(
    ("layers", "blocks"),
    [
        ("all", [0, 1, 2]),
        ("last:2", [1, 2]),
        ("first:1", [0]),
        ("-1", [2]),
        ("0,2", [0, 2]),
        ((-1, -2), [1, 2]),
        ((0,), [0]),
    ],
)
def test_layers_are_chosen_by_block(layers, blocks):
    expected = [f"transformer_layer_{block}/self_attention_layer/query" for block in blocks]
    assert chosen(models.distilbert(), ["attention.query"], layers) == expected


def test_order_is_the_models_and_nothing_comes_twice():
    paths = chosen(models.distilbert(), ["attention.value", "attention.query", "query"], "last:1")
    assert paths == [
        "transformer_layer_2/self_attention_layer/query",
        "transformer_layer_2/self_attention_layer/value",
    ]


@pytest.mark.parametrize(
    ("targets", "layers", "message"),
    [
        (["attention.qeury"], "all", "Did you mean 'attention.query'"),
        (["attention.query", "nothing"], "all", "No layer matches target 'nothing'"),
        (["attention.query"], "lats:2", "Did you mean 'last:2'"),
        (["attention.query"], "last:9", "this base model has 3; expected a number between 1 and 3"),
        (["attention.query"], (7,), "there is no block 7; this base model has blocks 0 to 2"),
        (["attention.query"], (), "expected at least one block number"),
        (["embedding.token"], "last:1", "matches no layer in a repeated block"),
        (["(unclosed"], "all", "it is not a regular expression"),
        (["(a{100}){200}"], "all", "it repeats a part more than 10,000 times"),
        ([], "all", "No targets were given"),
    ],
)
def test_what_matches_nothing_is_refused(targets, layers, message):
    with pytest.raises(SelectionError, match=message.replace("(", r"\(")):
        chosen(models.distilbert(), targets, layers)


def test_both_unknown_targets_are_named():
    with pytest.raises(SelectionError) as raised:
        chosen(models.distilbert(), ["foo", "bar"])
    assert "'foo'" in str(raised.value)
    assert "'bar'" in str(raised.value)


def test_a_layer_without_a_matrix_is_refused():
    with pytest.raises(SelectionError, match="expected a layer that multiplies by a matrix"):
        keras_peft.adapt(models.distilbert(), keras_peft.LoRA(), targets="norm")


def test_sites_are_named_by_roles_where_these_say_it_and_else_by_paths():
    base = models.distilbert()
    sites = find_sites(base, bases.roles_of(base))
    queries = [site for site in sites if site.role == "attention.query"]
    ups = [site for site in sites if site.role == "ffn.up"]
    assert selection_of(sites, [*queries, *ups]) == Selection(("attention.query", "ffn.up"))
    assert selection_of(sites, queries[1:]) == Selection(("attention.query",), (1, 2))
    own = [queries[2], ups[0]]
    # In the second list, `ffn.up` has a site in only one block.
    for all_sites in (sites, [site for site in sites if site not in ups[1:]]):
        selection = selection_of(all_sites, own)
        assert {site.path for site in select_sites(all_sites, selection)} == {site.path for site in own}
