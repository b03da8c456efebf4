"""Adapter arithmetic, compared with the same sums on full matrices."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

import keras_peft
from core import models
from keras_peft import arithmetic, methods
from keras_peft.core.projection import projection
from keras_peft.core.selection import Selection
from keras_peft.core.sites import find_sites
from keras_peft.errors import AdapterError, KerasPeftError, OptionError

TARGETS = ("attention.query", "attention.value", "ffn.up")
FULL = 64  # More than the rank of any projection of the tiny bases.


def shake(model, name, seed):
    """Changes every value of an adapter from its initial value."""
    generator = np.random.default_rng(seed)
    tensors = model.adapter_tensors(name)
    moved = {key: value + 0.1 * generator.normal(size=value.shape) for key, value in tensors.items()}
    model.assign_adapter_tensors({key: value.astype("float32") for key, value in moved.items()}, name)


def model_of(adapters, *, base=None, heads=None):
    """A tiny base with shaken adapters, given as name -> (method, layers, targets)."""
    (first, (method, layers, targets)), *others = adapters.items()
    heads = heads or {}
    model = keras_peft.adapt(
        base or models.distilbert(layers=2),
        method,
        layers=layers,
        targets=targets,
        adapter=first,
        head=heads.get(first),
    )
    for name, (method, layers, targets) in others:
        model.add_adapter(name, method, layers=layers, targets=targets, head=heads.get(name))
    for seed, name in enumerate(adapters):
        shake(model, name, seed)
    model.activate()
    return model


def updates(model, name):
    """The changes that merging an adapter makes in the base's matrices, by path, in float32."""
    sites = [s for s in find_sites(model.base, model.roles) if hasattr(s.layer, "kernel")]
    model.activate()
    before = {site.path: keras.ops.convert_to_numpy(site.layer.kernel) for site in sites}
    model.activate(name)
    model.merge()
    changes = {
        site.path: projection(site).kernel_to_matrix(
            keras.ops.convert_to_numpy(site.layer.kernel).astype("float64") - before[site.path]
        )
        for site in sites
    }
    model.unmerge()
    model.activate()
    return {path: change for path, change in changes.items() if np.abs(change).max() > 0}


def weighted(model, weights):
    """The weighted sum of the updates; zero where an adapter has no update."""
    total = {}
    for name, weight in weights.items():
        for path, change in updates(model, name).items():
            total[path] = total.get(path, 0) + weight * change
    return total


def assert_equal(first, second, atol=2e-6):
    assert set(first) == set(second)
    for path in first:
        np.testing.assert_allclose(first[path], second[path], atol=atol, err_msg=path)


def outputs(model, name):
    model.activate(name)
    return keras.ops.convert_to_numpy(model(models.inputs_of(model.base), training=False))


def different_loras():
    """LoRAs that differ in rank, scale, initialisation, layers and targets."""
    return model_of(
        {
            "a": (keras_peft.LoRA(rank=2, alpha=4.0), "last:1", "attention.query"),
            "b": (keras_peft.LoRA(rank=3, rank_stabilized=True), "all", TARGETS),
            "c": (keras_peft.LoRA(rank=2, initialization="pissa"), "first:1", ["ffn.up", "ffn.down"]),
        }
    )


LORAS = {"a": 0.7, "b": -0.3, "c": 1.1}


def kept(matrix, rank):
    """The nearest matrix of the given rank."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    return (left[:, :rank] * values[:rank]) @ right[:rank]


def share(matrix, near):
    return np.linalg.norm(matrix - near) / np.linalg.norm(matrix)


def test_cat_is_the_sum_of_the_updates():
    model = different_loras()
    report = keras_peft.combine(model, LORAS, into="all", how="cat")
    assert report.rank == 7  # b and the doubled c, at the ffn.up of the first block
    assert set(report.errors.values()) == {0.0}
    assert report.largest == report.mean == 0.0
    assert_equal(updates(model, "all"), weighted(model, LORAS))
    # Computed once from the factors, without merging.
    tensors = {name: model.adapter_tensors(name) for name in ("a", "b", "all")}
    key = "transformer_layer_1/self_attention_layer/query/lora"
    expected = 0.7 * 2 * tensors["a"][f"{key}/a"].astype("float64") @ tensors["a"][f"{key}/b"]
    expected -= 0.3 * 16 / np.sqrt(3) * tensors["b"][f"{key}/a"].astype("float64") @ tensors["b"][f"{key}/b"]
    method = model.adapters["all"].placements[0].method
    assert isinstance(method, keras_peft.LoRA)
    assert method.scaling == 1.0
    np.testing.assert_allclose(tensors["all"][f"{key}/a"] @ tensors["all"][f"{key}/b"], expected, atol=1e-6)


def test_cat_of_one_adapter_gives_its_outputs():
    model = different_loras()
    for name in LORAS:
        keras_peft.combine(model, {name: 1}, into=f"{name}-again", how="cat")
        np.testing.assert_allclose(outputs(model, f"{name}-again"), outputs(model, name), atol=1e-5)


def test_the_sources_and_what_is_active_stay():
    model = different_loras()
    model.activate("b")
    before = {name: model.adapter_tensors(name) for name in LORAS}
    base = models.values(model.base)
    keras_peft.combine(model, LORAS, into="all")
    assert model.active == ("b",)
    assert list(model.adapters) == ["a", "b", "c", "all"]
    for name, tensors in before.items():
        assert all(np.array_equal(model.adapter_tensors(name)[key], value) for key, value in tensors.items())
    assert models.same(models.values(model.base), base)


def test_unneeded_directions_can_still_train():
    model = different_loras()
    keras_peft.combine(model, LORAS, into="all", how="cat")
    tensors = model.adapter_tensors("all")
    key = "transformer_layer_1/self_attention_layer/value/lora"  # only b, of rank 3
    assert np.abs(tensors[f"{key}/a"]).min() > 0
    assert not tensors[f"{key}/b"][3:].any()


def test_the_new_adapter_attaches_just_where_the_sources_do():
    model = different_loras()
    keras_peft.combine(model, LORAS, into="all")
    there = {weights.site.path for name in LORAS for weights in model.adapters[name].site_weights}
    assert {weights.site.path for weights in model.adapters["all"].site_weights} == there
    assert {placement.selection for placement in model.adapters["all"].placements} == {
        Selection(("attention.query", "attention.value", "ffn.up"), "all"),
        Selection(("ffn.down",), (0,)),
    }


def test_layers_without_a_role_are_named_by_path():
    model = model_of(
        {"a": (keras_peft.LoRA(rank=2), "all", ["dense_1", "attention_0/query"])}, base=models.functional()
    )
    keras_peft.convert_to_lora(model, "a", into="b")
    assert {placement.selection for placement in model.adapters["b"].placements} == {
        Selection(("^dense_1$",), "all"),
        Selection(("attention.query",), (0,)),
    }
    np.testing.assert_allclose(outputs(model, "b"), outputs(model, "a"), atol=1e-5)


@pytest.mark.slow
def test_saved_and_loaded_and_mixed_in_a_batch(tmp_path):
    model = different_loras()
    keras_peft.combine(model, LORAS, into="all")
    keras_peft.save_adapter(model, tmp_path / "all", "all")
    keras_peft.load_adapter(model, tmp_path / "all", "again")
    np.testing.assert_array_equal(outputs(model, "again"), outputs(model, "all"))
    names = ["all", "a", "b", "all"]
    mixed = model.predict(models.inputs_of(model.base), adapters=names, verbose=0)
    for row, name in enumerate(names):
        np.testing.assert_allclose(mixed[row], outputs(model, name)[row], atol=1e-5)


def different_methods():
    return model_of(
        {
            "dora": (keras_peft.DoRA(rank=2), "all", TARGETS),
            "lokr": (keras_peft.methods.LoKr(rank=2), "last:1", [*TARGETS, "ffn.down"]),
            "vera": (keras_peft.methods.VeRA(rank=4), "all", TARGETS),
        }
    )


MIXED = {"dora": 0.5, "lokr": 0.8, "vera": -0.2}


def test_svd_of_full_rank_is_the_sum_for_any_methods():
    model = different_methods()
    report = keras_peft.combine(model, MIXED, into="all", how="svd", rank=FULL)
    assert report.largest == 0.0
    assert report.rank == 16  # The smaller dimension; a higher rank has no effect.
    assert_equal(updates(model, "all"), weighted(model, MIXED))


@pytest.mark.parametrize("weights", [LORAS, MIXED], ids=["products", "whole matrices"])
def test_svd_is_the_nearest_of_its_rank_and_states_the_error(weights):
    model = different_loras() if weights is LORAS else different_methods()
    report = keras_peft.combine(model, weights, into="all", rank=3)
    exact = weighted(model, weights)
    near = {path: kept(matrix, 3) for path, matrix in exact.items()}
    assert_equal(updates(model, "all"), near)
    assert report.rank == 3
    assert set(report.errors) == set(exact)
    for path, error in report.errors.items():
        assert error == pytest.approx(share(exact[path], near[path]), abs=2e-6)
    assert report.largest == max(report.errors.values()) > 0.05
    assert report.mean == pytest.approx(np.mean(list(report.errors.values())))
    assert str(report).startswith(
        f"all, rank 3, {len(exact)} layers: relative error {report.largest:.2e} at most"
    )


def two_of_a_size():
    return model_of(
        {
            "a": (keras_peft.LoRA(rank=3), "all", "attention.query"),
            "b": (keras_peft.DoRA(rank=3), "last:1", ["attention.query", "ffn.up"]),
        }
    )


def ties_written_out(matrices, weights, density):
    """Section 4 of the paper, entry by entry."""
    flat = []
    for matrix in matrices:
        count = int(np.ceil(density * matrix.size))
        limit = np.sort(np.abs(matrix).ravel())[::-1][count - 1]
        flat.append(np.where(np.abs(matrix) >= limit, matrix, 0).ravel())
    result = np.zeros(flat[0].size)
    for entry in range(result.size):
        values = [weight * update[entry] for weight, update in zip(weights, flat, strict=True)]
        sign = np.sign(sum(values))
        agreeing = [(w, v) for w, v in zip(weights, values, strict=True) if v != 0 and np.sign(v) == sign]
        if agreeing:
            mean = sum(v for _, v in agreeing) / sum(abs(w) for w, _ in agreeing)
            result[entry] = mean * sum(abs(w) for w in weights)
    return result.reshape(matrices[0].shape)


@pytest.mark.parametrize("weights", [(0.7, 0.3), (1.0, -0.5)])
@pytest.mark.parametrize("density", [1.0, 0.3])
def test_ties_written_out(weights, density):
    model = two_of_a_size()
    ask = dict(zip("ab", weights, strict=True))
    keras_peft.combine(model, ask, into="all", how="ties", rank=FULL, density=density)
    one, two = updates(model, "a"), updates(model, "b")
    expected = {
        path: ties_written_out(
            [found.get(path, np.zeros(matrix.shape)) for found in (one, two)], weights, density
        )
        for path, matrix in {**one, **two}.items()
    }
    assert_equal(updates(model, "all"), expected)


def test_ties_of_what_agrees_is_the_sum():
    """Trims nothing, and all entries agree in sign."""
    model = model_of({name: (keras_peft.LoRA(rank=3), "all", "attention.query") for name in "ab"})
    double = {
        key: value * 2 if key.endswith("/b") else value for key, value in model.adapter_tensors("a").items()
    }
    model.assign_adapter_tensors(double, "b")
    weights = {"a": 0.6, "b": 1.5}
    report = keras_peft.combine(model, weights, into="all", how="ties", density=1.0)
    assert report.rank == 3
    assert_equal(updates(model, "all"), weighted(model, weights))


def test_dare_written_out():
    model = two_of_a_size()
    weights = {"a": 0.7, "b": -0.4}
    keras_peft.combine(model, weights, into="all", how="dare", rank=FULL, density=0.25, seed=5)
    keras_peft.combine(model, weights, into="again", how="dare", rank=FULL, density=0.25, seed=5)
    keras_peft.combine(model, weights, into="other", how="dare", rank=FULL, density=0.25, seed=6)
    random = np.random.default_rng(5)
    one, two = updates(model, "a"), updates(model, "b")
    expected = {}
    for site in find_sites(model.base, model.roles):
        if (path := site.path) in {**one, **two}:
            shape = {**one, **two}[path].shape
            masks = [random.random(shape) < 0.25 for _ in weights]
            expected[path] = sum(
                weight * found.get(path, np.zeros(shape)) * mask / 0.25
                for (weight, found, mask) in zip(weights.values(), (one, two), masks, strict=True)
            )
    assert_equal(updates(model, "all"), expected, atol=5e-6)
    assert_equal(updates(model, "again"), updates(model, "all"))
    assert any(
        np.abs(updates(model, "other")[path] - matrix).max() > 0.01 for path, matrix in expected.items()
    )


def test_dare_that_drops_nothing_is_the_sum():
    model = two_of_a_size()
    weights = {"a": 0.7, "b": -0.4}
    keras_peft.combine(model, weights, into="all", how="dare", rank=FULL, density=1)
    assert_equal(updates(model, "all"), weighted(model, weights))


def test_defaults_of_ties_and_dare():
    model = two_of_a_size()
    for how, options in (("ties", {"density": 0.2}), ("dare", {"density": 0.5, "seed": 0})):
        first = keras_peft.combine(model, {"a": 1.0, "b": 1.0}, into=how, how=how)
        second = keras_peft.combine(model, {"a": 1.0, "b": 1.0}, into=f"{how}-2", how=how, rank=16, **options)
        assert first.errors == second.errors
        assert_equal(updates(model, how), updates(model, f"{how}-2"), atol=0)


LINEAR = {
    "bitfit": (keras_peft.BitFit(), None),
    "ia3": (keras_peft.IA3(), None),
    "norm": (keras_peft.methods.NormTuning(), None),
    "full": (keras_peft.FullFineTuning(), ["ffn.up", "norm"]),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear_is_the_sum_of_all_that_changes(name):
    """Covers kernels, biases, scales and shifts, by merging each adapter."""
    method, targets = LINEAR[name]
    model = model_of({"a": (method, "all", targets), "b": (method, "all", targets)})
    report = keras_peft.combine(model, {"a": 0.7, "b": -0.2}, into="all", how="linear")
    assert report.rank is None
    assert report.largest == 0.0
    assert report.errors

    def changed(adapter):
        model.activate()
        before = models.values(model.base)
        model.activate(adapter)
        model.merge()
        change = [now - then for now, then in zip(models.values(model.base), before, strict=True)]
        model.unmerge()
        model.activate()
        return change

    for one, two, both in zip(changed("a"), changed("b"), changed("all"), strict=True):
        np.testing.assert_allclose(both, 0.7 * one - 0.2 * two, atol=2e-6)
    half = keras_peft.combine(model, {"a": 0.5, "b": 0.5}, into="mean", how="linear")
    mean = model.adapter_tensors("mean")
    for key, value in model.adapter_tensors("a").items():
        expected = (value + model.adapter_tensors("b")[key]) / 2
        np.testing.assert_allclose(mean[key], expected, atol=1e-6)
    assert half.adapter == "mean"


def test_linear_of_probes_is_the_mean_of_their_heads():
    model = model_of(
        dict.fromkeys("ab", (keras_peft.LinearProbe(), "all", None)), heads={"a": head(), "b": head()}
    )
    report = keras_peft.combine(model, {"a": 0.5, "b": 0.5}, into="all", how="linear")
    assert report.errors == {}
    assert report.largest == report.mean == 0.0
    for key, value in head_of(model, "all").items():
        np.testing.assert_allclose(
            value, (head_of(model, "a")[key] + head_of(model, "b")[key]) / 2, atol=1e-6
        )


@pytest.mark.parametrize("name", [name for name in methods.names() if methods.find(name).default_targets])
def test_methods_that_are_not_linear_are_refused(name):
    method = methods.find(name)
    if method.linear:
        assert name in LINEAR
        return
    fields = method.__dataclass_fields__
    small = {"tokens": 4, "rank": 2, "initial_rank": 2, "size": 8, "hidden": 8, "block_size": 8}
    one = method(**{key: value for key, value in small.items() if key in fields})
    layers = "all" if method.default_layers == "all" else "last:1"
    model = keras_peft.adapt(models.distilbert(layers=2), one, layers=layers, adapter="a")
    with pytest.raises(AdapterError, match=f"the effect of {name} is not linear in its weights"):
        keras_peft.combine(model, {"a": 1.0}, into="b", how="linear")
    assert list(model.adapters) == ["a"]


# These change no kernels. On a base without biases, all other methods change only kernels.
NO_KERNELS = {"bitfit", "norm", "linear-probe"}


@pytest.mark.parametrize("name", [name for name in methods.names() if methods.find(name).merges])
def test_every_method_that_merges_into_kernels_becomes_a_lora(name):
    method = methods.find(name)()
    base = models.llama() if name not in NO_KERNELS else models.distilbert(layers=2)
    targets = list(TARGETS) if name == "full" else None
    head = keras.layers.Dense(3) if not method.default_targets else None
    model = model_of({"a": (method, "all", targets)}, base=base, heads={"a": head})
    if name in NO_KERNELS:
        with pytest.raises(AdapterError, match=r"/bias|/beta|does not change the kernel"):
            keras_peft.convert_to_lora(model, "a", into="b")
        assert list(model.adapters) == ["a"]
        return
    report = keras_peft.convert_to_lora(model, "a", rank=FULL, into="b")
    assert report.largest == 0.0
    assert report.rank <= 16
    np.testing.assert_allclose(outputs(model, "b"), outputs(model, "a"), atol=3e-5)
    small = keras_peft.convert_to_lora(model, "a", rank=1, into="small")
    exact = updates(model, "a")
    for path, error in small.errors.items():
        assert error == pytest.approx(share(exact[path], kept(exact[path], 1)), abs=1e-5)


def test_two_methods_in_one_adapter_become_one_lora():
    model = keras_peft.adapt(models.llama(), [keras_peft.LoRA(rank=2), keras_peft.IA3()], adapter="a")
    shake(model, "a", 0)
    keras_peft.convert_to_lora(model, "a", rank=FULL, into="b")
    np.testing.assert_allclose(outputs(model, "b"), outputs(model, "a"), atol=3e-5)


def test_a_change_that_is_zero_is_no_hindrance():
    """(IA)³ scales biases, and a bias of zero stays zero."""
    model = model_of({"a": (keras_peft.IA3(), "all", None)})
    keras_peft.convert_to_lora(model, "a", rank=FULL, into="b")
    np.testing.assert_allclose(outputs(model, "b"), outputs(model, "a"), atol=3e-5)
    site = next(s for s in find_sites(model.base, model.roles) if s.role == "attention.key")
    site.layer.bias.assign(np.ones(site.layer.bias.shape, "float32"))
    with pytest.raises(AdapterError, match=r"'a' \(ia3\) changes .*/key/bias"):
        keras_peft.convert_to_lora(model, "a", into="c")
    assert list(model.adapters) == ["a", "b"]


@pytest.mark.slow
def test_on_a_quantised_base():
    base = models.distilbert(layers=2)
    with pytest.warns(UserWarning, match="does not have a `quantize` method"):
        base.quantize("int8")
    model = model_of({"a": (keras_peft.methods.OFT(block_size=8), "all", None)}, base=base)
    keras_peft.convert_to_lora(model, "a", rank=FULL, into="b")
    np.testing.assert_allclose(outputs(model, "b"), outputs(model, "a"), atol=0.02)


@pytest.mark.parametrize(
    "method",
    [
        keras_peft.LoRA(rank=6, alpha=3.0),
        keras_peft.LoRA(rank=4, initialization="olora"),
        keras_peft.AdaLoRA(rank=4, initial_rank=6),
        keras_peft.methods.VeRA(rank=6),
    ],
    ids=["lora", "olora", "adalora", "vera"],
)
def test_reduced_rank_leaves_out_the_smallest_singular_values(method):
    model = model_of({"a": (method, "all", TARGETS)})
    report = keras_peft.reduce_rank(model, "a", rank=2, into="small")
    exact = updates(model, "a")
    assert_equal(updates(model, "small"), {path: kept(matrix, 2) for path, matrix in exact.items()})
    for path, error in report.errors.items():
        values = np.linalg.svd(exact[path], compute_uv=False)
        discarded = np.sqrt(np.sum(values[2:] ** 2) / np.sum(values**2))
        assert error == pytest.approx(discarded, abs=2e-6)


def test_reduced_to_an_error():
    model = model_of({"a": (keras_peft.LoRA(rank=6), "all", TARGETS)})
    reports = {rank: keras_peft.reduce_rank(model, "a", rank=rank, into=f"a{rank}") for rank in range(1, 9)}
    assert reports[8].rank == reports[6].rank == 6
    assert reports[6].largest == 0.0
    for rank in range(2, 7):
        limit = (reports[rank].largest + reports[rank - 1].largest) / 2
        report = keras_peft.reduce_rank(model, "a", error=limit, into=f"within-{rank}")
        assert report.rank == rank
        assert report.errors == reports[rank].errors
    assert keras_peft.reduce_rank(model, "a", error=0, into="exact").rank == 6


def test_a_new_lora_has_no_update_to_reduce():
    model = keras_peft.adapt(models.distilbert(layers=2), keras_peft.LoRA(), adapter="a")
    report = keras_peft.reduce_rank(model, "a", rank=2, into="b")
    assert report.rank == 1
    assert report.largest == 0.0
    np.testing.assert_array_equal(outputs(model, "b"), outputs(model, "a"))


def head(outputs=3, *, name="head"):
    vectors = keras.Input((None, 16))
    pooled = keras.layers.GlobalAveragePooling1D()(vectors)
    return keras.Model(vectors, keras.layers.Dense(outputs, name="logits")(pooled), name=name)


def with_heads(**heads):
    adapter = (keras_peft.LoRA(rank=2), "all", None)
    return model_of(dict.fromkeys("abc", adapter), heads=heads)


def head_of(model, name):
    return {key: value for key, value in model.adapter_tensors(name).items() if key.startswith("head/")}


@pytest.mark.parametrize(
    "make",
    [
        head,
        lambda: keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(3)]),
        lambda: keras.layers.Dense(3),
    ],
    ids=["functional", "sequential", "layer"],
)
def test_the_only_head_is_copied(make):
    model = with_heads(b=make())
    keras_peft.combine(model, {"a": 0.5, "b": -0.5}, into="all")
    keras_peft.convert_to_lora(model, "b", into="b-lora")
    for name in ("all", "b-lora"):
        assert model.adapters[name].head is not model.adapters["b"].head
        for key, value in head_of(model, "b").items():
            np.testing.assert_array_equal(head_of(model, name)[key], value)
    assert outputs(model, "all").shape == outputs(model, "b").shape
    before = head_of(model, "b")
    shake(model, "all", 9)
    assert all(np.array_equal(head_of(model, "b")[key], value) for key, value in before.items())
    keras_peft.combine(model, {"a": 1, "c": 1}, into="none")
    assert model.adapters["none"].head is None


def test_heads_of_one_shape_become_their_weighted_mean():
    model = with_heads(a=head(), b=head())
    keras_peft.combine(model, {"a": 0.6, "b": 1.8, "c": 1.0}, into="all")
    one, two, both = (head_of(model, name) for name in ("a", "b", "all"))
    assert both
    for key, value in both.items():
        np.testing.assert_allclose(value, 0.25 * one[key] + 0.75 * two[key], atol=1e-6)
    keras_peft.combine(model, {"a": 0.6, "b": 1.8}, into="named", head="b")
    assert all(np.array_equal(value, two[key]) for key, value in head_of(model, "named").items())
    keras_peft.combine(model, {"c": 1.0}, into="lent", head="a")
    assert all(np.array_equal(value, one[key]) for key, value in head_of(model, "lent").items())


@pytest.mark.parametrize(
    ("heads", "weights", "message"),
    [
        (
            (head(3), head(4)),
            (0.5, 0.5),
            "The heads of 'a', 'b' have different layers or shapes. Choose the adapter",
        ),
        ((head(3), keras.layers.Dense(3)), (0.5, 0.5), "have different layers or shapes"),
        (
            (head(3), head(3)),
            (0.5, -0.5),
            "cannot be averaged with the weights 0.5, -0.5.* such as `head='a'`",
        ),
        ((head(3), head(3)), (0, 0), "and not all zero"),
    ],
)
def test_heads_that_have_no_mean(heads, weights, message):
    model = with_heads(**dict(zip("ab", heads, strict=True)))
    with pytest.raises(OptionError, match=message):
        keras_peft.combine(model, dict(zip("ab", weights, strict=True)), into="all")
    assert list(model.adapters) == ["a", "b", "c"]
    keras_peft.combine(model, dict(zip("ab", weights, strict=True)), into="all", head="a")


def test_the_head_of_the_base_itself():
    base = models.distilbert_classifier()
    model = model_of(dict.fromkeys("ab", (keras_peft.LoRA(rank=2), "all", None)), base=base)
    keras_peft.combine(model, {"a": 1.0, "b": 3.0}, into="all")
    keras_peft.combine(model, {"a": 1.0, "b": 3.0}, into="named", head="b")
    keras_peft.reduce_rank(model, "a", rank=2, into="a2")
    one, two, both, named, again = (model.adapter_tensors(name) for name in ("a", "b", "all", "named", "a2"))
    for key in ("logits/kernel", "pooled_dense/bias"):
        np.testing.assert_allclose(both[key], 0.25 * one[key] + 0.75 * two[key], atol=1e-6)
        np.testing.assert_array_equal(named[key], two[key])
        np.testing.assert_array_equal(again[key], one[key])
    np.testing.assert_allclose(outputs(model, "a2"), outputs(model, "a"), atol=1e-5)
    with pytest.raises(OptionError, match="not negative and not all zero"):
        keras_peft.combine(model, {"a": 1.0, "b": -1.0}, into="less")


class Uncopied(keras.layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.dense = keras.layers.Dense(units)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x)


def test_a_head_that_cannot_be_copied():
    model = with_heads(a=Uncopied(units=3))
    with pytest.raises(AdapterError, match=r"cannot be copied .* get_config\(\) and from_config\(\)"):
        keras_peft.convert_to_lora(model, "a", into="b2")
    assert list(model.adapters) == ["a", "b", "c"]


def test_all_that_is_wrong_is_said_at_once():
    model = with_heads(a=head())
    with pytest.raises(OptionError) as raised:
        keras_peft.combine(
            model,
            {"a": float("nan"), "bb": "1"},
            into="c",
            how="linear",
            rank=0,
            density=0,
            seed=-1,
            head="d",
        )
    for said in (
        "there is no adapter 'bb', the adapters are a, b, c",
        "there is no adapter 'd'",
        "the adapter 'c' already exists",
        "weight of 'a' must be a finite number, got nan",
        "weight of 'bb' must be a finite number, got '1'",
        "`rank` must be an integer of at least 1, got 0",
        "`seed` must be an integer of at least 0, got -1",
        "`density` must be above 0 and at most 1, got 0",
        "`how='linear'` does not take rank",
    ):
        assert said in str(raised.value)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (lambda m: keras_peft.combine(m, {}, into="x"), "no adapters were given"),
        (lambda m: keras_peft.combine(m, ["a"], into="x"), r"expected weights by name.*got \['a'\]"),
        (lambda m: keras_peft.combine(m, {"a": 1}, into="x/y"), "`into='x/y'` is not a valid adapter name"),
        (lambda m: keras_peft.combine(m, {"a": True}, into="x"), "must be a finite number, got True"),
        (
            lambda m: keras_peft.combine(m, {"a": 1}, into="x", how="tis"),
            "expected one of cat, dare, linear, svd, ties",
        ),
        (
            lambda m: keras_peft.combine(m, {"a": 1}, into="x", how="cat", rank=4),
            "`how='cat'` does not take rank",
        ),
        (
            lambda m: keras_peft.combine(m, {"a": 1}, into="x", density=0.5),
            "`how='svd'` does not take density, only rank",
        ),
        (
            lambda m: keras_peft.combine(m, {"a": 1}, into="x", how="ties", density=1.5),
            "`density` must be above 0",
        ),
        (lambda m: keras_peft.combine(m, {"a": 1}, into="x", head="b"), "`head='b'` has no head"),
        (lambda m: keras_peft.combine(m, {"lor": 1}, into="x"), r"\(did you mean 'lora'\?\)"),
        (
            lambda m: keras_peft.convert_to_lora(m, "no", rank=2.0, into="a"),
            "there is no adapter 'no'.*'a' already exists.*2.0",
        ),
        (lambda m: keras_peft.reduce_rank(m, "a", into="x"), "either `rank` or `error`, got neither"),
        (lambda m: keras_peft.reduce_rank(m, "a", rank=1, error=0.1, into="x"), "got both"),
        (
            lambda m: keras_peft.reduce_rank(m, "a", error=2, into="x"),
            "`error` must be between 0 and 1, got 2",
        ),
        (
            lambda m: keras_peft.reduce_rank(m, "b", rank=1, into="x"),
            r"'b' uses dora, .* convert_to_lora\(\)",
        ),
        (
            lambda m: keras_peft.combine(m, {"a": 1, "b": 1}, into="x", how="cat"),
            r"'b' \(dora\) is not a product",
        ),
        (
            lambda m: keras_peft.combine(m, {"a": 1, "p": 1}, into="x"),
            "'p' has prefix, which is not an update",
        ),
        (
            lambda m: keras_peft.combine(m, {"p": 1}, into="x", how="cat"),
            "'p' has prefix, which is not an update",
        ),
        (
            lambda m: keras_peft.reduce_rank(m, "p", rank=1, into="x"),
            "'p' has prefix, which is not an update",
        ),
        (lambda m: keras_peft.combine(m, {"a": 1, "f": 1}, into="x"), r"'f' \(bitfit\) changes .*/bias"),
        (
            lambda m: keras_peft.combine(m, {"f": 1, "n": 1}, into="x", how="linear"),
            "'f' has bitfit; 'n' has norm",
        ),
        (
            lambda m: keras_peft.combine(m, {"f": 1, "g": 1}, into="x", how="linear"),
            "attach to different layers",
        ),
        (
            lambda m: keras_peft.combine(m, {"two": 1}, into="x", how="linear"),
            "two methods act at .*, where one",
        ),
    ],
)
def test_refusals(request_, message, refusing):
    before = list(refusing.adapters)
    with pytest.raises(KerasPeftError, match=message):
        request_(refusing)
    assert list(refusing.adapters) == before


@pytest.fixture(scope="module")
def refusing():
    model = model_of(
        {
            "a": (keras_peft.LoRA(rank=2), "all", None),
            "b": (keras_peft.DoRA(rank=2), "all", None),
            "p": (keras_peft.PrefixTuning(tokens=2), "all", None),
            "f": (keras_peft.BitFit(), "all", None),
            "g": (keras_peft.BitFit(), "last:1", None),
            "n": (keras_peft.methods.NormTuning(), "all", None),
            "lora": (keras_peft.LoRA(rank=2), "all", None),
        }
    )
    model.add_adapter("two", [keras_peft.BitFit(), keras_peft.methods.NormTuning()])
    return model


def test_merged_broken_and_detached_models():
    model = different_loras()
    model.activate("a")
    model.merge()
    with pytest.raises(AdapterError, match=r"unmerge\(\)"):
        keras_peft.combine(model, LORAS, into="all")
    model.unmerge()
    model.adapters["a"].site_weights[0].values["a"].assign(np.full((16, 2), np.nan, "float32"))
    with pytest.raises(AdapterError, match=r"not finite: 'a' at .*/query/lora/a\. Train them again"):
        keras_peft.combine(model, LORAS, into="all")
    model.detach()
    with pytest.raises(AdapterError, match="was detached"):
        keras_peft.convert_to_lora(model, "a", into="b2")


@pytest.mark.slow
def test_a_combined_adapter_trains_on():
    model = with_heads(a=head(), b=head())
    keras_peft.combine(model, {"a": 0.5, "b": 0.5}, into="all", how="cat")
    model.activate("all")
    before = model.adapter_tensors()
    model.compile(
        keras.optimizers.Adam(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False if keras.config.backend() == "tensorflow" else "auto",
    )
    model.fit(models.inputs_of(model.base), np.arange(4) % 3, epochs=1, verbose=0)
    now = model.adapter_tensors()
    assert all(not np.array_equal(now[key], value) for key, value in before.items())


def test_the_ways_are_the_files_of_the_folder():
    assert arithmetic.ways() == ["cat", "dare", "linear", "svd", "ties"]


def test_the_placements_of_a_combined_adapter_are_ready_for_json():
    model = different_loras()
    keras_peft.combine(model, LORAS, into="all")
    placements = model.adapters["all"].placements
    configs = json.loads(json.dumps([placement.to_config() for placement in placements]))
    assert methods.placements_from_config(configs) == list(placements)
