"""keras-peft cross-validate: estimates the quality of settings on labelled text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_peft.cli.flags import with_flags
from keras_peft.data.readers import READABLE
from keras_peft.training.folds import WITHOUT


def make(method_name: str, settings: Mapping[str, Any]) -> Callable[..., None]:
    """Creates the command with the flags of a method; see `with_flags`."""
    return with_flags(cross_validate, method_name, settings, without=WITHOUT)


def cross_validate(
    data: Annotated[Path, typer.Argument(help=f"A {READABLE}.", show_default=False)],
    *,
    method: Any,
    folds: Annotated[int, typer.Option(help="Number of folds; each is held out once.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
    **settings: Any,
) -> None:
    """Score settings by cross-validation."""
    from keras_peft.cli.console import ConsoleProgress, out, print_json, table
    from keras_peft.sources import is_preset
    from keras_peft.tasks import metric_name
    from keras_peft.training.folds import cross_validate as run

    result = run(
        data,
        folds=folds,
        method=method,
        progress=ConsoleProgress(presets=is_preset(settings["base"]), options=settings),
        **settings,
    )
    if as_json:
        print_json(result.to_json())
        return
    summary = result.summary()
    made = table(
        f"{data}: {folds} folds",
        ("fold", *map(metric_name, summary)),
        (
            (str(number), *(f"{one.metrics[key]:.3f}" for key in summary))
            for number, one in enumerate(result.folds, 1)
        ),
    )
    made.add_section()
    made.add_row("mean ± std", *(f"{mean:.3f} ± {deviation:.3f}" for mean, deviation in summary.values()))
    out.print(made)
