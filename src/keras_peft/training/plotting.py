"""Plots of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keras_peft.extras import need
from keras_peft.tasks import metric_name

if TYPE_CHECKING:
    import matplotlib.figure

# With more labels, their names overlap.
_MOST_LABELS = 30


def plot_report(report: Mapping[str, Any]) -> matplotlib.figure.Figure:
    """Plots the loss and the main score of each epoch, and the F1 of up to 30 labels, the lowest first.

    Args:
        report: Content of report.json.

    Returns:
        The figure, which is not shown by itself outside of notebooks.

    Raises:
        ExtraNotInstalled: If Matplotlib is not installed.
    """
    need("Plotting", "matplotlib")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    history, validation = report["history"], report["validation"]
    key = next(iter(validation["metrics"]))
    labels = sorted(validation["labels"].items(), key=lambda one: one[1]["f1"])[:_MOST_LABELS]
    figure = Figure(figsize=(12 if labels else 8, max(3.2, 0.28 * len(labels))), layout="constrained")
    axes = figure.subplots(1, 3 if labels else 2)
    epochs = [epoch["epoch"] for epoch in history]
    axes[0].plot(epochs, [epoch["loss"] for epoch in history], label="training")
    axes[0].plot(epochs, [epoch["validation_loss"] for epoch in history], "--", label="validation")
    axes[0].set(xlabel="epoch", ylabel="loss")
    axes[0].legend()
    axes[1].plot(epochs, [epoch[key] for epoch in history])
    if report.get("baseline"):
        value = report["baseline"]["metrics"][key]
        axes[1].axhline(value, color="grey", linestyle=":")
        axes[1].annotate(
            f"always {report['baseline']['answer']}",
            (epochs[0], value),
            color="grey",
            va="bottom",
            fontsize=8,
        )
    axes[1].set(xlabel="epoch", ylabel=f"validation {metric_name(key)}")
    for one in axes[:2]:
        one.xaxis.set_major_locator(MaxNLocator(integer=True))
    if labels:
        axes[2].barh([name for name, _ in labels], [scores["f1"] for _, scores in labels])
        axes[2].set(xlabel="validation F1", xlim=(0, 1))
    return figure
