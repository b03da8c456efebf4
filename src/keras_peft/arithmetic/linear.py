"""Linear: w = w₀ + Σ wᵢ (vᵢ - w₀) on the weights themselves, where w₀ are those of a new adapter.

Task arithmetic, Ilharco et al. 2022, "Editing Models with Task Arithmetic",
https://arxiv.org/abs/2212.04089, applied to the adapter's weights. If the weights wᵢ sum to one, this
is the weighted mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from keras_peft.arithmetic._insertion import head_keys
from keras_peft.arithmetic._new_adapter import NewAdapter
from keras_peft.arithmetic._source import Source
from keras_peft.errors import AdapterError, listed


def combined(sources: Sequence[Source]) -> NewAdapter:
    """Adds the weights of adapters of one method that attach to the same layers.

    Only for methods whose effect is linear in their weights, such as BitFit, norm tuning and (IA)³:
    for these, the sum of the weights is the sum of the updates. This does not hold for a product of
    weights, such as LoRA's A B: averaging A and B separately gives cross terms between the adapters,
    so such methods are refused.
    """
    first = sources[0]
    shapes = []
    for source in sources:
        heads = head_keys(source)
        shapes.append({key: shape for key, shape in source.adapter.shapes().items() if key not in heads})
    products = sorted({p.method.name for s in sources for p in s.adapter.placements if not p.method.linear})
    keys = [weights.site.key for weights in first.adapter.site_weights]
    twice = sorted({first.all_sites[key].path for key in keys if keys.count(key) > 1})
    problems = []
    if products:
        problems.append(
            f"the effect of {listed(products)} is not linear in its weights, so the sum of the "
            "weights is not the sum of the updates (use `how='svd'`, or 'cat' if the updates are "
            "products of low-rank matrices)"
        )
    if any(
        [p.method for p in s.adapter.placements] != [p.method for p in first.adapter.placements]
        for s in sources
    ):
        having = "; ".join(f"{source.name!r} has {source.methods}" for source in sources)
        problems.append(f"the adapters have different methods or options ({having})")
    elif any(shape != shapes[0] for shape in shapes):
        problems.append("the adapters attach to different layers (choose the same targets and layers)")
    if twice:
        problems.append(f"two methods act at {listed(twice, most=3)}, where one multiplies the other")
    if problems:
        raise AdapterError(f"`how='linear'` adds the weights themselves, but {'; '.join(problems)}.")

    def fill(birth: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        trained = [(source.weight, source.adapter.tensors()) for source in sources]
        tensors = {}
        for key in shapes[0]:
            start = np.asarray(birth[key], np.float64)
            tensors[key] = start + sum(weight * (tensor[key] - start) for weight, tensor in trained)
        return tensors

    paths = {key: site.path for key, site in first.all_sites.items() if key in first.touched}
    return NewAdapter(first.adapter.placements, fill, dict.fromkeys(paths.values(), 0.0))
