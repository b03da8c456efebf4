"""Makes tiny language models with PEFT adapters, and their outputs.

    .venv-peers/bin/python tests/reference/make_decoders.py

Writes to the folder of this file, for each architecture, `NAME/` with a random checkpoint in the format of
transformers; to `decoders/`, an adapter of each kind in PEFT's format, and `outputs.safetensors` with the
hidden states and the logits of each base, alone and with each adapter. The models use grouped-query attention
if the architecture has it, so that a wrong order of heads changes the outputs.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import peft
import torch
import transformers
from make_peft import write
from peft import LoraConfig, PeftModel, get_peft_model

HERE = Path(__file__).parent
FOLDER = HERE / "decoders"
# Vocabulary, width, blocks.
V, D, L = 96, 24, 2
GATED = {
    "vocab_size": V,
    "hidden_size": D,
    "intermediate_size": 40,
    "num_hidden_layers": L,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-5,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS = {
    "llama": transformers.LlamaConfig(**GATED),
    "gpt2": transformers.GPT2Config(
        vocab_size=V,
        n_embd=D,
        n_layer=L,
        n_head=3,
        n_positions=32,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "mistral": transformers.MistralConfig(**GATED, sliding_window=None),
    "qwen2": transformers.Qwen2Config(**GATED),
    "qwen3": transformers.Qwen3Config(**GATED, head_dim=8),
    "gemma": transformers.GemmaConfig(**{**GATED, "rms_norm_eps": 1e-6}, head_dim=8),
}
IN_LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IN_GPT2 = ["c_attn", "c_proj", "c_fc"]
# The arguments of LoraConfig other than the targets.
KINDS = {
    "lora": {"r": 3, "lora_alpha": 8},
    "rslora": {"r": 3, "lora_alpha": 8, "use_rslora": True},
    "dora": {"r": 3, "lora_alpha": 8, "use_dora": True},
    "patterns": {
        "r": 3,
        "lora_alpha": 8,
        "rank_pattern": {"layers.0.self_attn.q_proj": 2, "h.0.attn.c_attn": 2},
        "alpha_pattern": {"down_proj": 5, "mlp.c_proj": 5},
    },
    "one_block": {"r": 2, "lora_alpha": 4, "layers_to_transform": [1]},
}
# Other methods, on Llama only: PEFT's configuration class and its arguments.
OTHERS = {
    "ia3": (
        "IA3Config",
        {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    ),
    "vera": ("VeraConfig", {"r": 4}),
    "loha": ("LoHaConfig", {"r": 3, "alpha": 6}),
    "lokr": ("LoKrConfig", {"r": 2, "alpha": 4, "decompose_factor": 2}),
    "oft": ("OFTConfig", {"oft_block_size": 4, "r": 0}),
}
ONLY_LORA = ("mistral", "qwen2", "qwen3", "gemma")


def targets(name: str) -> list[str]:
    return IN_GPT2 if name == "gpt2" else IN_LLAMA


def inputs() -> dict[str, torch.Tensor]:
    """Returns rows of different lengths, padded at the end."""
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(3, V, (4, 11), generator=generator)
    mask = (torch.arange(11)[None] < torch.tensor([11, 7, 4, 9])[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def load(name: str, auto: type = transformers.AutoModelForCausalLM) -> torch.nn.Module:
    return auto.from_pretrained(HERE / name, dtype=torch.float32, attn_implementation="eager").eval()


def answer(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Returns the logits and the last hidden states."""
    out = model(**inputs(), output_hidden_states=True, use_cache=False)
    return {"hidden": out.hidden_states[-1], "logits": out.logits}


def fill(model: torch.nn.Module, std: float) -> None:
    """Draws values large enough to affect the outputs, the same each time.

    Norms, magnitudes and (IA)³ vectors keep their values with noise added.
    """
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            noise = std * torch.randn(parameter.shape, generator=generator)
            stays = any(part in name for part in ("norm", "ln_", "magnitude", "ia3_l"))
            parameter.copy_(parameter + noise if stays else noise)


def make_base(name: str) -> None:
    folder = HERE / name
    if folder.exists():
        shutil.rmtree(folder)
    made = transformers.AutoModelForCausalLM.from_config(CONFIGS[name])
    fill(made, 0.15)
    for parameter in made.parameters():  # KerasHub reads Mistral's checkpoint in half precision.
        parameter.copy_(parameter.half())
    made.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)


def config_of(name: str, kind: str) -> peft.PeftConfig:
    if kind in KINDS:
        return LoraConfig(
            task_type="CAUSAL_LM", target_modules=targets(name), lora_dropout=0.1, **KINDS[kind]
        )
    configuration, options = OTHERS[kind]
    options = {"target_modules": ["q_proj", "v_proj", "down_proj"], **options}
    return getattr(peft, configuration)(task_type="CAUSAL_LM", **options)


def make(name: str, kind: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    config = config_of(name, kind)
    model = get_peft_model(load(name), config).eval()
    fill(model, 0.2)
    folder = FOLDER / f"{name}_{kind}"
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    settings = json.loads((folder / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = f"tests/reference/{name}"
    for key in ("target_modules", "feedforward_modules"):
        if key in settings:
            settings[key].sort()
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    (folder / "adapter_config.json").write_text(text)
    found = answer(PeftModel.from_pretrained(load(name), folder).eval())
    return {f"{name}_{kind}.{key}": value.contiguous() for key, value in found.items()}


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    outputs = {key: value.int() for key, value in inputs().items()}
    with torch.no_grad():
        for name in CONFIGS:
            make_base(name)
            outputs |= {f"{name}.{key}": value.contiguous() for key, value in answer(load(name)).items()}
            for kind in ("lora",) if name in ONLY_LORA else KINDS:
                outputs |= make(name, kind)
        for kind in OTHERS:
            outputs |= make("llama", kind)
    versions = {module.__name__: module.__version__ for module in (peft, transformers, torch)}
    write(FOLDER / "outputs.safetensors", outputs, {"versions": json.dumps(versions, sort_keys=True)})


if __name__ == "__main__":
    main()
