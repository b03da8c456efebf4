"""Arithmetic on the adapters of one model: combine them, make them LoRAs, make them smaller.

A file `arithmetic/NAME.py` holds one way to combine; its `combined` takes the sources and,
as keyword options, what can be chosen. Nothing else has to be registered.

What is added are the *updates* ΔW = W′ - W of the base's matrices, which every method that
merges has, and not the weights that the updates are made of: Σ wᵢ sᵢ Aᵢ Bᵢ is what the
adapters do together, where (Σ √wᵢ Aᵢ)(Σ √wᵢ Bᵢ) has cross terms between them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

from keras_peft.arithmetic import _insertion, _new_adapter, _source
from keras_peft.arithmetic._insertion import Approximation
from keras_peft.core.adapted import AdaptedModel
from keras_peft.errors import AdapterError, OptionError, did_you_mean, listed
from keras_peft.shelf import Shelf

_EXAMPLE = {"a": 0.7, "b": 0.3}
_SHELF = Shelf(__name__, "way to combine", "ways to combine")

__all__ = ["Approximation", "combine", "convert_to_lora", "reduce_rank", "ways"]


def ways() -> list[str]:
    """Lists the names of the ways to combine, sorted."""
    return list(_SHELF.names)


def combine(
    model: AdaptedModel,
    adapters: Mapping[str, float],
    into: str,
    *,
    how: str = "svd",
    rank: int | None = None,
    density: float | None = None,
    seed: int | None = None,
    head: str | None = None,
) -> Approximation:
    """Adds a new adapter that does what several do together, each with a weight.

    The sources stay as they are. The new adapter is not active yet and, but with "linear",
    a LoRA. A layer that a source does not attach to counts as an update of zero there.

    - "linear": adapters of one method whose effect is linear in its weights, with the same
      options and layers: BitFit, norm tuning, (IA)³, full fine-tuning. Gives an adapter of
      that method, exactly.
    - "cat": LoRA and others whose update is a product of narrow matrices. Exact; the ranks
      add up.
    - "svd": all methods that merge into kernels. The nearest LoRA of the rank.
    - "ties": the same, with small entries trimmed and signs elected before.
    - "dare": the same, with entries dropped at random before.

    HF PEFT's `add_weighted_adapter` has these as "cat", "svd", "ties_svd" and
    "dare_linear_svd". Weights of 1 in its "ties_svd" are weights of 1 / n here. Its "linear"
    is left out: it averages LoRA's A and B separately and so is no sum of the updates.

    Args:
        model: The model that has the adapters.
        adapters: The weights by the adapters' names, such as `{"news": 0.7, "mood": 0.3}`.
            They are taken as they are: a negative one takes an adapter away.
        into: Name of the new adapter.
        how: The way.
        rank: For svd, ties and dare the largest rank; 16 by default. It becomes smaller
            where less is enough.
        density: For ties the share of an update's entries that is kept, 0.2 by default;
            for dare the probability with which one is kept, 0.5 by default.
        seed: For dare what the random choice starts from, 0 by default.
        head: The adapter whose head the new one gets. By default the only one, or, of heads
            of the same shape, the mean in the proportion of the weights, which makes sense
            where the labels mean the same.

    Returns:
        How far the new adapter is from what was asked for, layer by layer: zero for linear
        and cat, for the others what the rank cuts off.

    Raises:
        OptionError: If a name, a weight or an option cannot be used, or it is not clear
            which head is meant.
        AdapterError: If the adapters cannot be combined in this way.

    Example:
        >>> report = keras_peft.combine(model, {"news": 0.7, "mood": 0.3}, into="both", rank=8)
        >>> report.largest
        0.031
        >>> model.activate("both")

    Reference:
        Ilharco et al. 2022, https://arxiv.org/abs/2212.04089 (sums of updates); Yadav et al.
        2023, https://arxiv.org/abs/2306.01708 (TIES); Yu et al. 2023,
        https://arxiv.org/abs/2311.03099 (DARE).
    """
    if not isinstance(adapters, Mapping):
        raise OptionError(f"combine: expected weights by name, such as {_EXAMPLE}, got {adapters!r}.")
    options = {"rank": rank, "density": density, "seed": seed}
    given = {name: value for name, value in options.items() if value is not None}
    problems = [
        *_name_problems(model, adapters, into, head),
        *_weight_problems(adapters),
        *_option_problems(given),
        *_way_problems(how, given),
    ]
    _refuse("combine", problems)
    with model.disabled():
        sources = _source.sources_of(model, adapters)
        new_head = _insertion.choose_head(model, sources, head)
        return _insertion.insert(model, into, _find(how)(sources, **given), new_head)


def convert_to_lora(model: AdaptedModel, adapter: str, *, into: str, rank: int = 16) -> Approximation:
    """Adds a LoRA that does what an adapter of another method does, as nearly as its rank allows.

    In every layer the update W′ - W that the adapter makes of the kernel is cut to a rank
    by its singular values. For methods that merge into kernels of projections: DoRA, LoKr,
    LoHa, VeRA, AdaLoRA, OFT, (IA)³ where no bias is scaled, full fine-tuning of kernels.
    The head is copied.

    Args:
        model: The model that has the adapter.
        adapter: Its name.
        into: Name of the new adapter.
        rank: The largest rank. It becomes smaller where less is enough.

    Returns:
        What the rank cuts off, layer by layer.

    Raises:
        OptionError: If a name or the rank cannot be used.
        AdapterError: If the adapter changes anything that a LoRA cannot.

    Example:
        >>> keras_peft.convert_to_lora(model, "mood", rank=8, into="mood-lora").largest
        0.012

    Reference:
        Eckart and Young 1936, https://doi.org/10.1007/BF02288367.
    """
    _refuse(
        "convert_to_lora",
        [*_name_problems(model, {adapter: 1}, into, None), *_option_problems({"rank": rank})],
    )
    with model.disabled():
        sources = _source.sources_of(model, {adapter: 1.0})
        head = _insertion.choose_head(model, sources, None)
        return _insertion.insert(model, into, _find("svd")(sources, rank=rank), head)


def reduce_rank(
    model: AdaptedModel, adapter: str, *, into: str, rank: int | None = None, error: float | None = None
) -> Approximation:
    """Adds a LoRA of a smaller rank that does nearly what a trained LoRA does.

    The product A B is never made: with A = Q R and Bᵀ = P S, the singular values of the
    small matrix R Sᵀ are those of A B. The head is copied.

    Args:
        model: The model that has the adapter.
        adapter: Its name; a LoRA, or another whose update is a product of narrow matrices.
        into: Name of the new adapter.
        rank: The largest rank.
        error: In its place, the relative error that every layer may have; the smallest rank
            with which all keep it is taken.

    Returns:
        What the rank cuts off, layer by layer: the root of the sum of squares of the singular
        values that are left out, over that of all.

    Raises:
        OptionError: If a name or a value cannot be used, or not just one of `rank` and
            `error` is given.
        AdapterError: If the adapter's update is no product of narrow matrices.

    Example:
        >>> keras_peft.reduce_rank(model, "mood", rank=4, into="mood-4")
        >>> keras_peft.reduce_rank(model, "mood", error=0.05, into="mood-small").rank
        3

    Reference:
        Eckart and Young 1936, https://doi.org/10.1007/BF02288367.
    """
    given = {name: value for name, value in (("rank", rank), ("error", error)) if value is not None}
    problems = [*_name_problems(model, {adapter: 1}, into, None), *_option_problems(given)]
    if len(given) != 1:
        problems.append("expected either `rank` or `error`, got " + ("both" if given else "neither"))
    _refuse("reduce_rank", problems)
    with model.disabled():
        sources = _source.sources_of(model, {adapter: 1.0})
        _source.refuse_unmergeable(sources)
        updates = _source.narrow_updates_of(sources)
        if updates is None:
            raise AdapterError(
                f"{adapter!r} is {sources[0].methods}, whose update is no product of narrow matrices; make "
                "it a LoRA of the rank with convert_to_lora()."
            )
        head = _insertion.choose_head(model, sources, None)
        new_adapter = _new_adapter.nearest_lora(sources[0].all_sites, updates, rank=rank, error=error)
        return _insertion.insert(model, into, new_adapter, head)


def _find(way: str) -> Callable[..., _new_adapter.NewAdapter]:
    found: Callable[..., _new_adapter.NewAdapter] = _SHELF.module(way).combined
    return found


def _refuse(what: str, problems: list[str]) -> None:
    if problems:
        raise OptionError(f"{what}: {'; '.join(problems)}.")


def _name_problems(
    model: AdaptedModel, adapters: Mapping[str, Any], into: str, head: str | None
) -> list[str]:
    there = model.adapters
    problems = []
    if not adapters:
        problems.append(f"no adapter was named, give their weights by name, such as {_EXAMPLE}")
    for name in dict.fromkeys([*adapters, *([] if head is None else [head])]):
        if name not in there:
            hint = did_you_mean(str(name), there).replace(" D", " (d").replace("?", "?)")
            problems.append(f"there is no adapter {name!r}, the adapters are {listed(there)}{hint}")
    if not isinstance(into, str) or not into or "/" in into:
        problems.append(f"`into={into!r}` is no name for an adapter, expected a word without '/'")
    elif into in there:
        problems.append(
            f"there is an adapter {into!r} already, choose another name for `into` or delete that one"
        )
    return problems


def _weight_problems(adapters: Mapping[str, Any]) -> list[str]:
    return [
        f"the weight of {name!r} must be a finite number, got {weight!r}"
        for name, weight in adapters.items()
        if isinstance(weight, bool) or not isinstance(weight, Real) or not math.isfinite(weight)
    ]


def _option_problems(given: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values of options."""
    problems = []
    for name, least in (("rank", 1), ("seed", 0)):
        if name in given and (type(given[name]) is not int or given[name] < least):
            problems.append(f"`{name}` must be a whole number of at least {least}, got {given[name]!r}")
    for name in ("density", "error"):
        if name not in given:
            continue
        value = given[name]
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= 1 or (name == "density" and value == 0):
            limits = "above 0 and at most 1" if name == "density" else "between 0 and 1"
            problems.append(f"`{name}` must be {limits}, got {value!r}")
    return problems


def _way_problems(how: str, given: Mapping[str, Any]) -> list[str]:
    """Whether there is such a way and it takes these options."""
    if how not in ways():
        return [f"`how={how!r}` is unknown, expected one of {', '.join(ways())}"]
    takes = [name for name in inspect.signature(_find(how)).parameters if name != "sources"]
    return [
        f"`how={how!r}` takes no {name}, {'only ' + ' and '.join(takes) if takes else 'and nothing in its insert'}"
        for name in given
        if name not in takes
    ]
