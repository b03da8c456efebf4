"""Makes `adapter_hub`: small adapters in the format of AdapterHub's library, and their classifiers' logits.

    python make_adapter_hub.py [NAME...]

Needs `adapters`, which requires its own version of transformers. The list describes its computation and the
names and shapes of its tensors, as far as they matter here. y is the output of a sublayer, t the residual
around it; D and U with the biases d and u are `adapter_down.0` and `adapter_up`, (out, in):

- bottlenecks are at `attention_adapters` and `output_adapters` of DistilBERT's blocks, and at
  `attention.output` and `output` of BERT-like blocks, each followed by `.adapters.NAME`;
- `original_ln_before` off: LN(y + s (f(y D + d) U + u) + t);
- `original_ln_before` on: LN(y + s (f(LN(y + t) D + d) U + u) + t);
- `is_parallel`: LN(y + s (f(t D + d) U + u) + t);
- s is a number, or the tensor `scaling` with one value ("learned") or one value per unit ("channel");
- `reduction_factor` sets the size, dim // factor; a mapping sets it by block number;
- Compacter: D and U are Σᵢ Aᵢ ⊗ (Lᵢ Rᵢ) of `W_left` (n, in / n, rank), `W_right` (n, rank, out / n) and
  `shared_parameters.NAME.phm_rule` (n, n, n), their biases are `b`;
- LoRA: `loras.NAME.lora_A` (r, in) and `lora_B` (out, r), with alpha / r; (IA)³: `lora_B` (out, 1) times
  alpha multiplies a layer's output;
- a head with two layers reads the first token: `heads.NAME.1`, the activation, `heads.NAME.4`; a head with
  one layer is only `heads.NAME.1`, after BERT's pooler with `use_pooler`.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import adapters
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
FOLDER = HERE / "adapter_hub"
LABELS = {0: "alpha", 1: "beta", 2: "gamma"}
TEXTS = [row["text"] for row in map(json.loads, (HERE / "../../examples/conversations.jsonl").open())][:4]
LONGEST = 24
# Large enough to affect the logits.
STD = 0.4


@dataclass(frozen=True)
class Case:
    """An adapter: the class and settings of its configuration, the base, and the head."""

    config: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    base: str = "distilbert"
    head: str = "classification"
    head_settings: Mapping[str, Any] = field(default_factory=dict)


SMALL = {"reduction_factor": 4}
EVERYWHERE = {"attn_matrices": ["q", "k", "v"], "intermediate_lora": True, "output_lora": True}
CASES = {
    "seq_bn": Case("SeqBnConfig", SMALL),
    "seq_bn_bert": Case("SeqBnConfig", SMALL, base="bert"),
    "seq_bn_blocks": Case("SeqBnConfig", {"reduction_factor": {"0": 2, "default": 8}, "leave_out": [1]}),
    "seq_bn_before_norm": Case(
        "SeqBnConfig", {**SMALL, "original_ln_before": False, "non_linearity": "gelu", "scaling": 0.5}
    ),
    "double_seq_bn": Case("DoubleSeqBnConfig", SMALL),
    "double_seq_bn_bert": Case("DoubleSeqBnConfig", SMALL, base="bert"),
    "double_seq_bn_channel": Case("DoubleSeqBnConfig", {**SMALL, "scaling": "channel"}),
    "par_bn": Case("ParBnConfig", SMALL),
    "par_bn_bert": Case("ParBnConfig", SMALL, base="bert"),
    "par_bn_learned": Case("ParBnConfig", {**SMALL, "scaling": "learned", "non_linearity": "tanh"}),
    "compacter": Case("CompacterConfig", {**SMALL, "phm_dim": 2}),
    "compacter_bert": Case("CompacterConfig", {**SMALL, "phm_dim": 2}, base="bert"),
    "lora": Case("LoRAConfig", {"r": 4, "alpha": 6}),
    "lora_everywhere_bert": Case("LoRAConfig", {"r": 2, **EVERYWHERE, "leave_out": [0]}, base="bert"),
    "ia3": Case("IA3Config", {"alpha": 2}),
    "ia3_bert": Case("IA3Config", base="bert"),
    "seq_bn_roberta": Case("SeqBnConfig", SMALL, base="roberta"),
    "double_seq_bn_roberta": Case("DoubleSeqBnConfig", SMALL, base="roberta"),
    "par_bn_roberta": Case("ParBnConfig", SMALL, base="roberta"),
    "compacter_roberta": Case("CompacterConfig", {**SMALL, "phm_dim": 2}, base="roberta"),
    "lora_roberta": Case("LoRAConfig", {"r": 2}, base="roberta"),
    "head_relu": Case("SeqBnConfig", SMALL, head_settings={"activation_function": "relu"}),
    "head_pooler_bert": Case(
        "SeqBnConfig",
        SMALL,
        base="bert",
        head_settings={"layers": 1, "use_pooler": True, "activation_function": None},
    ),
    "head_regression": Case("SeqBnConfig", SMALL, head_settings={"num_labels": 1, "id2label": None}),
    "head_multilabel": Case("SeqBnConfig", SMALL, head_settings={"multilabel": True}),
    "head_tagging": Case("SeqBnConfig", SMALL, head="tagging"),
    "head_static": Case("SeqBnConfig", SMALL, head="static"),
    "head_static_bert": Case("SeqBnConfig", SMALL, base="bert", head="static"),
    "head_static_roberta": Case("SeqBnConfig", SMALL, base="roberta", head="static"),
}


def inputs(base: str) -> dict[str, torch.Tensor]:
    """Encodes texts of different lengths with the tokenizer of a base."""
    padding = json.loads((HERE / base / "config.json").read_text())["pad_token_id"]
    tokenizer = tokenizers.Tokenizer.from_file(str(HERE / base / "tokenizer.json"))
    tokenizer.enable_truncation(LONGEST)
    tokenizer.enable_padding(pad_id=padding)
    encodings = tokenizer.encode_batch(TEXTS)
    found = {"input_ids": [e.ids for e in encodings], "attention_mask": [e.attention_mask for e in encodings]}
    return {key: torch.tensor(value) for key, value in found.items()}


def classifier(name: str, case: Case) -> torch.nn.Module:
    """Returns a base with a new adapter and its head."""
    torch.manual_seed(1)
    checkpoint = HERE / case.base
    if case.head == "static":
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            checkpoint, num_labels=len(LABELS), id2label=LABELS
        )
        adapters.init(model)
    else:
        model = adapters.AutoAdapterModel.from_pretrained(checkpoint)
    model.add_adapter(name, config=getattr(adapters, case.config)(**case.settings))
    if case.head != "static":
        add: Callable[..., None] = getattr(model, f"add_{case.head}_head")
        add(name, **{"num_labels": len(LABELS), "id2label": LABELS, **case.head_settings})
    model.train_adapter(name)
    return model.eval()


def scatter(model: torch.nn.Module) -> None:
    """Adds noise to all trainable parameters."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(STD * torch.randn(parameter.shape, generator=generator))


def load(folder: Path, case: Case) -> torch.nn.Module:
    """Loads a saved adapter with its head as users do."""
    if case.head == "static":
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            HERE / case.base, num_labels=len(LABELS)
        )
        adapters.init(model)
    else:
        model = adapters.AutoAdapterModel.from_pretrained(HERE / case.base)
    model.load_adapter(str(folder), set_active=True, use_safetensors=True)
    return model.eval()


def make(name: str, case: Case) -> dict[str, torch.Tensor]:
    """Writes a folder and returns the logits."""
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    model = classifier(name, case)
    scatter(model)
    model.save_adapter(str(folder), name, use_safetensors=True)
    for path in (folder / "adapter_config.json", folder / "head_config.json"):
        content = json.loads(path.read_text())
        content["model_name"] = f"tests/reference/{case.base}"
        path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    batch = inputs(case.base)
    logits = model(**batch).logits
    again = load(folder, case)
    difference = (again(**batch).logits - logits).abs().max()
    if difference > 1e-5:
        sys.exit(f"{name}: read back, the logits differ by {difference:.2g}")
    model.set_active_adapters(None)
    named = {} if case.head == "static" else {"head": name}
    change = (model(**batch, **named).logits - logits).abs().max()
    if change < 0.05:
        sys.exit(f"{name}: the adapter changes the logits by {change:.2g} only")
    return {
        name: logits,
        f"ids/{case.base}": batch["input_ids"].int(),
        f"mask/{case.base}": batch["attention_mask"].int(),
    }


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    kept = FOLDER / "logits.safetensors"
    found = load_file(kept) if names and kept.is_file() else {}
    with torch.no_grad():
        for name in names or CASES:
            found |= make(name, CASES[name])
    versions = {module.__name__: module.__version__ for module in (adapters, transformers, torch)}
    save_file(dict(sorted(found.items())), kept, {"versions": json.dumps(versions)})


if __name__ == "__main__":
    main(sys.argv[1:])
