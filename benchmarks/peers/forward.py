"""Peer: times forward passes of a classifier of transformers on PyTorch; see benchmarks/exports/forward.py.

python benchmarks/peers/forward.py --model FOLDER --texts FILE --threads N
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

SHAPES = ((1, 20), (8, 20), (16, 64))
SECONDS = 1.5
ALONE = 150
ROWS = 16


def least(call) -> float:
    """Calls a function repeatedly and returns the least milliseconds."""
    call()
    best, until = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return 1000 * best


def main() -> None:
    """Reads the command line and prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = AutoModelForSequenceClassification.from_pretrained(options.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    texts = [json.loads(line)["text"] for line in options.texts.read_text(encoding="utf-8").splitlines()]

    def run(some: list[str]) -> None:
        inputs = tokenizer(some, padding=True, truncation=True, max_length=128, return_tensors="pt")
        model(**inputs)

    def run_all() -> None:
        ordered = sorted(texts, key=len)
        for start in range(0, len(ordered), ROWS):
            run(ordered[start : start + ROWS])

    found = {}
    with torch.inference_mode():
        for rows, length in SHAPES:
            ids = torch.randint(1000, 20_000, (rows, length))
            mask = torch.ones_like(ids)
            found[f"{rows}x{length}"] = least(
                lambda ids=ids, mask=mask: model(input_ids=ids, attention_mask=mask)
            )
        found["texts_per_second"] = 1000 * len(texts) / least(run_all)
        some = texts[:ALONE]
        found["alone_per_second"] = 1000 * len(some) / least(lambda: [run([one]) for one in some])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
