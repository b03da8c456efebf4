"""Makes the classifiers that `interop/test_hf_model.py` compares with, and their logits in transformers.

    .venv-peers/bin/python tests/reference/make_classifiers.py

Writes `classifiers/`: the heads of tiny random classifiers in the format of transformers, their config.json,
and `logits.safetensors`. The encoders are those of `distilbert/`, `bert/` and `roberta/`.
"""

from __future__ import annotations

import json
from pathlib import Path

import tokenizers
import torch
import transformers
from safetensors.torch import save_file

HERE = Path(__file__).parent
FOLDER = HERE / "classifiers"
TEXTS = [
    "Which model is faster?",
    "Jon: Have you seen the new release this morning? Sumit: Yes, and the people at work talk of nothing else.",
    "No.",
]
LABELS = ("beta", "gamma", "alpha")
# For each suffix of a file name: the suffix of the class, and the settings of the configuration.
TASKS = {
    "single": ("SequenceClassification", {"id2label": dict(enumerate(LABELS))}),
    "multi": (
        "SequenceClassification",
        {"id2label": dict(enumerate(LABELS)), "problem_type": "multi_label_classification"},
    ),
    "number": ("SequenceClassification", {"num_labels": 1, "problem_type": "regression"}),
    "words": ("TokenClassification", {"id2label": dict(enumerate(("O", "B-name", "I-name")))}),
}
ARCHITECTURES = ("distilbert", "bert", "roberta")
KEPT = ("architectures", "id2label", "label2id", "problem_type")


def spread(model: torch.nn.Module, seed: int) -> None:
    """Draws a head large enough to show in the logits."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "classifier" in name or "pooler" in name:
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))


def batch(architecture: str) -> dict[str, torch.Tensor]:
    """Encodes the texts with padding."""
    made = tokenizers.Tokenizer.from_file(str(HERE / architecture / "tokenizer.json"))
    pad = json.loads((HERE / architecture / "config.json").read_text())["pad_token_id"]
    made.enable_padding(pad_id=pad)
    made.enable_truncation(32)
    rows = made.encode_batch(TEXTS)
    return {
        "input_ids": torch.tensor([row.ids for row in rows]),
        "attention_mask": torch.tensor([row.attention_mask for row in rows]),
    }


def main() -> None:
    """Makes each classifier of each architecture."""
    FOLDER.mkdir(exist_ok=True)
    kept: dict[str, torch.Tensor] = {}
    for architecture in ARCHITECTURES:
        given = batch(architecture)
        kept |= {f"{architecture}/{key}": value.int() for key, value in given.items()}
        for number, (task, (ending, settings)) in enumerate(TASKS.items()):
            name = f"{architecture}_{task}"
            auto = getattr(transformers, f"AutoModelFor{ending}")
            model = auto.from_pretrained(HERE / architecture, dtype=torch.float32, **settings).eval()
            spread(model, number)
            kept[name] = model(**given).logits
            head = {
                key: value
                for key, value in model.state_dict().items()
                if "classifier" in key or "pooler" in key
            }
            config = json.loads(model.config.to_json_string(use_diff=False))
            config["architectures"] = [type(model).__name__]
            text = json.dumps({key: config.get(key) for key in KEPT if config.get(key) is not None}, indent=1)
            (FOLDER / f"{name}.json").write_text(text + "\n")
            save_file(
                {key: value.contiguous() for key, value in head.items()}, FOLDER / f"{name}.safetensors"
            )
    save_file(kept, FOLDER / "logits.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    main()
