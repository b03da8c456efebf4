"""What Hugging Face calls the modules of a base, and which sites they are here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from keras_peft.bases import bert, distilbert
from keras_peft.core.selection import Selection
from keras_peft.core.sites import Site, select_sites

# A module may be adapted on the bare base, without the prefix that it has below a head.
_PREFIX = re.compile(r"^(distilbert|bert)\.")


class Names:
    """The modules of a base, which is read in DistilBERT's form.

    Args:
        everywhere: The sites of the base.
        kind: What Hugging Face calls its architecture: "distilbert" or "bert".

    Attributes:
        everywhere: The same.
        kind: The same.
    """

    def __init__(self, everywhere: Sequence[Site], kind: str) -> None:
        self.everywhere, self.kind = everywhere, kind
        blocks = len([site for site in everywhere if site.role == "block"])
        paths = {site.path: site for site in everywhere}
        self._sites = {
            name.rpartition(".")[0]: paths[path.rpartition("/")[0]]
            for name, path in distilbert.checkpoint_names(blocks).items()
        }
        own = {name: name for name in self._sites}
        self._bert = bert.module_names(blocks)
        known = {own_name: name for name, own_name in self._bert.items()} if kind == bert.MODEL_TYPE else own
        self._modules = {
            self._sites[name].key: f"{kind}.{known[name]}" for name in self._sites if name in known
        }

    def split(self, key: str) -> tuple[str, str] | None:
        """Splits a tensor's name into that of a known module and the rest; None where there is none."""
        parts = key.split(".")
        for end in range(len(parts) - 1, 0, -1):
            module = ".".join(parts[:end])
            if self.site(module) is not None:
                return module, ".".join(parts[end:])
        return None

    def site(self, module: str) -> Site | None:
        """Returns the site that a module is."""
        bare = _PREFIX.sub("", module)
        return self._sites.get(self._bert.get(bare, bare))

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
            ending = re.split(r"\.layer\.\d+\.", module)[-1]
            matched = {name for name in self._modules.values() if f".{name}".endswith(f".{ending}")}
            entries[ending if matched <= chosen else module] = None
        return list(entries)

    def selection(self, sites: Sequence[Site]) -> Selection:
        """Names sites by roles and blocks where these give just them, else by their paths."""
        wanted = {site.key for site in sites}
        roles = tuple(dict.fromkeys(str(site.role) for site in sites))
        blocks = {site.block for site in sites}
        layers: list[str | tuple[int, ...]] = ["all"]
        if None not in blocks:
            layers.append(tuple(sorted(block for block in blocks if block is not None)))
        for selection in (Selection(roles, some) for some in layers):
            if {site.key for site in select_sites(self.everywhere, selection)} == wanted:
                return selection
        return Selection(tuple(f"^{re.escape(site.path)}$" for site in sites))
