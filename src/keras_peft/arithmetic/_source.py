"""Updates that an adapter makes to the base, layer by layer, in float64."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np

from keras_peft.arithmetic._decomposition import DecomposedMatrix, decompose_product
from keras_peft.core.adapted import AdaptedModel
from keras_peft.core.adapter import Adapter
from keras_peft.core.projection import Projection, projection
from keras_peft.core.site_weights import SiteWeights
from keras_peft.core.sites import Site, find_sites, own_variables
from keras_peft.errors import AdapterError, SelectionError, listed

Product = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Source:
    """An adapter that is combined into a new one.

    Attributes:
        name: Name of the adapter in the model.
        weight: Factor of its update.
        adapter: The adapter. It must be inactive while it is read.
        all_sites: All sites of the base, by key.
    """

    name: str
    weight: float
    adapter: Adapter
    all_sites: Mapping[str, Site]

    @property
    def methods(self) -> str:
        """The names of its methods."""
        return " + ".join(placement.method.name for placement in self.adapter.placements)

    @cached_property
    def touched(self) -> frozenset[str]:
        """Keys of the sites that it changes, without the base's own head."""
        moved = {key.rpartition("/")[0] for key in self.adapter.moves}
        return frozenset(
            {weights.site.key for weights in self.adapter.site_weights}
            | {key for key in moved if self.all_sites[key].role != "head"}
        )

    def change(self, key: str) -> tuple[np.ndarray | None, list[str]]:
        """Computes the change that merging makes to a site.

        Args:
            key: Key of the site.

        Returns:
            The change of the layer's matrix (in, out), or None if there is none, and the
            names of other variables that change.
        """
        site = self.all_sites[key]
        view = _view(site)
        variables = own_variables(site.layer)
        before = {v.name: np.asarray(keras.ops.convert_to_numpy(v), np.float64) for v in variables}
        if view is not None:
            # For a quantised layer, use the matrix that it computes with.
            matrix = np.asarray(keras.ops.convert_to_numpy(view.matrix()), np.float64)
            before.update(view.kernels_from(matrix))
        moved = {
            name: np.asarray(self.adapter.trained[f"{key}/{name}"], np.float64)
            for name in before
            if f"{key}/{name}" in self.adapter.moves
        }
        after = {**before, **moved}
        if site.role == "head":  # The base's own head is copied, not treated as an update.
            before = dict(after)
        for weights in self._site_weights(key):
            after.update(weights.method.merged(weights.site, _weights(weights), after))
        changed = [name for name in after if not np.array_equal(after[name], before[name])]
        others = [name for name in changed if view is None or name not in view.kernel_names]
        if view is None or len(others) == len(changed):
            return None, others
        return view.matrix_from(after) - view.matrix_from(before), others

    def product(self, key: str) -> Product | None:
        """Returns the change of a site as two low-rank factors, or None if it has no such form."""
        site = self.all_sites[key]
        if site.role != "head" and any(moved.rpartition("/")[0] == key for moved in self.adapter.moves):
            return None
        products = []
        for weights in self._site_weights(key):
            product = weights.method.product(weights.site, _weights(weights))
            if product is None:
                return None
            products.append(product)
        return join(products)

    def _site_weights(self, key: str) -> list[SiteWeights]:
        return [weights for weights in self.adapter.site_weights if weights.site.key == key]


def sources_of(model: AdaptedModel, adapters: Mapping[str, float]) -> list[Source]:
    """Creates the sources of named adapters with their weights.

    Raises:
        AdapterError: If an adapter has values that are not finite.
    """
    all_sites = {site.key: site for site in find_sites(model.base, model.roles)}
    there = model.adapters
    broken = [
        f"{name!r} at {listed(keys, most=3)}"
        for name in adapters
        if (keys := [k for k, value in there[name].tensors().items() if not np.isfinite(value).all()])
    ]
    if broken:
        raise AdapterError(
            f"Adapters have values that are not finite: {'; '.join(broken)}. Train them again with a "
            "smaller learning rate, or leave them out."
        )
    return [Source(name, float(weight), there[name], all_sites) for name, weight in adapters.items()]


def join(products: Sequence[Product]) -> Product:
    """Concatenates low-rank factors, so that their product is the sum of the products."""
    return np.hstack([a for a, _ in products]), np.vstack([b for _, b in products])


def keys_of(sources: Sequence[Source]) -> list[str]:
    """Returns the keys of the sites that any source changes, in the base's order.

    Raises:
        AdapterError: If none of them has a matrix.
    """
    keys = frozenset[str]().union(*(source.touched for source in sources))
    if not any(_view(sources[0].all_sites[key]) for key in keys):
        raise AdapterError(
            f"{listed(repr(source.name) for source in sources)} does not change the kernel of any layer, "
            "so it has no update that a LoRA could represent. To combine adapters of one such "
            "method, use `how='linear'`."
        )
    return [key for key in sources[0].all_sites if key in keys]


def updates_of(sources: Sequence[Source]) -> Iterator[tuple[Site, list[np.ndarray]]]:
    """Iterates over the sites with each source's matrix update, zero if it has none.

    Updates are computed one site at a time, since all together they would be as large as the base.

    Raises:
        AdapterError: If a source changes anything but kernels, which a LoRA cannot
            represent. The message lists all such changes; it is raised after the last site.
    """
    refuse_unmergeable(sources)
    problems = []
    for key in keys_of(sources):
        site = sources[0].all_sites[key]
        matrices = []
        for source in sources:
            matrix, others = source.change(key) if key in source.touched else (None, [])
            problems += [
                f"{source.name!r} ({source.methods}) changes {site.path}/{other}" for other in others
            ]
            matrices.append(matrix)
        view = _view(site)
        if view is not None and not problems:
            zero = np.zeros((view.inputs, view.outputs))
            yield site, [zero if matrix is None else matrix for matrix in matrices]
    if problems:
        raise AdapterError(
            f"A LoRA can only change kernels, but {listed(problems, most=6)}. To combine "
            "adapters of one such method, use `how='linear'`; otherwise choose targets without these."
        )


def narrow_updates_of(sources: Sequence[Source]) -> dict[str, DecomposedMatrix] | None:
    """Decomposes the sum of low-rank updates; returns None if an update is not low-rank."""
    updates = {}
    for key in keys_of(sources):
        products = [(source.weight, source.product(key)) for source in sources if key in source.touched]
        weighted = [(product[0], weight * product[1]) for weight, product in products if product is not None]
        if len(weighted) < len(products):
            return None
        updates[key] = decompose_product(*join(weighted))
    return updates


def refuse_unmergeable(sources: Sequence[Source]) -> None:
    """Checks that all methods can be merged into the base's weights."""
    unfit = [
        f"{source.name!r} has {placement.method.name}"
        for source in sources
        for placement in source.adapter.placements
        if not placement.method.merges
    ]
    if unfit:
        raise AdapterError(
            f"{listed(unfit)}, which is not an update of the base model's weights and cannot be "
            "converted to one; leave it out, or train one adapter on all the data."
        )


def _weights(weights: SiteWeights) -> dict[str, np.ndarray]:
    both = {**weights.shared.values, **weights.values}
    return {name: np.asarray(keras.ops.convert_to_numpy(v), np.float64) for name, v in both.items()}


def _view(site: Site) -> Projection | None:
    try:
        return projection(site, recurrent=True)
    except SelectionError:
        return None
