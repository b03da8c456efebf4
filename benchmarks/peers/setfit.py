"""Peer: SetFit, which trains the encoder on pairs of texts and then a logistic regression, on PyTorch.

    python benchmarks/peers/setfit.py --model FOLDER --train FILE --test FILE

All settings are SetFit's defaults. Prints one line of JSON.
"""

from __future__ import annotations

import os
import sys
import time

# This file has the name of the library.
sys.path.append(sys.path.pop(0))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import datasets
from setfit import SetFitModel, Trainer, TrainingArguments
from task import parse, read, tell


def main() -> None:
    """Trains, evaluates and prints."""
    task = parse(__doc__)
    train, test, labels = read(task)
    datasets.disable_progress_bars()
    began = time.perf_counter()
    model = SetFitModel.from_pretrained(str(task.model))
    arguments = TrainingArguments(
        output_dir=str(task.train.parent / "setfit"),
        seed=task.seed,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        show_progress_bar=False,
    )
    rows = datasets.Dataset.from_dict({"text": train.texts, "label": train.targets})
    Trainer(model=model, args=arguments, train_dataset=rows).train()
    seconds = time.perf_counter() - began
    predicted = [int(label) for label in model.predict(test.texts)]
    trained = sum(parameter.numel() for parameter in model.model_body.parameters())
    tell(
        epoch_seconds=[seconds],
        predicted=predicted,
        test=test,
        trainable_parameters=trained + 385 * len(labels),
    )


if __name__ == "__main__":
    main()
