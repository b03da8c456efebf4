"""Arithmetic on the adapters of one model: combine them, convert them to LoRA, reduce their rank.

Each module `arithmetic/NAME.py` is one way to combine. Its function `combined` takes the sources and
its options as keyword arguments. No other registration is needed.

The *updates* ΔW = W′ - W of the base's matrices are added, which exist for every method that merges, and
not the weights that the updates are computed from: Σ wᵢ sᵢ Aᵢ Bᵢ is the joint effect of the adapters,
whereas (Σ √wᵢ Aᵢ)(Σ √wᵢ Bᵢ) has cross terms between them.
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
    """Returns the names of the ways to combine, sorted."""
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
    """Combines several adapters into a new one, as a weighted sum.

    The given adapters stay unchanged. The new adapter is not active. It is a LoRA, except with
    "linear". If an adapter does not attach to a layer, its update there counts as zero.

    - "linear": for adapters of one method whose effect is linear in its weights, with the same
      options and layers: BitFit, norm tuning, (IA)³, full fine-tuning. The result is an adapter
      of that method and is exact.
    - "cat": for LoRA and other methods whose update is a product of low-rank factors. The result
      is exact; its rank is the sum of the ranks.
    - "svd": for all methods that merge into kernels. The result is the nearest LoRA of the given
      rank.
    - "ties": as "svd", after the small entries of each update are dropped. Of the rest, only those
      with the same sign as their weighted sum count.
    - "dare": as "svd", after entries are dropped at random.

    HF PEFT's `add_weighted_adapter` calls the last four "cat", "svd", "ties_svd" and
    "dare_linear_svd". Weights of 1 in its "ties_svd" correspond to weights of 1 / n here, with n
    adapters. Its "linear" has no equivalent here: it averages LoRA's A and B separately, which is
    not a sum of the updates.

    Args:
        model: The model that has the adapters.
        adapters: Weights by adapter name, such as `{"news": 0.7, "mood": 0.3}`. They are not
            normalised; a negative weight subtracts an adapter.
        into: Name of the new adapter.
        how: The way to combine them: "linear", "cat", "svd", "ties" or "dare".
        rank: For svd, ties and dare: maximum rank, 16 by default. A smaller rank is used if it
            is sufficient.
        density: For ties, the fraction of each update's entries to keep, 0.2 by default; for
            dare, the probability of keeping an entry, 0.5 by default.
        seed: For dare: random seed, 0 by default.
        head: The adapter whose head is copied. By default the only head, or the weighted mean
            of heads of the same shape, which is meaningful if their labels have the same
            meaning.

    Returns:
        The relative error of the new adapter in each layer: zero for linear and cat, else the
        part that is lost because of the rank.

    Raises:
        OptionError: If a name, a weight or an option is invalid, or the choice of the head is
            ambiguous.
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
    """Converts an adapter of another method to the nearest LoRA, as a new adapter.

    In each layer, the adapter's update W′ - W of the kernel is truncated to a rank by its singular
    values. Works for methods that merge into projection kernels: DoRA, LoKr, LoHa, VeRA, AdaLoRA,
    OFT, (IA)³ if it scales no bias, full fine-tuning of kernels. The head is copied.

    Args:
        model: The model that has the adapter.
        adapter: Name of the adapter.
        into: Name of the new adapter.
        rank: Maximum rank. A smaller rank is used if it is sufficient.

    Returns:
        The relative error caused by the rank in each layer.

    Raises:
        OptionError: If a name or the rank is invalid.
        AdapterError: If the adapter makes changes that a LoRA cannot represent.

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
    """Approximates a trained LoRA by one of a smaller rank, as a new adapter.

    The product A B is never formed: with A = Q R and Bᵀ = P S, the singular values of the small
    matrix R Sᵀ are those of A B. The head is copied.

    Args:
        model: The model that has the adapter.
        adapter: Name of the adapter: a LoRA, or one of another method whose update is a product
            of low-rank factors.
        into: Name of the new adapter.
        rank: Maximum rank.
        error: Maximum relative error per layer, instead of `rank`. The smallest rank that
            meets it in all layers is used.

    Returns:
        The relative error in each layer: the root of the sum of squares of the dropped singular
        values, divided by that of all.

    Raises:
        OptionError: If a name or a value is invalid, or not exactly one of `rank` and `error`
            is given.
        AdapterError: If the adapter's update is not a product of low-rank factors.

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
                f"{adapter!r} uses {sources[0].methods}, whose update is not a product of low-rank "
                "matrices; convert it to a LoRA of that rank with convert_to_lora()."
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
        problems.append(f"no adapters were given, pass their weights by name, such as {_EXAMPLE}")
    for name in dict.fromkeys([*adapters, *([] if head is None else [head])]):
        if name not in there:
            hint = did_you_mean(str(name), there).replace(" D", " (d").replace("?", "?)")
            problems.append(f"there is no adapter {name!r}, the adapters are {listed(there)}{hint}")
    if not isinstance(into, str) or not into or "/" in into:
        problems.append(f"`into={into!r}` is not a valid adapter name, expected a name without '/'")
    elif into in there:
        problems.append(
            f"the adapter {into!r} already exists, choose another name for `into` or delete it first"
        )
    return problems


def _weight_problems(adapters: Mapping[str, Any]) -> list[str]:
    return [
        f"the weight of {name!r} must be a finite number, got {weight!r}"
        for name, weight in adapters.items()
        if isinstance(weight, bool) or not isinstance(weight, Real) or not math.isfinite(weight)
    ]


def _option_problems(given: Mapping[str, Any]) -> list[str]:
    """Returns the problems of option values."""
    problems = []
    for name, least in (("rank", 1), ("seed", 0)):
        if name in given and (type(given[name]) is not int or given[name] < least):
            problems.append(f"`{name}` must be an integer of at least {least}, got {given[name]!r}")
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
    """Returns the problems of a way to combine and the options given for it."""
    if how not in ways():
        return [f"`how={how!r}` is unknown, expected one of {', '.join(ways())}"]
    takes = [name for name in inspect.signature(_find(how)).parameters if name != "sources"]
    return [
        f"`how={how!r}` does not take {name}{', only ' + ' and '.join(takes) if takes else ''}"
        for name in given
        if name not in takes
    ]
