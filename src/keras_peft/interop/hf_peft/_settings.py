"""Which keys of `adapter_config.json` matter, and what is refused because it is not computed here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# They say how an adapter was found, started or trained, or are told by the tensors anyway.
_PASSED_OVER = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "encoder_dropout",
        "encoder_num_layers",
        "exclude_modules",
        # Only layers of GPT-2's kind keep their matrix the other way round.
        "fan_in_fan_out",
        "feedforward_modules",
        "inference_mode",
        "init_ia3_weights",
        "init_weights",
        "layers_pattern",
        "layers_to_transform",
        "megatron_core",
        "modules_to_save",
        "num_attention_heads",
        "num_layers",
        "num_virtual_tokens",
        "peft_type",
        "peft_version",
        "prompt_tuning_init",
        "prompt_tuning_init_text",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
        "token_dim",
        "tokenizer_kwargs",
        "tokenizer_name_or_path",
    }
)


@dataclass(frozen=True)
class Settings:
    """What the keys of a method's configuration mean here.

    Attributes:
        used: Keys that are read, with PEFT's defaults for files that lack them.
        training: Keys that matter while training only.
        fixed: Keys that may have this value alone: what PEFT computes with others is not
            computed here. None stands for all that turns a feature off.
    """

    used: Mapping[str, Any] = field(default_factory=dict)
    training: frozenset[str] = frozenset()
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def read(self, config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Fills in defaults and finds what cannot be read.

        Args:
            config: The content of `adapter_config.json`.

        Returns:
            The values of all keys in `used`, and what is wrong with the others.
        """
        problems = []
        for key, value in config.items():
            if key in self.fixed:
                if value != self.fixed[key] and not (_is_off(value) and _is_off(self.fixed[key])):
                    problems.append(f"{key}={value!r} is not computed here, only {self.fixed[key]!r}")
            elif key not in {*self.used, *self.training, *_PASSED_OVER} and not _is_off(value):
                problems.append(f"{key}={value!r} is not known here")
        used = dict(self.used) | {key: value for key, value in config.items() if key in self.used}
        return used, problems


def in_pattern(pattern: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """Returns a module's own value of a setting; the first key that matches the end of its name wins."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def _is_off(value: Any) -> bool:
    return value is None or value is False or value == {} or value == []
