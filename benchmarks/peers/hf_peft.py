"""Peer: LoRA with Hugging Face PEFT and transformers, on PyTorch.

    python benchmarks/peers/hf_peft.py --model FOLDER --train FILE --test FILE

The training loop of their guides: each batch padded to its longest text, AdamW
over the trainable parameters, and the sequence classifier of transformers with its
own head and dropout. Prints one line of JSON.
"""

from __future__ import annotations

import time

import peft
import torch
import transformers
from task import Rows, parse, read, tell
from torch.utils.data import DataLoader

SCORED_AT_ONCE = 64


def encode(tokenizer, rows: Rows, max_length: int) -> list[dict]:
    """Encodes texts as token ids, each of its own length."""
    tokens = tokenizer(rows.texts, truncation=True, max_length=max_length)
    return [
        {**{name: values[row] for name, values in tokens.items()}, "labels": target}
        for row, target in enumerate(rows.targets)
    ]


def main() -> None:
    """Trains, evaluates and prints."""
    task = parse(__doc__)
    torch.manual_seed(task.seed)
    train, test, labels = read(task)
    tokenizer = transformers.AutoTokenizer.from_pretrained(task.model)
    base = transformers.AutoModelForSequenceClassification.from_pretrained(task.model, num_labels=len(labels))
    lora = peft.LoraConfig(
        r=task.rank,
        lora_alpha=2 * task.rank,
        target_modules=["query", "value"],
        layers_to_transform=task.chosen_blocks(base.config.num_hidden_layers),
        layers_pattern="layer",
        modules_to_save=["classifier"],
    )
    model = peft.get_peft_model(base, lora).to(task.device)
    lowered = torch.autocast(task.device, torch.bfloat16, enabled=task.precision == "bfloat16")
    padded = transformers.DataCollatorWithPadding(tokenizer)
    training, scoring = (encode(tokenizer, rows, task.max_length) for rows in (train, test))
    batches = DataLoader(training, batch_size=task.batch_size, shuffle=True, collate_fn=padded)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=task.learning_rate)

    model.train()
    epoch_seconds = []
    for _ in range(task.epochs):
        began = time.perf_counter()
        for batch in batches:
            with lowered:
                loss = model(**batch.to(task.device)).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        if task.device == "cuda":  # which computes while Python goes on
            torch.cuda.synchronize()
        epoch_seconds.append(time.perf_counter() - began)

    model.eval()
    predicted: list[int] = []
    with torch.inference_mode(), lowered:
        for batch in DataLoader(scoring, batch_size=SCORED_AT_ONCE, collate_fn=padded):
            predicted += model(**batch.to(task.device)).logits.argmax(-1).tolist()
    tell(
        epoch_seconds=epoch_seconds,
        predicted=predicted,
        test=test,
        trainable_parameters=sum(parameter.numel() for parameter in trained),
    )


if __name__ == "__main__":
    main()
