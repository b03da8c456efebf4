"""Saves classifiers with transformers, and loads exported classifiers with transformers.

    python there_models.py make FOLDER      makes a random classifier of each kind and saves its logits
    python there_models.py answer FOLDER    loads the exported classifiers and saves their logits and scores

`with_transformers.py` runs both with the Python of transformers and `reference` on PYTHONPATH. keras-peft is
not needed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import make_classifiers
import tokenizers
import torch
import transformers
from safetensors.torch import save_file

MOST = 32


def make(folder: Path) -> None:
    """Saves each classifier with the tokenizer of its encoder, as save_pretrained does."""
    logits = {}
    texts = json.loads((folder / "texts.json").read_text())
    cases = json.loads((folder / "cases.json").read_text())
    for architecture in make_classifiers.ARCHITECTURES:
        encoder = make_classifiers.HERE / architecture
        for number, (task, (ending, settings)) in enumerate(make_classifiers.TASKS.items()):
            name = f"{architecture}_{task}"
            if name not in cases:
                continue
            backend = tokenizers.Tokenizer.from_file(str(encoder / "tokenizer.json"))
            if architecture == "roberta" and task == "words":  # RoBERTa requires this for words.
                backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
            tokenizer = transformers.PreTrainedTokenizerFast(
                tokenizer_object=backend,
                pad_token="<pad>" if architecture == "roberta" else "[PAD]",
                model_input_names=["input_ids", "attention_mask"],
                model_max_length=MOST,
            )
            auto = getattr(transformers, f"AutoModelFor{ending}")
            model = auto.from_pretrained(encoder, dtype=torch.float32, **settings).eval()
            make_classifiers.spread(model, 100 + number)
            model.save_pretrained(folder / "there" / name)
            tokenizer.save_pretrained(folder / "there" / name)
            logits |= asked(model, tokenizer, texts, name)
    save_file(logits, folder / "there.safetensors")


def asked(
    model: torch.nn.Module, tokenizer: transformers.PreTrainedTokenizerBase, texts: list[str], name: str
) -> dict[str, torch.Tensor]:
    """Returns the logits of texts, or of the first tokens of their words."""
    words = "ForTokenClassification" in type(model).__name__
    given = [text.split() for text in texts] if words else texts
    batch = tokenizer(given, is_split_into_words=words, truncation=True, padding=True, return_tensors="pt")
    logits = model(**batch).logits
    if not words:
        return {name: logits}
    found = {}
    for row, text in enumerate(given):
        owners = batch.word_ids(row)
        places = [owners.index(word) for word in range(len(text)) if word in owners]
        found[f"{name}/{row}"] = logits[row, places]
    return found


def answer(folder: Path) -> None:
    """Loads each exported classifier by its path only, as a user does."""
    logits, said = {}, {}
    texts = json.loads((folder / "texts.json").read_text())
    for path in sorted((folder / "exported").iterdir()):
        config = json.loads((path / "config.json").read_text())
        ending = config["architectures"][0].partition("For")[2]
        model = getattr(transformers, f"AutoModelFor{ending}").from_pretrained(path).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        logits |= asked(model, tokenizer, texts, path.name)
        if ending == "SequenceClassification":
            classifier = transformers.pipeline("text-classification", str(path), truncation=True, top_k=None)
            said[path.name] = [
                {one["label"]: one["score"] for one in (row if isinstance(row, list) else [row])}
                for row in classifier(texts)
            ]
    save_file(logits, folder / "answers.safetensors")
    (folder / "said.json").write_text(json.dumps(said))


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    {"make": make, "answer": answer}[sys.argv[1]](Path(sys.argv[2]))
    versions = {module.__name__: module.__version__ for module in (transformers, torch)}
    (Path(sys.argv[2]) / "versions.json").write_text(json.dumps(versions))
