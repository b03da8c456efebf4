"""The fields of other libraries' configurations.

Fields that are left out have the library's defaults. Values that no version of the library writes are refused, such
as a negative rank, even where the tensors of the file decide instead. Import this module where a file is read, since
it imports msgspec.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from keras_peft.schemas import Count

_Rate = Annotated[float, msgspec.Meta(ge=0, lt=1)]
_Strength = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
_Steps = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
# PEFT writes 0 where a block size takes the place of the rank, and LoKr's factor is -1 if it is not set.
_Rank = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
_Factor = Annotated[int, msgspec.Meta(ge=-1, le=1_000_000)]
_Patterns = Annotated[dict[str, Count], msgspec.Meta(max_length=10_000)]
_Strengths = Annotated[dict[str, _Strength], msgspec.Meta(max_length=10_000)]


class Settings(msgspec.Struct, kw_only=True):
    """The settings of a method that are read, of PEFT and of AdapterHub."""

    alpha: _Strength | None = None
    alpha_pattern: _Strengths | None = None
    bias: str | None = None
    block_share: bool | None = None
    coft: bool | None = None
    d_initial: float | None = None
    decompose_factor: _Factor | None = None
    deltaT: Annotated[int, msgspec.Meta(ge=1, le=10**12)] | None = None  # noqa: N815
    dropout: _Rate | None = None
    eps: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    init_lora_weights: bool | str | None = None
    # Pruned ranks are not in the file, so its tensors do not bound this one.
    init_r: Annotated[int, msgspec.Meta(ge=1, le=4_096)] | None = None
    lora_alpha: _Strength | None = None
    lora_bias: bool | None = None
    lora_dropout: _Rate | None = None
    non_linearity: str | None = None
    num_cayley_neumann_terms: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    orth_reg_weight: Annotated[float, msgspec.Meta(ge=0, le=1e6)] | None = None
    projection_prng_key: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] | None = None
    r: _Rank | None = None
    save_projection: bool | None = None
    target_r: Count | None = None
    tfinal: _Steps | None = None
    tinit: _Steps | None = None
    total_step: _Steps | None = None
    use_cayley_neumann: bool | None = None
    use_dora: bool | None = None
    use_rslora: bool | None = None
    vera_dropout: _Rate | None = None


class AdapterConfig(Settings, kw_only=True):
    """PEFT's adapter_config.json. The type is checked where the types are known."""

    base_model_name_or_path: str | None = None
    peft_type: str | None = None
    rank_pattern: dict[str, Any] | None = None
    revision: str | None = None
    task_type: str | None = None


class HubAdapter(msgspec.Struct, kw_only=True):
    """AdapterHub's adapter_config.json."""

    config: Settings
    model_name: str | None = None
    model_type: str | None = None
    name: str
    version: str | None = None


class HubHead(msgspec.Struct, kw_only=True):
    """AdapterHub's head_config.json."""

    config: dict[str, Any] | None = None
    label2id: dict[str, Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]] | None = None
    model_class: str | None = None
    name: str | None = None
    num_labels: Count | None = None
