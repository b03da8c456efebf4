"""One adapter on a base: its methods, their weights, and its head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from keras_peft.core.fitting import refuse_unfit
from keras_peft.core.layouts import gathered
from keras_peft.core.method import Method
from keras_peft.core.placement import Placement
from keras_peft.core.select_sites import possible_targets, select_sites
from keras_peft.core.selection import ROLES, Selection
from keras_peft.core.site_weights import MethodWeights, SiteWeights
from keras_peft.core.sites import Site, find_sites, own_variables
from keras_peft.errors import OptionError, SelectionError, listed


def choose_placements(
    all_sites: Sequence[Site],
    methods: Method | Sequence[Method | Placement],
    layers: str | Iterable[int],
    targets: str | Iterable[str] | None,
) -> list[Placement]:
    """Chooses the layers that methods attach to, by default those that each method prefers.

    Args:
        all_sites: All sites of the base.
        methods: A method, or several that form one adapter. A `Placement` has its own selection.
        layers: The blocks.
        targets: Roles or regular expressions. Defaults to each method's own targets.

    Raises:
        SelectionError: If targets or layers are invalid.
    """
    layers = layers if isinstance(layers, str) else tuple(layers)
    targets = targets if targets is None or isinstance(targets, str) else tuple(targets)
    present = {site.role for site in all_sites}
    placements = []
    for method in methods if isinstance(methods, list | tuple) else [methods]:
        if not isinstance(method, Method | Placement):
            raise OptionError(f"`method`: expected a method such as LoRA(), got {method!r}.")
        if isinstance(method, Placement):
            placements.append(method)
        elif not method.default_targets:
            if targets is not None or layers != "all":
                raise SelectionError(
                    f"{method.name} does not attach to layers, so it takes neither `targets` nor `layers`; "
                    "leave them out."
                )
            placements.append(Placement(method, Selection((), "all")))
        else:
            # Default targets may include roles that this architecture lacks.
            own = [role for role in method.default_targets if role in present] or method.default_targets
            if targets is None and present.isdisjoint(own) and set(own) <= set(ROLES):
                raise SelectionError(
                    f"{method.name} attaches to {listed(own)} by default, and this base model has no layer "
                    f"with such a role. {possible_targets(all_sites)}"
                )
            placements.append(Placement(method, Selection.of(own if targets is None else targets, layers)))
    return placements


@dataclass(frozen=True, eq=False)
class PlacedMethod:
    """A placement with the sites that it matches.

    Attributes:
        method: The method.
        chosen: The selected sites.
        wrapped: The selected sites whose calls the method wraps.
        trained: The base's own variables that the method trains, by key.
    """

    method: Method
    chosen: tuple[Site, ...]
    wrapped: tuple[Site, ...]
    trained: dict[str, keras.Variable]

    @classmethod
    def of(cls, placement: Placement, all_sites: Sequence[Site]) -> PlacedMethod:
        """Finds the sites of a placement.

        Raises:
            SelectionError: If a target or a layer matches nothing, or the method does not
                support the sites.
        """
        method, targets = placement.method, placement.selection.targets
        chosen = select_sites(all_sites, placement.selection) if targets else []
        # An expression for convolutions also finds the layers that pad their inputs.
        chosen = [site for site in chosen if site.layer.weights] or chosen
        if unbuilt := [site.path for site in chosen if not site.layer.built]:
            raise SelectionError(
                f"{listed(unbuilt, most=3)} is not built, because the model has never called it; call the model on "
                "an input once, or leave this layer out of the targets."
            )
        if not method.quantised and (whole := [s.path for s in chosen if _is_quantised(s)]):
            raise SelectionError(
                f"{listed(whole, most=3)} is quantised, and {method.name} cannot train integer weights; "
                "use another method, or a base model that is not quantised."
            )
        if method.every_block:
            _refuse_some_blocks(method, chosen, all_sites)
        trained = {
            f"{site.key}/{variable.name}": variable
            for site in chosen
            for variable in own_variables(site.layer)
            if method.trains(site, variable.name)
        }
        return cls(method, tuple(chosen), tuple(site for site in chosen if method.wraps(site)), trained)


def shapes_of(all_sites: Sequence[Site], placements: Sequence[Placement]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of an adapter's tensors by key, without those of a head and without building it.

    The options of an adapter from a stranger may ask for more memory than there is; the shapes take none.

    Args:
        all_sites: All sites of the base.
        placements: The methods with their selections.

    Raises:
        SelectionError: If a target or a layer matches nothing, or a method does not support the sites.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    trained = [
        (f"{site.key}/{variable.name}", variable)
        for site in all_sites
        if site.role == "head"
        for variable in own_variables(site.layer)
    ]
    for placement in placements:
        placed = PlacedMethod.of(placement, all_sites)
        name = placed.method.name
        named = {name: placed.method.shared(placed.chosen)}
        named |= {f"{site.key}/{name}": placed.method.weights(site) for site in placed.wrapped}
        for prefix, weights in named.items():
            shapes |= {f"{prefix}/{key}": tuple(weight.shape) for key, weight in weights.items()}
        trained += placed.trained.items()
    return shapes | {key: tuple(variable.shape) for key, variable in trained}


class Adapter:
    """The weights of one or more methods on a base, and a head.

    This is not a Keras object, so the values that it remembers of the base are not saved or
    counted with the model. The model that owns it tracks its `layers`.

    Args:
        all_sites: All sites of the base.
        placements: The methods with their selections.
        head: A layer or model applied to the base's output, or None.

    Raises:
        SelectionError: If a target or a layer matches nothing, a method trains nothing at the
            chosen layers, or two placements have the same method at one site.
    """

    def __init__(
        self, all_sites: Sequence[Site], placements: Sequence[Placement], head: keras.Layer | None = None
    ) -> None:
        self.placements = tuple(placements)
        self.head = head
        self.site_weights: list[SiteWeights] = []
        self.shared_weights: list[MethodWeights] = []
        # The method that trains each variable of the base. A head that is part of the base has no method.
        self.movers: dict[str, Method] = {}
        moved: dict[str, keras.Variable] = {}
        for placement in self.placements:
            placed = PlacedMethod.of(placement, all_sites)
            method, wrapped, trained = placed.method, placed.wrapped, placed.trained
            shared = MethodWeights(method.name, method.shared(placed.chosen))
            self.shared_weights.append(shared)
            self.site_weights += [SiteWeights(method, site, shared) for site in wrapped]
            holds = any(
                weights.variables
                for weights in [shared, *self.site_weights[len(self.site_weights) - len(wrapped) :]]
            )
            if placed.chosen and not holds and not trained:
                raise SelectionError(
                    f"{method.name} has nothing to train at the {len(placed.chosen)} chosen layers."
                )
            moved |= trained
            self.movers |= dict.fromkeys(trained, method)
        for site in all_sites:
            if site.role == "head":
                moved |= {f"{site.key}/{v.name}": v for v in own_variables(site.layer)}
        self.moves = moved
        common = [
            placement.method.name
            for placement, s in zip(self.placements, self.shared_weights, strict=True)
            if s.values
        ]
        if twice := sorted({name for name in common if common.count(name) > 1}):
            raise SelectionError(
                f"Two placements of the adapter use {listed(twice)}, which shares weights between layers; "
                "merge them into one placement."
            )
        keys = [f"{weights.site.key}/{weights.method.name}" for weights in self.site_weights]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise SelectionError(
                f"Two placements of the adapter use the same method at {listed(twice, most=4)}; a method "
                "can act only once per layer. Use two adapters, or choose other targets."
            )
        if not self.site_weights and not moved and head is None:
            names = " and ".join(placement.method.name for placement in self.placements)
            raise SelectionError(f"{names} trains only the head, and this base model has none; set `head`.")
        # The values of the base's own variables under this adapter and, while it is active, without it.
        self.trained = _copied(moved)
        self.originals: dict[str, np.ndarray] = {}
        self.is_active = False
        self._head_variables = [] if head is None else list(head.trainable_variables)
        self.layers = [*self.site_weights, *self.shared_weights, *([] if head is None else [head])]

    def weights_by_key(self) -> dict[str, keras.Variable]:
        """Returns the weights of the methods and the head by their keys in a file.

        The keys are `<site>/<method>/<weight>`, `<method>/<weight>` for shared weights, and
        `head/<path>`.
        """
        variables = {
            f"{weights.site.key}/{weights.method.name}/{name}": variable
            for weights in self.site_weights
            for name, variable in weights.values.items()
        }
        for placement, shared in zip(self.placements, self.shared_weights, strict=True):
            variables |= {
                f"{placement.method.name}/{name}": variable for name, variable in shared.values.items()
            }
        if self.head is not None:
            layers = [(site.key, site.layer) for site in find_sites(self.head)]
            for path, layer in [("", self.head), *layers]:
                for variable in own_variables(layer):
                    variables["/".join(filter(None, ("head", path, variable.name)))] = variable
        return variables

    def tensors(self) -> dict[str, np.ndarray]:
        """Copies all tensors of the adapter in float32, by their keys in a file."""
        weights = _copied(self.weights_by_key())
        moved = _copied(self.moves) if self.is_active else dict(self.trained)
        return {key: np.asarray(value, np.float32) for key, value in {**weights, **moved}.items()}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of all tensors, by key."""
        return {key: tuple(v.shape) for key, v in {**self.weights_by_key(), **self.moves}.items()}

    def refuse_unfit(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Checks that tensors can be assigned.

        Raises:
            AdapterError: If a key is missing or unexpected, or a tensor has the wrong shape or
                values that are not finite. The message lists all problems.
        """
        refuse_unfit(tensors, self.shapes())

    def assign(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Assigns tensors that have the right keys and shapes."""
        variables = self.weights_by_key()
        for key, value in tensors.items():
            if key in variables:
                variables[key].assign(value)
            elif self.is_active:
                self.moves[key].assign(value)
            else:
                self.trained[key] = np.array(value)

    def activate(self) -> None:
        """Makes the weights trainable and assigns the trained values to the base's variables."""
        self.originals = _copied(self.moves)
        for key, variable in self.moves.items():
            variable.assign(self.trained[key])
        self.is_active = True
        self.let_train(True)

    def deactivate(self) -> None:
        """Freezes the weights and restores the base's variables exactly."""
        self.let_train(False)
        if not self.is_active:
            return
        self.trained.update(_copied(self.moves))
        for key, variable in self.moves.items():
            variable.assign(self.originals[key])
        self.is_active = False

    def release(self) -> None:
        """Restores the base, and the trainable flags of the head."""
        self.deactivate()
        for variable in self._head_variables:
            variable.trainable = True

    def let_train(self, trainable: bool) -> None:
        """Makes what an active adapter trains trainable, or freezes it."""
        for weights in [*self.site_weights, *self.shared_weights]:
            weights.let_train(trainable)
        moved = self.moves.values() if self.is_active else []
        for variable in [*self._head_variables, *moved]:
            variable.trainable = trainable


def _refuse_some_blocks(method: Method, chosen: Iterable[Site], all_sites: Iterable[Site]) -> None:
    inside = {site.key for site in chosen}
    roles = {target for target in method.default_targets if target in ROLES}
    wanted = [site for site in all_sites if site.role in roles]
    if left_out := [site.path for site in wanted if site.key not in inside]:
        raise SelectionError(
            f"{method.name} lengthens the text, so it must act on the whole base model, but "
            f"{listed(left_out, most=3)} is left out; use `layers='all'` and the default targets."
        )


def _is_quantised(site: Site) -> bool:
    return bool(getattr(site.layer, "quantization_mode", None))


def _copied(variables: Mapping[str, keras.Variable]) -> dict[str, np.ndarray]:
    return {key: gathered(variable) for key, variable in variables.items()}
