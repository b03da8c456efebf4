"""Peer: `transformers.pipeline` behind FastAPI, one call for each request.

    python benchmarks/peers/serve_pipeline.py --model FOLDER --port PORT

As in the guides, the handler is a plain function, which FastAPI runs in a thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
import fastapi
import transformers
from serving import Body, Setting, classifier, parse, serve


def application(setting: Setting) -> fastapi.FastAPI:
    """Creates the application."""
    model, tokenizer = classifier(setting)
    pipeline = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)

    @asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
        # More concurrent calls than cores only take turns; FastAPI's default is 40.
        anyio.to_thread.current_default_thread_limiter().total_tokens = setting.at_once
        yield

    app = fastapi.FastAPI(lifespan=lifespan)

    @app.post("/predict")
    def predict(body: Body) -> list[dict[str, Any]]:
        return pipeline([body.inputs], truncation=True, max_length=setting.max_length)[0]

    return app


if __name__ == "__main__":
    chosen = parse(__doc__)
    serve(application(chosen), chosen)
