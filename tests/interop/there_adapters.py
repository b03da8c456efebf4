"""What is done with AdapterHub's library itself, by the Python that has it: adapters are trained, or loaded and asked.

    python there_adapters.py train FOLDER     trains each method on each architecture and keeps its logits
    python there_adapters.py answer FOLDER    loads what was exported and keeps its logits

`with_adapters.py` runs both, with `reference` among the places of modules; nothing of keras-peft is needed here.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import adapters
import torch
import transformers
from make_adapter_hub import SMALL, Case, classifier, inputs
from safetensors.torch import save_file

BASES = ("distilbert", "bert", "roberta")
STEPS = 6
# The methods by the names in the table.
METHODS = {
    "Pfeiffer, at the norm": Case("SeqBnConfig", SMALL),
    "Pfeiffer": Case("SeqBnConfig", {**SMALL, "original_ln_before": False}),
    "Houlsby": Case("DoubleSeqBnConfig", SMALL),
    "Parallel": Case("ParBnConfig", SMALL),
    "Compacter": Case("CompacterConfig", {**SMALL, "phm_dim": 2}),
    "LoRA": Case("LoRAConfig", {"r": 4, "alpha": 8}),
    "(IA)³": Case("IA3Config", {"alpha": 1}),
}


def train(folder: Path) -> None:
    """Trains a few steps on made-up labels, so that every weight is somewhere else than where it started."""
    logits = {}
    for method, case in METHODS.items():
        for base in BASES:
            name = f"{method}/{base}"
            model = classifier("trained", Case(case.config, case.settings, base)).train()
            optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-2)
            batch = inputs(base)
            for _ in range(STEPS):
                out = model(**batch).logits
                labels = torch.arange(len(out)) % out.shape[-1]
                torch.nn.functional.cross_entropy(out, labels).backward()
                optimizer.step()
                optimizer.zero_grad()
            (folder / "there" / method).mkdir(parents=True, exist_ok=True)
            model.eval().save_adapter(str(folder / "there" / name), "trained", use_safetensors=True)
            with torch.no_grad():
                logits[name] = model(**batch).logits
    save_file(logits, folder / "there.safetensors")


def answer(folder: Path) -> None:
    """Loads as the README of what was exported says."""
    logits = {}
    for path in sorted((folder / "exported").glob("*/*")):
        name = json.loads((path / "adapter_config.json").read_text())["model_name"]
        model = adapters.AutoAdapterModel.from_pretrained(name)
        model.load_adapter(str(path), set_active=True, use_safetensors=True)
        model.eval()
        with torch.no_grad():
            logits["/".join(path.parts[-2:])] = model(**inputs(path.name)).logits
    save_file(logits, folder / "answers.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    {"train": train, "answer": answer}[sys.argv[1]](Path(sys.argv[2]))
    versions = {module.__name__: module.__version__ for module in (adapters, transformers, torch)}
    (Path(sys.argv[2]) / "versions.json").write_text(json.dumps(versions))
