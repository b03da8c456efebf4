"""Makes the stored reference files with transformers; the tests do not need it.

    python -m venv /tmp/reference && /tmp/reference/bin/pip install torch transformers
    /tmp/reference/bin/python tests/reference/make.py FOLDER_OF_MINILM

Writes to the folder of this file: `distilbert/`, `bert/` and `roberta/`, tiny random checkpoints in the
format of transformers, and `outputs.safetensors` with the outputs of transformers for these checkpoints, the
default base, and for `bert/` with other activations. An existing tokenizer is kept, because training one
orders equally frequent tokens randomly.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer, Tokenizer
from tokenizers.processors import BertProcessing, RobertaProcessing
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    RobertaConfig,
    RobertaModel,
)

HERE = Path(__file__).parent
TEXTS = [row["text"] for row in map(json.loads, (HERE / "../../examples/conversations.jsonl").open())]
SIZES = {"vocab_size": 600, "max_position_embeddings": 64}
BERT = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 32}
ACTIVATIONS = ("gelu_new", "relu", "silu")


def word_pieces() -> Tokenizer:
    made = BertWordPieceTokenizer(lowercase=True)
    made.train_from_iterator(TEXTS, vocab_size=SIZES["vocab_size"], min_frequency=1, show_progress=False)
    cls, sep = made.token_to_id("[CLS]"), made.token_to_id("[SEP]")
    made._tokenizer.post_processor = BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    return made._tokenizer


def byte_pairs() -> Tokenizer:
    made = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made.train_from_iterator(
        TEXTS, vocab_size=SIZES["vocab_size"], special_tokens=special, show_progress=False
    )
    ends = [(token, made.token_to_id(token)) for token in ("</s>", "<s>")]
    made._tokenizer.post_processor = RobertaProcessing(*ends, add_prefix_space=False)
    return made._tokenizer


def batch(made: Tokenizer, texts: list[str], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    pad = next(token for token in ("<pad>", "[PAD]") if made.token_to_id(token) is not None)
    made.enable_padding(pad_id=made.token_to_id(pad), pad_token=pad, length=length)
    made.enable_truncation(length)
    encodings = made.encode_batch(texts)
    return torch.tensor([e.ids for e in encodings]), torch.tensor([e.attention_mask for e in encodings])


def spread(model: torch.nn.Module) -> None:
    """Draws random weights large enough that every part of the model affects the output."""
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
        "bert": BertModel(BertConfig(**BERT, **SIZES)),
        # The epsilon of its norms is large enough to affect the output.
        "roberta": RobertaModel(
            RobertaConfig(
                **BERT, **(SIZES | {"max_position_embeddings": 66}), type_vocab_size=1, layer_norm_eps=1e-2
            )
        ),
    }
    for name, model in tiny.items():
        folder = HERE / name
        spread(model)
        model.eval().save_pretrained(folder)
        path = folder / "tokenizer.json"
        if not path.is_file():
            (byte_pairs if name == "roberta" else word_pieces)().save(str(path), pretty=False)
        ids, mask = batch(Tokenizer.from_file(str(path)), TEXTS[:4], 32)
        with torch.inference_mode():
            outputs[name] = model(input_ids=ids, attention_mask=mask).last_hidden_state
        outputs[f"{name}.ids"], outputs[f"{name}.mask"] = ids.int(), mask.int()
    for activation in ACTIVATIONS:
        model = BertModel.from_pretrained(HERE / "bert", hidden_act=activation).eval()
        ids, mask = outputs["bert.ids"][:1], outputs["bert.mask"][:1]
        with torch.inference_mode():
            outputs[f"bert, {activation}"] = model(input_ids=ids, attention_mask=mask).last_hidden_state
    model = BertModel.from_pretrained(minilm).eval()
    made = BertWordPieceTokenizer(str(minilm / "vocab.txt"), lowercase=True)
    ids, mask = batch(made._tokenizer, TEXTS[:4], 64)
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
