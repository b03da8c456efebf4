"""The other side of with_setfit.py: SetFit and sentence-transformers load what was exported."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import sentence_transformers
import setfit
import torch
import transformers
from safetensors.numpy import save_file


def answer(folder: Path) -> None:
    """Loads each exported folder by its path only, as a user does."""
    texts = json.loads((folder / "texts.json").read_text())
    found = {}
    for path in sorted((folder / "exported").iterdir()):
        model = setfit.SetFitModel.from_pretrained(str(path))
        probabilities = np.asarray(model.predict_proba(texts), np.float32)
        assert [*model.predict(texts)] == [model.labels[row] for row in probabilities.argmax(1)], path
        encoder = sentence_transformers.SentenceTransformer(str(path), device="cpu")
        found[f"{path.name}/probabilities"] = probabilities
        found[f"{path.name}/vectors"] = np.asarray(encoder.encode(texts), np.float32)
    save_file(found, folder / "answers.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    {"answer": answer}[sys.argv[1]](Path(sys.argv[2]))
    versions = {module.__name__: module.__version__ for module in (setfit, sentence_transformers, torch)}
    (Path(sys.argv[2]) / "versions.json").write_text(json.dumps(versions))
