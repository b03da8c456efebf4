"""Trains adapters with PEFT, and loads exported adapters with PEFT.

    python there.py train FOLDER     trains each method on each architecture and saves its logits
    python there.py answer FOLDER    loads the exported adapters and saves their logits

`with_peft.py` runs both with PEFT's Python and `reference` on PYTHONPATH. keras-peft is not needed.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import make_peft
import peft
import torch
import transformers
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

# The names of the methods in the table, and their cases in make_peft.
METHODS = {
    "LoRA": "lora_all",
    "rsLoRA": "lora_rslora",
    "DoRA": "lora_dora",
    "PiSSA": "lora_pissa",
    "OLoRA": "lora_olora",
    "LoRA with biases": "lora_base_bias",
    "LoRA of embeddings": "lora_embedding",
    "AdaLoRA": "adalora",
    "(IA)³": "ia3",
    "VeRA": "vera",
    "LoHa": "loha",
    "LoKr": "lokr_second",
    "OFT": "oft",
    "OFT, exact": "oft_cayley",
    "Norm tuning": "ln_tuning",
    "BitFit": "beft",
    "Prompt tuning": "prompt_tuning",
    "P-tuning, perceptron": "p_tuning_mlp",
    "P-tuning, LSTM": "p_tuning_lstm",
    "Prefix tuning": "prefix_tuning",
    "Prefix tuning, perceptron": "prefix_tuning_projection",
}
IN_BERT = {
    "q_lin": "query",
    "k_lin": "key",
    "v_lin": "value",
    "out_lin": "attention.output.dense",
    "lin1": "intermediate.dense",
    "lin2": "output.dense",
    "LayerNorm": "LayerNorm",
    "sa_layer_norm": "attention.output.LayerNorm",
    "output_layer_norm": "output.LayerNorm",
}
STEPS = 6


def case_on(method: str, base: str) -> make_peft.Case:
    """Returns the case with an architecture's module names."""
    case = make_peft.CASES[METHODS[method]]
    settings = dict(case.settings)
    for key in ("target_modules", "feedforward_modules"):
        if key in settings and base != "distilbert":
            settings[key] = [IN_BERT.get(name, name) for name in settings[key]]
    return dataclasses.replace(case, settings=settings)


def inputs(base: str) -> dict[str, torch.Tensor]:
    kept = load_file(make_peft.HERE / "peft_folders" / "logits.safetensors")
    return {"input_ids": kept[f"ids/{base}"].long(), "attention_mask": kept[f"mask/{base}"].long()}


def train(folder: Path) -> None:
    """Trains a few steps on made-up labels, so that every weight changes."""
    logits = {}
    for name in json.loads((folder / "cases.json").read_text()):
        method, _, base = name.rpartition("/")
        if base in ("distilbert", "bert", "roberta"):
            case = case_on(method, base)
            reads_tokens = "Prompt" in case.method
            kind, task_type = ("token", "TOKEN_CLS") if reads_tokens else ("text", "SEQ_CLS")
            torch.manual_seed(1)
            config = getattr(peft, f"{case.method}Config")(task_type=task_type, **case.settings)
            with torch.no_grad():
                bare = make_peft.classifier(kind, base)
            model = get_peft_model(bare, config).train()
            optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-2)
            batch = inputs(base)
            for step in range(STEPS):
                out = make_peft.answer(model, batch)
                labels = torch.arange(out[..., 0].numel()) % out.shape[-1]
                torch.nn.functional.cross_entropy(out.reshape(-1, out.shape[-1]), labels).backward()
                optimizer.step()
                if case.method == "AdaLora":
                    model.base_model.update_and_allocate(step)
                optimizer.zero_grad()
            model.eval().save_pretrained(folder / "there" / name)
            with torch.no_grad():
                logits[name] = make_peft.answer(model, batch)
    save_file(logits, folder / "there.safetensors")


def answer(folder: Path) -> None:
    """Loads each exported adapter as its README describes."""
    logits = {}
    for path in sorted((folder / "exported").glob("*/*")):
        kind = json.loads((path / "config.json").read_text())["architectures"][0]
        settings = json.loads((path / "adapter_config.json").read_text())
        auto = getattr(transformers, f"AutoModel{kind[kind.index('For') :]}")
        name = settings["base_model_name_or_path"]
        base = path / name if (path / name).is_dir() else Path(name)
        config = transformers.AutoConfig.from_pretrained(path)
        model = PeftModel.from_pretrained(
            auto.from_pretrained(base, config=config, dtype=torch.float32), path
        ).eval()
        with torch.no_grad():
            logits["/".join(path.parts[-2:])] = make_peft.answer(model, inputs(path.name.partition(",")[0]))
    save_file(logits, folder / "answers.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    {"train": train, "answer": answer}[sys.argv[1]](Path(sys.argv[2]))
    versions = {module.__name__: module.__version__ for module in (peft, transformers, torch)}
    (Path(sys.argv[2]) / "versions.json").write_text(json.dumps(versions))
