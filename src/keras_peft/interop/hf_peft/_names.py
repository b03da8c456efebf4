"""What Hugging Face calls the modules of a base, and which sites they are here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from keras_peft import bases
from keras_peft.core.selection import Selection
from keras_peft.core.sites import Site, selection_of

if TYPE_CHECKING:
    from keras_peft.bases._checkpoint import CheckpointNames


class Names:
    """The modules of a base.

    Where several architectures compute with the same layers, an adapter may name them as any of these does:
    a BERT that is kept in DistilBERT's form is a BERT to an adapter.

    Args:
        all_sites: The sites of the base.
        kind: What Hugging Face calls its architecture, the `MODEL_TYPE` of a file in `bases/`.
        below: What the paths of its architecture's layers begin with, where they lie in a larger model.
        has_head: Whether there is a head on it, below which the modules' names have a prefix.

    Attributes:
        all_sites: The same.
        kind: The same.
        checkpoint: The names in checkpoints of that architecture.
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
        # The architectures by the prefixes of their names, the base's own first, as others may have the same.
        self._kinds = {self.checkpoint.prefix: kind}
        for other, module in bases.checkpoints().items():
            names = module.CHECKPOINT.layers(blocks)
            if set(names.values()) <= set(own.values()):
                self._sites |= {name: _present(places, paths) for name, places in names.items()}
                self._kinds.setdefault(module.CHECKPOINT.prefix, other)

    def kind_in(self, keys: Iterable[str]) -> str:
        """Returns the architecture whose modules some tensors' names have; the base's own where none has."""
        found = {part for key in keys for part in key.split(".")} & set(self._kinds)
        return self.kind if not found else self._kinds[min(found)]

    def split(self, key: str) -> tuple[str, str] | None:
        """Splits a tensor's name into that of a known module and the rest; None where there is none."""
        parts = key.split(".")
        for end in range(len(parts) - 1, 0, -1):
            module = ".".join(parts[:end])
            if self.sites(module):
                return module, ".".join(parts[end:])
        return None

    def site(self, module: str) -> Site | None:
        """Returns the site that a module is, the first where it is several."""
        return next(iter(self.sites(module)), None)

    def sites(self, module: str) -> tuple[Site, ...]:
        """Returns the sites that a module is, in the order in which it has their outputs."""
        prefix, _, bare = module.partition(".")
        return self._sites.get(bare if prefix in self._kinds else module, ())

    def module(self, site: Site) -> str | None:
        """Returns the name of the module that a site is, below a head; None where it has none."""
        return self._modules.get(site.key)

    def targets(self, modules: Iterable[str]) -> list[str]:
        """Returns the entries of `target_modules` that match some modules and no others.

        An entry matches a module whose name is it, or ends with it after a dot. What is
        chosen in every block has one entry without the block's number.
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
        """Names sites as `selection_of` does."""
        return selection_of(self.all_sites, sites)


def _present(paths: Sequence[str], sites: Mapping[str, Site]) -> tuple[Site, ...]:
    """Returns the sites at some paths; none where one of them is not there, as in KerasHub's own BERT."""
    return tuple(sites[path] for path in paths) if set(paths) <= set(sites) else ()
