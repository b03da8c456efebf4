"""Keys of `adapter_config.json`: relevant ones, ignored ones, and unsupported values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_peft.patterns import find

# These keys describe the origin, initialisation or training of an adapter, or follow from its tensors.
_PASSED_OVER = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "encoder_dropout",
        "encoder_num_layers",
        "exclude_modules",
        # Set only for layers such as GPT-2's, which store their matrices transposed.
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
    """The configuration keys of a method.

    Attributes:
        used: Keys that are read, with the library's defaults for files that lack them.
        training: Keys that matter only in training.
        fixed: Keys with a single supported value. None means any value that turns a feature off.
    """

    used: Mapping[str, Any] = field(default_factory=dict)
    training: frozenset[str] = frozenset()
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def read(self, config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Fills in defaults and finds unsupported settings.

        Args:
            config: Content of `adapter_config.json`.

        Returns:
            The values of all keys in `used`, and the problems with other keys.
        """
        problems = []
        for key, value in config.items():
            if key in self.fixed:
                if value != self.fixed[key] and not (_is_off(value) and _is_off(self.fixed[key])):
                    problems.append(f"{key}={value!r} is not supported, only {self.fixed[key]!r}")
            elif key not in {*self.used, *self.training, *_PASSED_OVER} and not _is_off(value):
                problems.append(f"{key}={value!r} is not supported")
        used = dict(self.used) | {key: value for key, value in config.items() if key in self.used}
        return used, problems


def in_pattern(pattern: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """Returns a module's value from a PEFT pattern: the first key that matches the end of its name wins."""
    for key, value in (pattern or {}).items():
        if find(rf"^(.*\.)?({key})$", module):
            return value
    return default


def _is_off(value: Any) -> bool:
    return value is None or value is False or value == {} or value == []
