"""Makes the stored heads for masked tokens with transformers; the tests do not need it.

    /tmp/reference/bin/python tests/reference/make_masked.py

Writes `masked.safetensors`: random heads for the tiny checkpoints in the folder of this file, by Hugging
Face's names of their tensors, and the logits of transformers for a few tokens. make.py says how to install it.
"""

from pathlib import Path

import torch
from make import HERE
from safetensors.torch import save_file
from transformers import BertForMaskedLM, DistilBertForMaskedLM, RobertaForMaskedLM

CLASSES = {"distilbert": DistilBertForMaskedLM, "bert": BertForMaskedLM, "roberta": RobertaForMaskedLM}
IDS = [[2, 17, 101, 4, 33, 250, 599, 3]]


def main(folder: Path) -> None:
    stored = {"ids": torch.tensor(IDS, dtype=torch.int32)}
    for name, kind in CLASSES.items():
        model = kind.from_pretrained(folder / name).eval()
        own = {key: value for key, value in model.state_dict().items() if not key.startswith(f"{name}.")}
        # The logits' matrix is the token embedding.
        head = {
            key: value for key, value in own.items() if "decoder" not in key and "projector.weight" not in key
        }
        generator = torch.Generator().manual_seed(2)
        for value in head.values():
            with torch.no_grad():
                value.copy_(0.4 * torch.randn(value.shape, generator=generator))
        with torch.inference_mode():
            stored[f"{name}.logits"] = model(input_ids=torch.tensor(IDS)).logits
        stored |= {f"{name}/{key}": value for key, value in head.items()}
    save_file(
        {key: value.contiguous().clone() for key, value in stored.items()}, folder / "masked.safetensors"
    )


if __name__ == "__main__":
    main(HERE)
