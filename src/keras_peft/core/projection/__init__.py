"""Layers as matrices of shape (inputs, outputs), one file per kind of layer."""

from __future__ import annotations

import keras

from keras_peft.core.linear_layers import is_linear
from keras_peft.core.projection._convolution import ConvolutionProjection
from keras_peft.core.projection._embedding import EmbeddingProjection as EmbeddingProjection
from keras_peft.core.projection._linear import LinearProjection as LinearProjection
from keras_peft.core.projection._linear import linear_projection as linear_projection
from keras_peft.core.projection._projection import Projection as Projection
from keras_peft.core.projection._recurrent import RecurrentProjection
from keras_peft.core.sites import RECURRENT_CELLS, RECURRENT_LAYERS, Site, own_variables
from keras_peft.errors import SelectionError, listed

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
# A subclass that defines one of these may compute anything with the kernel.
_OF_PRODUCTS = {"call", "convolution_op", "kernel", "embeddings", "quantized_call"}
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)


def projection(site: Site, *, recurrent: bool = False) -> Projection:
    """Returns the matrix view of a site.

    Args:
        site: A site whose layer is built.
        recurrent: Whether to accept recurrent layers, whose outputs are not products with their matrix.

    Raises:
        SelectionError: If the layer does not multiply by a matrix.
    """
    layer = site.layer
    if is_linear(layer):
        return _checked(linear_projection(site))
    if isinstance(layer, _CONVOLUTIONS):
        return _checked(ConvolutionProjection(site))
    if isinstance(layer, keras.layers.Embedding):
        return _checked(EmbeddingProjection(site))
    if isinstance(layer, (*RECURRENT_LAYERS, *RECURRENT_CELLS)):
        if recurrent:
            return RecurrentProjection(site)
        raise SelectionError(
            f"{site.path} is a {type(layer).__name__}, whose steps depend on each other; use a method that "
            "changes its kernels, such as LoRA, or choose other targets."
        )
    if isinstance(layer, _DEPTHWISE):
        height = " × ".join(map(str, layer.kernel_size))
        raise SelectionError(
            f"{site.path} is a {type(layer).__name__}, which filters each channel on its own with {height} "
            "values. An update of low rank would not be smaller than that. Use FullFineTuning or BitFit there, "
            "or leave it out of the targets."
        )
    if isinstance(layer, _SEPARABLE):
        raise SelectionError(
            f"{site.path} is a {type(layer).__name__}, which applies two kernels in one layer; use "
            "FullFineTuning there, or leave it out of the targets."
        )
    inner = [one.name for one in layer._flatten_layers(include_self=False) if own_variables(one)]
    inside = f" Choose layers inside of it, such as {listed(inner, most=3)}." if inner else ""
    raise SelectionError(
        f"{site.path} is a {type(layer).__name__}; expected a layer that multiplies by a matrix (Dense, "
        "EinsumDense, Conv1D to Conv3D, Embedding, LSTM, GRU or SimpleRNN)."
        f"{inside or ' Choose other targets.'}"
    )


def _checked(view: Projection) -> Projection:
    """Makes a method replace the kernel of a layer whose class computes something else with it."""
    for one in type(view.layer).__mro__:
        if one.__module__.split(".")[0] in ("keras", "keras_hub"):
            break
        if not _OF_PRODUCTS.isdisjoint(vars(one)):
            view.multiplies = False
    return view
