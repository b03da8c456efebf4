"""The adapters of one base by name, and which of them are active."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from keras_peft.core.adapter import Adapter
from keras_peft.core.placement import stack_order
from keras_peft.core.sites import Site, own_variables
from keras_peft.errors import AdapterError, did_you_mean, listed

if TYPE_CHECKING:
    import keras

    from keras_peft.core.site_weights import SiteWeights


class AdapterRegistry:
    """Named adapters, and which of them are active.

    This is not a Keras object: the model that owns it tracks the adapters' layers.

    Args:
        all_sites: All sites of the base.

    Attributes:
        active: Names of the active adapters, innermost first.
    """

    def __init__(self, all_sites: Sequence[Site]) -> None:
        self._all_sites = tuple(all_sites)
        self._adapters: dict[str, Adapter] = {}
        self.active: tuple[str, ...] = ()

    @property
    def adapters(self) -> dict[str, Adapter]:
        """All adapters by name, in the order in which they were added."""
        return dict(self._adapters)

    @property
    def head(self) -> keras.Layer | None:
        """The head of the active adapters, or None."""
        return next((adapter.head for adapter in self.actives() if adapter.head is not None), None)

    def add(self, name: str, adapter: Adapter) -> None:
        """Adds an adapter without activating it.

        Raises:
            AdapterError: If the name is taken, or the head belongs to another adapter.
        """
        self.refuse_name(name)
        if adapter.head is not None and any(other.head is adapter.head for other in self._adapters.values()):
            raise AdapterError(
                "The head already belongs to another adapter of this model; pass a separate one."
            )
        self._adapters[name] = adapter

    def find(self, name: str) -> Adapter:
        """Returns an adapter by name.

        Raises:
            AdapterError: If there is no adapter of that name.
        """
        if name not in self._adapters:
            raise AdapterError(
                f"There is no adapter {name!r}; the adapters are: {listed(self._adapters)}."
                f"{did_you_mean(name, self._adapters)}"
            )
        return self._adapters[name]

    def only(self) -> str:
        """Returns the name of the only active adapter.

        Raises:
            AdapterError: If no adapter or more than one is active.
        """
        if len(self.active) != 1:
            raise AdapterError(
                f"{len(self.active)} adapters are active; choose one of {listed(self._adapters)}."
            )
        return self.active[0]

    def activate(self, names: Sequence[str]) -> None:
        """Activates these adapters and no others, the first one innermost.

        Raises:
            AdapterError: If a name is unknown, or the adapters have more than one head or train
                the same weights of the base.
        """
        names = tuple(dict.fromkeys(names))
        chosen = [self.find(name) for name in names]
        if len([adapter for adapter in chosen if adapter.head is not None]) > 1:
            raise AdapterError(
                f"{listed(names)} have a head each, but only one can be used; activate one of them."
            )
        moved = [key for adapter in chosen for key in adapter.moves]
        if twice := sorted({key for key in moved if moved.count(key) > 1}):
            raise AdapterError(
                f"{listed(names)} both train {listed(twice, most=3)}, so they cannot be active together."
            )
        for adapter in self._adapters.values():
            adapter.deactivate()
        for adapter in chosen:
            adapter.activate()
        self.active = names

    def rename(self, old: str, new: str) -> None:
        """Renames an adapter, keeping its position.

        Raises:
            AdapterError: If the old name is unknown or the new one is taken.
        """
        self.find(old)
        self.refuse_name(new)
        self._adapters = {new if name == old else name: one for name, one in self._adapters.items()}
        self.active = tuple(new if name == old else name for name in self.active)

    def delete(self, name: str) -> None:
        """Removes an inactive adapter.

        Raises:
            AdapterError: If the name is unknown or the adapter is active.
        """
        self.find(name)
        if name in self.active:
            raise AdapterError(f"{name!r} is active; before you delete it, activate another one or none.")
        del self._adapters[name]

    def refuse_name(self, name: str) -> None:
        """Checks that a name is valid and free.

        Raises:
            AdapterError: If the name is invalid or taken.
        """
        refuse_no_name(name)
        if name in self._adapters:
            raise AdapterError(
                f"The adapter {name!r} already exists; choose another name, or delete it first."
            )

    def actives(self) -> list[Adapter]:
        """Returns the active adapters, innermost first."""
        return [self._adapters[name] for name in self.active]

    def site_weights(self) -> list[SiteWeights]:
        """Returns the weights of the active adapters at the base's sites, innermost first."""
        site_weights = [weights for adapter in self.actives() for weights in adapter.site_weights]
        return sorted(site_weights, key=lambda one: stack_order(one.method))

    def moves(self) -> dict[str, keras.Variable]:
        """Returns the variables of the base that the active adapters train, by key."""
        return {key: variable for adapter in self.actives() for key, variable in adapter.moves.items()}

    def variables(self) -> dict[str, keras.Variable]:
        """Returns all trainable variables, by their keys in the adapter files."""
        variables: dict[str, keras.Variable] = {}
        for adapter in self.actives():
            variables |= {**adapter.weights_by_key(), **adapter.moves}
        return {key: variable for key, variable in variables.items() if variable.trainable}

    def touched(self) -> list[keras.Layer]:
        """Returns the base's layers that the active adapters wrap or train."""
        moved = set(map(id, self.moves().values()))
        moving = [
            site.layer for site in self._all_sites if moved.intersection(map(id, own_variables(site.layer)))
        ]
        return [*(weights.site.layer for weights in self.site_weights()), *moving]

    @contextmanager
    def unmoved(self) -> Iterator[None]:
        """Restores the base's own weights within the context."""
        moving = [adapter for adapter in self.actives() if adapter.moves]
        for adapter in moving:
            adapter.deactivate()
        try:
            yield
        finally:
            for adapter in moving:
                adapter.activate()


def refuse_no_name(name: str) -> None:
    """Checks that a name is valid for an adapter.

    Raises:
        AdapterError: If it is empty or contains "/".
    """
    if not name or "/" in name:
        raise AdapterError(f"{name!r} is not a valid adapter name; expected a name without '/'.")
