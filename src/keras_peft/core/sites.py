"""Sites: the layers of a base with their names, roles and blocks.

A site's `path` joins the layer names from the model down, such as
`transformer_layer_4/self_attention_layer/query`. Its `role` names the function of the layer in terms
that all architectures share. Its `block` is the index of the repeated part that contains it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import keras

from keras_peft.core.axis_sizes import axis_sizes
from keras_peft.core.linear_layers import multiplies_by_matrix

# Keras's own attention layers always use the same names for their projections, so these roles
# hold for any model, with a known architecture or not.
_ATTENTION_LAYERS = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
_ATTENTION_CHILDREN = {
    "query": "attention.query",
    "key": "attention.key",
    "value": "attention.value",
    "attention_output": "attention.output",
}
# A recurrent layer is one site with its cell, whose kernels it may use without calling the cell.
RECURRENT_LAYERS = (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN)
RECURRENT_CELLS = (keras.layers.LSTMCell, keras.layers.GRUCell, keras.layers.SimpleRNNCell)
_NORM_LAYERS = (
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
)


@dataclass(frozen=True)
class Site:
    """A layer of the base that a method can attach to.

    Attributes:
        path: Layer names from the model down, joined with "/".
        key: The path with automatic layer numbers replaced by stable ones, which do not
            depend on what was built before. Used as the key of the site's weights in files.
        role: One of `ROLES`, or None if the role is unknown.
        block: Index of the repeated part that contains the layer, from 0, or None.
        layer: The layer.
        inner: The first site of each role below this one, by role.
        is_last: Whether the site is the last block or is inside it.
    """

    path: str
    key: str
    role: str | None
    block: int | None
    layer: keras.Layer
    inner: Mapping[str, Site] = field(default_factory=dict, compare=False, repr=False)
    is_last: bool = field(default=False, compare=False, repr=False)

    @property
    def is_linear(self) -> bool:
        """Whether the layer's output is a product with a matrix, apart from bias and activation."""
        return multiplies_by_matrix(self.layer)

    @property
    def kind(self) -> str:
        """Name of the layer's class."""
        return type(self.layer).__name__

    @property
    def has_weights(self) -> bool:
        """Whether the layer has variables that are not those of its sublayers."""
        return bool(own_variables(self.layer))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of these variables by name."""
        return {variable.name: axis_sizes(variable.shape, variable) for variable in own_variables(self.layer)}


def find_sites(model: keras.Model, roles: Mapping[str, str] | None = None) -> list[Site]:
    """Lists all layers below a model, outer layers first, each once.

    Args:
        model: A built Keras model.
        roles: The roles of the model's architecture: maps regular expressions, matched at the
            end of a path, to roles. Keras's own layers (attention and its projections, norms)
            are recognised without it. If it defines the role `block`, only those layers are
            numbered: by their order, or by a group named `block` in the expression.
            Otherwise repeated layers are numbered.

    Returns:
        One `Site` per layer, in model order.

    Example:
        >>> [site.path for site in find_sites(model) if site.role == "attention.query"]
    """
    patterns = [(re.compile(f"(?:^|/)(?:{p})$"), role) for p, role in (roles or {}).items()]
    blocks = [pattern for pattern, role in patterns if role == "block"]
    sites = []
    for path, key, block, layer, parent in _walk(model, "", "", None, {id(model)}, blocks):
        role = next((role for pattern, role in patterns if pattern.search(path)), None)
        sites.append(Site(path, key, role or _keras_role(layer, parent), block, layer))
    last = max(
        (site.block for site in sites if site.role == "block" and site.block is not None), default=None
    )
    return [replace(site, inner=_inner(site, sites), is_last=site.block == last) for site in sites]


def own_variables(layer: keras.Layer) -> list[keras.Variable]:
    """Returns the variables of a layer without those of its sublayers that are sites of their own."""
    inner = {
        id(variable)
        for child in layer._flatten_layers(include_self=False, recursive=True)
        for variable in child.variables
        if not _is_cell_of(child, layer)
    }
    return [variable for variable in layer.weights if id(variable) not in inner]


def _inner(outer: Site, sites: Iterable[Site]) -> dict[str, Site]:
    inner: dict[str, Site] = {}
    for site in sites:
        if site.role is not None and site.path.startswith(f"{outer.path}/"):
            inner.setdefault(site.role, site)
    return inner


def _walk(
    layer: keras.Layer,
    path: str,
    key: str,
    block: int | None,
    seen: set[int],
    blocks: Sequence[re.Pattern[str]],
) -> Iterator[tuple[str, str, int | None, keras.Layer, keras.Layer]]:
    # Keras has no public API for the sublayers of a layer that is not a Model.
    children = layer._flatten_layers(include_self=False, recursive=False)
    children = [child for child in children if id(child) not in seen and not _is_cell_of(child, layer)]
    numbers = {}
    if block is None:
        numbers = _number_blocks(children, path, blocks) if blocks else _number_siblings(children)
    names = _stable_names(children)
    for child in children:
        if id(child) in seen:
            continue
        seen.add(id(child))
        child_path = f"{path}/{child.name}" if path else child.name
        child_key = f"{key}/{names[id(child)]}" if key else names[id(child)]
        child_block = numbers.get(id(child), block)
        yield child_path, child_key, child_block, child, layer
        yield from _walk(child, child_path, child_key, child_block, seen, blocks)


def _is_cell_of(cell: keras.Layer, layer: keras.Layer) -> bool:
    return isinstance(layer, RECURRENT_LAYERS) and cell is layer.cell


def _families(layers: Iterable[keras.Layer]) -> dict[tuple[type, str], list[keras.Layer]]:
    """Groups siblings of one class whose names differ only in a trailing number."""
    families: dict[tuple[type, str], list[keras.Layer]] = defaultdict(list)
    for layer in layers:
        families[type(layer), re.sub(r"_\d+$", "", layer.name)].append(layer)
    return families


def _number_siblings(layers: Iterable[keras.Layer]) -> dict[int, int]:
    """Numbers repeated layers in their order."""
    return {
        id(layer): number
        for (kind, _), family in _families(layers).items()
        if len(family) > 1 and not issubclass(kind, keras.layers.InputLayer)
        for number, layer in enumerate(family)
    }


def _number_blocks(
    layers: Iterable[keras.Layer], path: str, blocks: Sequence[re.Pattern[str]]
) -> dict[int, int]:
    """Numbers the layers that are blocks, in their order unless the pattern captures a number.

    `_number_siblings` is not sufficient for known architectures: a model with one block has no
    repeated layers, and repeated layers are not always blocks.
    """
    numbers: dict[int, int] = {}
    for layer in layers:
        found = next(filter(None, (pattern.search(f"{path}/{layer.name}") for pattern in blocks)), None)
        if found:
            numbers[id(layer)] = int(found.groupdict().get("block") or len(numbers))
    return numbers


def _stable_names(layers: Iterable[keras.Layer]) -> dict[int, str]:
    """Returns names of siblings that do not depend on what was built before them.

    Keras names layers after their class with a number that counts up over the whole process: the
    second model has a `dense_7` where the first has a `dense`. Here such numbers are counted from
    the first sibling.
    """
    names: dict[int, str] = {}
    taken: set[str] = set()
    for (kind, stem), family in _families(layers).items():
        numbers = [int(layer.name[len(stem) + 1 :] or 0) for layer in family]
        is_automatic = stem.replace("_", "") == kind.__name__.lower()
        first = min(numbers) if is_automatic else 0
        for layer, number in zip(family, numbers, strict=True):
            name = layer.name
            if first:
                name = f"{stem}_{number - first}" if number > first else stem
            while name in taken:  # Siblings may share a name.
                name += "_again"
            taken.add(name)
            names[id(layer)] = name
    return names


def _keras_role(layer: keras.Layer, parent: keras.Layer) -> str | None:
    if isinstance(layer, _ATTENTION_LAYERS):
        return "attention"
    if isinstance(parent, _ATTENTION_LAYERS):
        return _ATTENTION_CHILDREN.get(layer.name)
    if isinstance(layer, _NORM_LAYERS):
        return "norm"
    return None
