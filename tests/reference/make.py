"""Makes the stored reference files with transformers, which the tests do not need.

    python -m venv /tmp/reference && /tmp/reference/bin/pip install torch transformers
    /tmp/reference/bin/python tests/reference/make.py FOLDER_OF_MINILM

Writes beside this file: `distilbert/` and `bert/`, tiny random checkpoints as
transformers saves them, and `outputs.safetensors` with what transformers
computes from them and from the default base.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import BertWordPieceTokenizer
from tokenizers.processors import BertProcessing
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

HERE = Path(__file__).parent
TEXTS = [row["text"] for row in map(json.loads, (HERE / "../../examples/conversations.jsonl").open())]
SIZES = {"vocab_size": 600, "max_position_embeddings": 64}


def tokenizer(folder: Path) -> BertWordPieceTokenizer:
    made = BertWordPieceTokenizer(lowercase=True)
    made.train_from_iterator(TEXTS, vocab_size=SIZES["vocab_size"], min_frequency=1, show_progress=False)
    cls, sep = made.token_to_id("[CLS]"), made.token_to_id("[SEP]")
    made._tokenizer.post_processor = BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    made.save(str(folder / "tokenizer.json"), pretty=False)
    return made


def batch(made: BertWordPieceTokenizer, texts: list[str], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    made.enable_padding(length=length)
    made.enable_truncation(length)
    encodings = made.encode_batch(texts)
    return torch.tensor([e.ids for e in encodings]), torch.tensor([e.attention_mask for e in encodings])


def spread(model: torch.nn.Module) -> None:
    """Random weights large enough that every part of the model shows in the output."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
            if "orm.weight" in name:
                parameter.add_(1.0)


def main(minilm: Path) -> None:
    outputs = {}
    tiny = {
        "distilbert": DistilBertModel(
            DistilBertConfig(dim=16, n_heads=2, n_layers=3, hidden_dim=32, **SIZES)
        ),
        "bert": BertModel(
            BertConfig(
                hidden_size=16, num_attention_heads=2, num_hidden_layers=3, intermediate_size=32, **SIZES
            )
        ),
    }
    for name, model in tiny.items():
        folder = HERE / name
        spread(model)
        model.eval().save_pretrained(folder)
        ids, mask = batch(tokenizer(folder), TEXTS[:4], 32)
        with torch.inference_mode():
            outputs[name] = model(input_ids=ids, attention_mask=mask).last_hidden_state
        outputs[f"{name}.ids"], outputs[f"{name}.mask"] = ids.int(), mask.int()
    model = BertModel.from_pretrained(minilm).eval()
    made = BertWordPieceTokenizer(str(minilm / "vocab.txt"), lowercase=True)
    ids, mask = batch(made, TEXTS[:4], 64)
    with torch.inference_mode():
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    outputs["minilm"], outputs["minilm.ids"], outputs["minilm.mask"] = (
        hidden[:, :3].clone(),
        ids.int(),
        mask.int(),
    )
    save_file({name: tensor.contiguous() for name, tensor in outputs.items()}, HERE / "outputs.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
