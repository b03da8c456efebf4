"""The model card of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_peft import sources, tasks
from keras_peft.tasks import metric_name
from keras_peft.templating import cards

_MOST_LABELS = 100


def as_model_card(report: Mapping[str, Any], name: str) -> str:
    """Renders the model card, with the metrics in Hugging Face's metadata format.

    Args:
        report: Content of report.json.
        name: Name of the bundle.

    Returns:
        The card, in Markdown.
    """
    task = tasks.find(report["task"])
    metrics = {metric_name(key): value for key, value in report["validation"]["metrics"].items()}
    return (
        cards()
        .get_template("model_card.md")
        .render(
            report=report,
            name=name,
            task=task,
            metrics=metrics,
            most_labels=_MOST_LABELS,
            repository=sources.repository_of(report["base"]["name"]),
        )
    )
