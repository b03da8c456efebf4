"""Sizes that remember which axis of the device mesh divides them."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_peft.core.axis_sizes import axis_sizes, flattened, mesh_axis_of
from keras_peft.core.layouts import following
from keras_peft.core.projection import projection
from keras_peft.core.sites import find_sites

# Virtual devices; no variable is created on them.
MESH = keras.distribution.DeviceMesh((2, 4), ("batch", "model"), [f"cpu:{number}" for number in range(8)])


def parallel(entries):
    """Returns a context in which the devices share layers, by the layouts of their variables."""
    layout_map = keras.distribution.LayoutMap(MESH)
    for path, axes in entries.items():
        layout_map[path] = axes
    return keras.distribution.ModelParallel(layout_map=layout_map, batch_dim_name="batch").scope()


def site_of(layer, shape, dtype="float32"):
    inputs = keras.Input(shape, dtype=dtype)
    model = keras.Model(inputs, layer(inputs))
    return next(site for site in find_sites(model) if site.layer is layer)


def divided(sizes):
    return [(int(size), mesh_axis_of(size)) for size in sizes]


# A layer, the shape of its inputs, the layout of its variable, and what divides the inputs and the outputs.
KINDS = {
    "dense": (lambda: layers.Dense(8), (4,), {".*kernel": ("batch", "model")}, [(4, "batch"), (8, "model")]),
    "heads": (
        lambda: layers.EinsumDense("abc,cde->abde", (None, 4, 2)),
        (3, 8),
        {".*kernel": (None, "model", None)},
        [(8, None), (8, "model")],
    ),
    "width of heads": (
        lambda: layers.EinsumDense("abc,cde->abde", (None, 4, 2)),
        (3, 8),
        {".*kernel": (None, None, "batch")},
        [(8, None), (8, None)],
    ),
    "one head": (
        lambda: layers.EinsumDense("abc,cde->abde", (None, 1, 8)),
        (3, 8),
        {".*kernel": (None, None, "model")},
        [(8, None), (8, "model")],
    ),
    "out of heads": (
        lambda: layers.EinsumDense("abde,dec->abc", (None, 8)),
        (3, 4, 2),
        {".*kernel": ("model", None, "batch")},
        [(8, "model"), (8, "batch")],
    ),
    "table": (
        lambda: layers.ReversibleEmbedding(12, 8),
        (None,),
        {".*/embeddings": ("model", "batch")},
        [(12, "model"), (8, "batch")],
    ),
    "convolution": (
        lambda: layers.Conv1D(8, 3),
        (9, 4),
        {".*kernel": (None, "batch", "model")},
        [(12, None), (8, "model")],
    ),
    "convolution of points": (
        lambda: layers.Conv2D(8, 1),
        (5, 5, 4),
        {".*kernel": (None, None, "batch", "model")},
        [(4, "batch"), (8, "model")],
    ),
    "recurrent": (
        lambda: layers.GRU(8),
        (9, 4),
        {".*/kernel": ("batch", "model"), ".*recurrent_kernel": (None, "model")},
        [(12, None), (24, "model")],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_matrix_is_divided_like_the_variable_that_holds_it(kind):
    make, shape, entries, expected = KINDS[kind]
    site = site_of(make(), shape, "int32" if kind == "table" else "float32")
    whole = projection(site, recurrent=True)
    with parallel(entries):
        view = projection(site, recurrent=True)
    assert divided([view.inputs, view.outputs]) == expected
    assert divided([whole.inputs, whole.outputs]) == [(size, None) for size, _ in expected]


@pytest.mark.parametrize(("mode", "outputs"), [("int8", (8, "model")), ("int4", (8, None))])
def test_quantised_heads_are_divided_where_they_are_not_packed(mode, outputs):
    layer = layers.EinsumDense("abc,cde->abde", (None, 4, 2))
    site = site_of(layer, (3, 8))
    layer.quantize(mode)
    with parallel({".*kernel": (None, "model", None)}):
        view = projection(site)
    assert divided([view.inputs, view.outputs]) == [(8, None), outputs]


def test_the_vectors_of_a_norm_are_divided_like_its_own():
    site = site_of(layers.LayerNormalization(), (8,))
    with parallel({".*gamma": ("model",)}):
        shapes = site.shapes
    assert {name: divided(shape) for name, shape in shapes.items()} == {
        "gamma": [(8, "model")],
        "beta": [(8, None)],
    }


def test_arithmetic_forgets_how_a_size_is_divided():
    variable = keras.Variable(np.zeros((8, 4)), name="kernel")
    with parallel({".*kernel": ("model", "batch")}):
        rows, columns = axis_sizes(variable.shape, variable)
    assert divided([rows, columns, max(rows, columns)]) == [(8, "model"), (4, "batch"), (8, "model")]
    assert divided([rows // 2, rows * 2, flattened((columns, rows)), flattened((2, rows))]) == [
        (4, None),
        (16, None),
        (32, "batch"),
        (16, None),
    ]


class Weight:
    """What Keras asks the layout of."""

    def __init__(self, path, shape):
        self.name, self.path, self.shape = path.split("/")[-1], path, shape


def layout_of(entries, shape):
    with parallel(entries), following({"a": shape}):
        return keras.distribution.distribution().get_variable_layout(Weight("site_lora/a", shape)).axes


def test_a_mesh_axis_divides_one_axis_of_a_weight_into_equal_parts():
    variable = keras.Variable(np.zeros((8, 8, 6)), name="kernel")
    entries = {".*kernel": ("model", "batch", "model")}
    with parallel(entries):
        first, second, uneven = axis_sizes(variable.shape, variable)
    assert layout_of(entries, (first, second)) == ("model", "batch")
    assert layout_of(entries, (first, first)) == ("model", None)
    assert layout_of(entries, (uneven, first)) == (None, "model")


def test_other_variables_are_laid_out_as_before_and_the_distribution_is_put_back():
    with parallel({"other": ("model",)}):
        before = keras.distribution.distribution()
        with following({"a": (8,)}):
            now = keras.distribution.distribution()
            assert now.get_variable_layout(Weight("other", (8,))).axes == ("model",)
            assert now.batch_dim_name == "batch"
        assert keras.distribution.distribution() is before


def test_without_model_parallelism_nothing_changes():
    site = site_of(layers.Dense(8), (4,))
    with keras.distribution.DataParallel(devices=["cpu:0", "cpu:1"]).scope():
        before = keras.distribution.distribution()
        with following({"a": (4,)}):
            assert keras.distribution.distribution() is before
        assert type(projection(site).inputs) is int
