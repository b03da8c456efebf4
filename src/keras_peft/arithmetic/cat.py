"""Cat: A = [A₁ A₂ …] and B = [w₁s₁B₁; w₂s₂B₂; …], so that A B = Σ wᵢ sᵢ Aᵢ Bᵢ, exactly.

LoRA composition by concatenation, as in HF PEFT's `add_weighted_adapter`: "cat" in
https://huggingface.co/docs/peft/developer_guides/lora.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras_peft.arithmetic._new_adapter import NewAdapter, lora_of_products
from keras_peft.arithmetic._source import Source, join, keys_of, refuse_unmergeable
from keras_peft.errors import AdapterError, listed


def combined(sources: Sequence[Source]) -> NewAdapter:
    """Concatenates the low-rank factors of the adapters, which gives the exact sum of the updates.

    The new rank is the sum of the ranks. The adapters may differ in rank, alpha, initialisation and
    layers. Their updates must be products of low-rank factors.
    """
    refuse_unmergeable(sources)
    products, problems = {}, []
    for key in keys_of(sources):
        weighted = []
        for source in sources:
            if key not in source.touched:
                continue
            product = source.product(key)
            if product is None:
                problems.append(source)
            else:
                weighted.append((product[0], source.weight * product[1]))
        if weighted:
            products[key] = join(weighted)
    if problems:
        names = dict.fromkeys(f"{source.name!r} ({source.methods})" for source in problems)
        raise AdapterError(
            f"`how='cat'` concatenates low-rank matrices, but the update of {listed(names)} is not a "
            "product of such matrices; use `how='svd'`."
        )
    return lora_of_products(sources[0].all_sites, products)
