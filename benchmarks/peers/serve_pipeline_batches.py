"""Peer: `transformers.pipeline` behind FastAPI, with a queue that passes all waiting texts to one call.

python benchmarks/peers/serve_pipeline_batches.py --model FOLDER --port PORT
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fastapi
import transformers
from serving import Batches, Body, Setting, classifier, parse, serve


def application(setting: Setting) -> fastapi.FastAPI:
    """Creates the application."""
    model, tokenizer = classifier(setting)
    pipeline = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)

    def call(bodies: Sequence[Body]) -> list[Any]:
        texts = [body.inputs for body in bodies]
        return pipeline(texts, batch_size=len(texts), truncation=True, max_length=setting.max_length)

    batches = Batches(call, setting)
    app = fastapi.FastAPI()

    @app.post("/predict")
    async def predict(body: Body) -> list[dict[str, Any]]:
        return await batches.answer(body)

    return app


if __name__ == "__main__":
    chosen = parse(__doc__)
    serve(application(chosen), chosen)
