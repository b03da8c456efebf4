"""Which layers a selection matches: sites of a Keras model, or places of an encoder without Keras."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from keras_peft.core.selection import ALL_LINEAR, ROLES, Selection
from keras_peft.errors import SelectionError, did_you_mean, listed
from keras_peft.patterns import PatternError, find

if TYPE_CHECKING:
    import regex


class Selectable(Protocol):
    """What the selection of a layer depends on."""

    @property
    def path(self) -> str:
        """Layer names from the model down."""

    @property
    def key(self) -> str:
        """Key of its weights in files."""

    @property
    def role(self) -> str | None:
        """One of `ROLES`, or None."""

    @property
    def block(self) -> int | None:
        """Index of the block that contains it, or None."""

    @property
    def is_linear(self) -> bool:
        """Whether its output is a product with a matrix."""

    @property
    def has_weights(self) -> bool:
        """Whether it has variables of its own."""

    @property
    def kind(self) -> str:
        """The kind of layer, for messages."""


class _InBlock(Protocol):
    @property
    def block(self) -> int | None: ...


AnySite = TypeVar("AnySite", bound=Selectable)


def select_sites(sites: Sequence[AnySite], selection: Selection) -> list[AnySite]:
    """Returns the sites that match a selection.

    Args:
        sites: All sites of the base.
        selection: Targets and layers.

    Returns:
        The selected sites in model order. If a target has a group named `block`, it sets the
        site's block.

    Raises:
        SelectionError: If a target or a layer matches nothing. The message lists all that
            fail, with the most similar known word.
    """
    matches = {target: list(_matching(sites, target)) for target in selection.targets}
    if problems := [_no_match(target, sites) for target, found in matches.items() if not found]:
        raise SelectionError(" ".join(problems))
    chosen: list[AnySite] = []
    for target, found in matches.items():
        if selection.layers == "all":
            chosen += found
            continue
        # Blocks are counted per target: in a model without nested blocks, the third attention
        # and the third norm need not belong together.
        total = count_blocks(found)
        if total == 0 and any(count_blocks(others) for others in matches.values()):
            chosen += found  # Layers outside of any block belong to every choice of blocks.
            continue
        if total == 0:
            raise SelectionError(
                f"`layers={selection.shown}` was given, but target {target!r} matches no layer in a "
                "repeated block; use `layers='all'`, or a regular expression with a group named 'block'."
            )
        blocks = selection.blocks(total)
        inside = [site for site in found if site.block in blocks]
        if not inside:
            raise SelectionError(
                f"Target {target!r} matches {len(found)} layers, none of them in the blocks chosen by "
                f"`layers={selection.shown}`; use `layers='all'` or other blocks."
            )
        chosen += inside
    order = {site.key: position for position, site in enumerate(sites)}
    unique = {site.key: site for site in chosen}
    return sorted(unique.values(), key=lambda site: order[site.key])


def selection_of(all_sites: Sequence[Selectable], sites: Sequence[Selectable]) -> Selection:
    """Returns a selection that matches exactly the given sites.

    It consists of roles and blocks if these are sufficient, else of paths.

    Args:
        all_sites: All sites of the base.
        sites: The sites to select.
    """
    wanted = {site.key for site in sites}
    roles = tuple(dict.fromkeys(site.role for site in sites if site.role is not None))
    blocks = {site.block for site in sites}
    layers: list[str | tuple[int, ...]] = ["all"]
    if None not in blocks:
        layers.append(tuple(sorted(block for block in blocks if block is not None)))
    if all(site.role is not None for site in sites):
        for selection in (Selection(roles, some) for some in layers):
            try:
                found = select_sites(all_sites, selection)
            except SelectionError:
                continue  # Roles may differ in their number of blocks.
            if {site.key for site in found} == wanted:
                return selection
    return Selection(tuple(f"^{re.escape(site.path)}$" for site in sites))


def count_blocks(sites: Iterable[_InBlock]) -> int:
    """Returns the number of blocks, up to the last one that contains a site."""
    return max((site.block for site in sites if site.block is not None), default=-1) + 1


def _matching(sites: Iterable[AnySite], target: str) -> Iterator[AnySite]:
    if target in ROLES:
        yield from (site for site in sites if site.role == target)
        return
    if target == ALL_LINEAR:
        yield from (site for site in sites if site.role != "head" and site.is_linear)
        return
    for site in sites:
        if found := _find(target, site.path):
            block = found.groupdict().get("block")
            if block is not None and not block.isdigit():
                raise SelectionError(
                    f"Target {target!r} finds {block!r} as the block of {site.path}; its group 'block' must "
                    "match only digits."
                )
            yield site if block is None else replace(site, block=int(block))  # type: ignore[type-var]


def _find(target: str, path: str) -> regex.Match[str] | None:
    try:
        return find(target, path)
    except PatternError as error:
        raise SelectionError(f"Target {target!r} {error}.") from None


def _no_match(target: str, sites: Sequence[Selectable]) -> str:
    if target == ALL_LINEAR:
        return f"No layer is a Dense or EinsumDense, except heads. {possible_targets(sites)}"
    present = Counter(site.role for site in sites if site.role is not None)
    if present:
        has = "This base model has: " + ", ".join(role for role in ROLES if role in present) + "."
    else:
        has = f"This base model has no layer with a known role. {possible_targets(sites)}"
    words = [*present, ALL_LINEAR, *(site.path for site in sites)]
    return f"No layer matches target {target!r}. {has}{did_you_mean(target, words)}"


def possible_targets(sites: Sequence[Selectable]) -> str:
    """Returns sentences that list the layers with weights by kind, and how to choose them as targets."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for site in sites:
        if site.has_weights:
            kinds[site.kind].append(site.path)
    if not kinds:
        return "None of its layers has weights."
    shown = [f"{kind} ({listed(paths, most=3)})" for kind, paths in kinds.items()]
    words = f"{ALL_LINEAR!r}, or " if any(site.is_linear for site in sites) else ""
    some = next(iter(kinds.values()))[0]
    return (
        f"Its layers with weights are {listed(shown, most=8)}. Choose some with `targets`: {words}a regular "
        f"expression that matches their paths, such as {some!r}."
    )
