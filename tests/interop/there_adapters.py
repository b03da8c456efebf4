"""Trains adapters with AdapterHub's library, and loads exported adapters with it.

    python there_adapters.py train FOLDER     trains each method on each architecture and saves its logits
    python there_adapters.py answer FOLDER    loads the exported adapters and saves their logits

`with_adapters.py` runs both with the library's Python and `reference` on PYTHONPATH. keras-peft is not
needed.
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

STEPS = 6
# The names of the methods in the table, and their cases.
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
    """Trains a few steps on made-up labels, so that every weight changes."""
    logits = {}
    for name in json.loads((folder / "cases.json").read_text()):
        method, _, base = name.rpartition("/")
        case = METHODS[method]
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
    """Loads each exported adapter as its README describes."""
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
