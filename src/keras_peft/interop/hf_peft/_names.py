"""Hugging Face's module names of a base model, and the sites that they refer to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from keras_peft import bases
from keras_peft.core.select_sites import selection_of
from keras_peft.core.selection import Selection
from keras_peft.core.sites import Site

if TYPE_CHECKING:
    from keras_peft.bases._checkpoint import CheckpointNames


class Names:
    """The module names of a base model.

    An adapter may use the names of any architecture with the same layers: a BERT that was converted to
    DistilBERT accepts adapters for a BERT.

    Args:
        all_sites: Sites of the base model.
        kind: Hugging Face's `model_type` of the architecture.
        below: Prefix of the layer paths, if the backbone is part of a larger model.
        has_head: Whether the model has a head, so that module names have the architecture's prefix.

    Attributes:
        all_sites: Sites of the base model.
        kind: Hugging Face's `model_type` of the architecture.
        checkpoint: Names in the architecture's checkpoints.
    """

    def __init__(
        self, all_sites: Sequence[Site], kind: str, *, below: str = "", has_head: bool = True
    ) -> None:
        self.all_sites, self.kind = all_sites, kind
        self.checkpoint: CheckpointNames = bases.checkpoints()[kind].CHECKPOINT
        blocks = len([site for site in all_sites if site.role == "block"])
        paths = {site.path.removeprefix(below): site for site in all_sites}
        prefix = f"{self.checkpoint.prefix}." if has_head else ""
        own = self.checkpoint.layers(blocks)
        found = {name: _present(places, paths) for name, places in own.items()}
        self._modules = {site.key: f"{prefix}{name}" for name, sites in found.items() for site in sites}
        self._sites: dict[str, tuple[Site, ...]] = {}
        # Architectures by prefix. The base model's own comes first, since others may have the same prefix.
        self._kinds = {self.checkpoint.prefix: kind}
        for other, module in bases.checkpoints().items():
            names = module.CHECKPOINT.layers(blocks)
            if set(names.values()) <= set(own.values()):
                self._sites |= {name: _present(places, paths) for name, places in names.items()}
                self._kinds.setdefault(module.CHECKPOINT.prefix, other)

    def kind_in(self, keys: Iterable[str]) -> str:
        """Returns the `model_type` that tensor names refer to, or the base model's own if it is unknown."""
        found = {part for key in keys for part in key.split(".")} & set(self._kinds)
        return self.kind if not found else self._kinds[min(found)]

    def split(self, key: str) -> tuple[str, str] | None:
        """Splits a tensor's name into the module's name and the rest, or returns None for unknown modules."""
        parts = key.split(".")
        for end in range(len(parts) - 1, 0, -1):
            module = ".".join(parts[:end])
            if self.sites(module):
                return module, ".".join(parts[end:])
        return None

    def site(self, module: str) -> Site | None:
        """Returns the first site of a module, or None if the module is unknown."""
        return next(iter(self.sites(module)), None)

    def sites(self, module: str) -> tuple[Site, ...]:
        """Returns the sites of a module, in the order of its outputs."""
        prefix, _, bare = module.partition(".")
        return self._sites.get(bare if prefix in self._kinds else module, ())

    def module(self, site: Site) -> str | None:
        """Returns the module name of a site, or None if it has none."""
        return self._modules.get(site.key)

    def targets(self, modules: Iterable[str]) -> list[str]:
        """Returns `target_modules` entries that match the given modules and no others.

        An entry matches a module whose name equals it or ends with a dot and the entry. Modules that are
        targets in every block get one entry without the block's number.
        """
        chosen = set(modules)
        entries: dict[str, None] = {}
        for module in self._modules.values():
            if module not in chosen:
                continue
            ending = re.split(rf"(?:^|\.){re.escape(self.checkpoint.blocks)}\.\d+\.", module)[-1]
            matched = {name for name in self._modules.values() if f".{name}".endswith(f".{ending}")}
            entries[ending if matched <= chosen else module] = None
        return list(entries)

    def selection(self, sites: Sequence[Site]) -> Selection:
        """Returns the selection of sites, as `selection_of` does."""
        return selection_of(self.all_sites, sites)


def _present(paths: Sequence[str], sites: Mapping[str, Site]) -> tuple[Site, ...]:
    """Returns the sites at some paths, or none if one is missing, as in KerasHub's own BERT."""
    return tuple(sites[path] for path in paths) if set(paths) <= set(sites) else ()
