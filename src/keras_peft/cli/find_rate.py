"""keras-peft find-rate: suggests a learning rate for labelled text and settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_peft.cli.flags import with_flags
from keras_peft.data.readers import READABLE
from keras_peft.training.rates import HIGHEST, LOWEST, STEPS, WITHOUT

if TYPE_CHECKING:
    from keras_peft.training.rates import RateSearch

# Number of lines of the chart, and the length of its longest bar in characters.
_LINES, _WIDTH = 20, 40


def make(method_name: str, settings: Mapping[str, Any]) -> Callable[..., None]:
    """Creates the command with the flags of a method; see `with_flags`."""
    return with_flags(find_rate, method_name, settings, without=WITHOUT)


def find_rate(
    data: Annotated[Path, typer.Argument(help=f"A {READABLE}.", show_default=False)],
    *,
    method: Any,
    lowest: Annotated[float, typer.Option(help="Learning rate of the first step.")] = LOWEST,
    highest: Annotated[
        float, typer.Option(help="Learning rate of the last step; the search may stop earlier.")
    ] = HIGHEST,
    steps: Annotated[int, typer.Option(help="Number of steps.")] = STEPS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
    **settings: Any,
) -> None:
    """Suggest a learning rate from a short training run with a rising rate."""
    from keras_peft.cli.console import ConsoleProgress, out, print_json, table
    from keras_peft.sources import is_preset
    from keras_peft.training.rates import find_rate as run

    found = run(
        data,
        method=method,
        lowest=lowest,
        highest=highest,
        steps=steps,
        progress=ConsoleProgress(presets=is_preset(settings["base"]), options=settings),
        **settings,
    )
    if as_json:
        print_json(found.to_json())
        return
    out.print(table(f"{data}: loss by learning rate", ("rate", "", "loss"), _chart(found), left=2))
    out.print(
        f"Suggested: --learning-rate {found.suggestion:g}; the default of {method.name} is {method.learning_rate:g}.",
        soft_wrap=True,
    )


def _chart(found: RateSearch) -> Iterator[tuple[str, str, str]]:
    """Draws the loss at some of the rates, and marks the rate closest to the suggestion."""
    places = sorted({round(place * (len(found.rates) - 1) / (_LINES - 1)) for place in range(_LINES)})
    nearest = min(places, key=lambda place: abs(found.rates[place] / found.suggestion - 1))
    most = max(found.losses[place] for place in places)
    for place in places:
        bar = "█" * round(_WIDTH * found.losses[place] / most)
        mark = " ←" if place == nearest else ""
        yield f"{found.rates[place]:.1e}", bar + mark, f"{found.losses[place]:.3f}"
