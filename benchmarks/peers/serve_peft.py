"""Peer: many LoRA adapters in one batch with HF PEFT's `adapter_names`, behind FastAPI.

    python benchmarks/peers/serve_peft.py --model FOLDER --port PORT --adapters 64

A call of PEFT accepts rows of different adapters, so a queue calls it with all waiting rows. Only one call
runs at a time, since PEFT sets the adapter names on the model during a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fastapi
import peft
import torch
from serving import LABELS, Batches, Body, Setting, classifier, parse, serve

RANK = 8
BLOCKS = 2


def name_of(number: int) -> str:
    """Returns the name of an adapter in the requests."""
    return f"lora-{number:02d}"


def adapted(base: Any, setting: Setting) -> peft.PeftModel:
    """Adds the given number of LoRA adapters to the base, each with its own weights and head."""
    count = base.config.num_hidden_layers
    config = peft.LoraConfig(
        task_type=peft.TaskType.SEQ_CLS,
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=["query", "value"],
        layers_to_transform=list(range(count - BLOCKS, count)),
        layers_pattern="layer",
        # Random initial weights, so that the adapters differ.
        init_lora_weights=False,
    )
    model = peft.get_peft_model(base, config, adapter_name=name_of(0))
    for number in range(1, setting.adapters):
        model.add_adapter(name_of(number), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "classifier.modules_to_save" in name:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def application(setting: Setting) -> fastapi.FastAPI:
    """Creates the application."""
    base, tokenizer = classifier(setting)
    model = adapted(base, setting)

    def call(bodies: Sequence[Body]) -> list[Any]:
        tokens = tokenizer(
            [body.inputs for body in bodies],
            padding=True,
            truncation=True,
            max_length=setting.max_length,
            return_tensors="pt",
        )
        with torch.inference_mode():
            logits = model(**tokens, adapter_names=[body.adapter_id for body in bodies]).logits
        return [
            sorted(
                ({"label": label, "score": score} for label, score in zip(LABELS, scores, strict=True)),
                key=lambda one: -one["score"],
            )
            for scores in logits.float().softmax(-1).tolist()
        ]

    batches = Batches(call, setting)
    app = fastapi.FastAPI()

    @app.post("/predict")
    async def predict(body: Body) -> list[dict[str, Any]]:
        return await batches.answer(body)

    return app


if __name__ == "__main__":
    chosen = parse(__doc__)
    serve(application(chosen), chosen)
