"""Trains adapters on language models with PEFT, and loads saved adapters with PEFT.

    python there_decoders.py train FOLDER     trains adapters and saves their logits
    python there_decoders.py answer FOLDER    loads the saved adapters and saves their logits

`with_decoders.py` runs both with PEFT's Python and `reference` on PYTHONPATH.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import make_decoders
import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file

METHODS = {"LoRA": "lora", "rsLoRA": "rslora", "DoRA": "dora", "LoRA of several ranks": "patterns"}
STEPS = 6


def train(folder: Path) -> None:
    """Trains a few steps of next-token prediction, so that every weight changes."""
    logits = {}
    batch = make_decoders.inputs()
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    for case in json.loads((folder / "cases.json").read_text()):
        method, _, name = case.rpartition("/")
        torch.manual_seed(1)
        config = LoraConfig(
            task_type="CAUSAL_LM",
            target_modules=make_decoders.targets(name),
            fan_in_fan_out=name == "gpt2",
            **make_decoders.KINDS[METHODS[method]],
        )
        model = get_peft_model(make_decoders.load(name), config).train()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-2)
        for _ in range(STEPS):
            model(**batch, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.eval().save_pretrained(folder / "there" / method / name)
        with torch.no_grad():
            logits[f"{method}/{name}"] = make_decoders.answer(model)["logits"].contiguous()
    save_file(logits, folder / "there.safetensors")


def answer(folder: Path) -> None:
    """Loads each adapter on the base that its configuration names."""
    logits = {}
    for path in sorted((folder / "here").glob("*/*")):
        base = json.loads((path / "adapter_config.json").read_text())["base_model_name_or_path"]
        model = PeftModel.from_pretrained(make_decoders.load(base), path).eval()
        with torch.no_grad():
            logits["/".join(path.parts[-2:])] = make_decoders.answer(model)["logits"].contiguous()
    save_file(logits, folder / "answers.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    {"train": train, "answer": answer}[sys.argv[1]](Path(sys.argv[2]))
    versions = {module.__name__: module.__version__ for module in (peft, transformers, torch)}
    (Path(sys.argv[2]) / "versions.json").write_text(json.dumps(versions))
