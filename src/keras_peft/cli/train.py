"""keras-peft train: labelled text in, verified bundle out."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from keras_peft import methods, tasks, tracking
from keras_peft.cli.config import check as check_settings
from keras_peft.core.selection import ROLES
from keras_peft.errors import OptionError
from keras_peft.job import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_LABEL_SMOOTHING,
    DEFAULT_MAX_LENGTH,
    DEFAULT_METHOD,
    DEFAULT_VALIDATION,
)
from keras_peft.readers import READABLE


def make(method_name: str, settings: Mapping[str, Any] = MappingProxyType({})) -> Callable[..., None]:
    """Makes the command with the flags of one method, which are the fields of its class.

    Args:
        method_name: The method.
        settings: What a file says of the flags.

    Raises:
        OptionError: If there is no method of that name, or no flag of a name in the file.
    """
    method = methods.find(method_name)
    fields = [field for field in dataclasses.fields(method) if field.metadata["flag"]]

    def command(**values: Any) -> None:
        options = {field.name: values.pop(field.name) for field in fields}
        values.pop("method")
        values.pop("config")
        given = {name: value for name, value in options.items() if value is not None}
        try:
            chosen = method.from_options(given)
        except OptionError as error:  # It speaks Python's names.
            raise OptionError(_in_flags(str(error), [field.name for field in fields])) from error
        train(method=chosen, **values)

    signature = inspect.signature(train, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "method"]
    chooser = inspect.Parameter(
        "method",
        inspect.Parameter.KEYWORD_ONLY,
        default=DEFAULT_METHOD,
        annotation=Annotated[str, typer.Option(help=f"One of: {', '.join(methods.names())}.")],
    )
    file = inspect.Parameter(
        "config",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            Path | None,
            typer.Option(
                help="A .toml file with any of these flags, such as a bundle's run.toml; flags win."
            ),
        ],
    )
    parameters = [*own, chooser, file, *(_flag(method, field) for field in fields)]
    check_settings(dict(settings), (one.name for one in parameters if one.name != "config"))
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__doc__ = train.__doc__
    return command


def train(
    data: Annotated[Path, typer.Argument(help=f"A {READABLE}.", show_default=False)],
    *,
    method: Any,
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write.", show_default=False)],
    task: Annotated[
        str | None,
        typer.Option(
            help=f"What the labels are: {', '.join(tasks.names())}.", show_default="read from the columns"
        ),
    ] = None,
    base: Annotated[
        str, typer.Option(help="minilm, a folder, hf://owner/name, or a KerasHub preset.")
    ] = "minilm",
    layers: Annotated[
        str | None,
        typer.Option(
            help="Blocks to train in: last:2, first:2, all, or numbers such as 4,5.",
            show_default="the method's",
        ),
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            help="Roles, separated by commas, or a regular expression on paths.", show_default="the method's"
        ),
    ] = None,
    validation: Annotated[
        str, typer.Option(help="Share of the rows to validate on, or a file with such rows.")
    ] = str(DEFAULT_VALIDATION),
    epochs: Annotated[
        int | None, typer.Option(help="Times to see all rows.", show_default="about 600 steps")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Rows in a batch.")] = DEFAULT_BATCH_SIZE,
    gradient_accumulation: Annotated[
        int, typer.Option(help="Batches that make one step together, for less memory.")
    ] = 1,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="The highest in the schedule; the head's goes along.", show_default="the method's"),
    ] = None,
    label_smoothing: Annotated[
        float, typer.Option(help="Share of each target that is spread over all labels.")
    ] = DEFAULT_LABEL_SMOOTHING,
    class_weights: Annotated[
        bool, typer.Option("--class-weights", help="Let rare labels count as much as frequent ones.")
    ] = False,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop after so many epochs without a better validation score, and keep the best.",
            show_default="train all epochs",
        ),
    ] = None,
    abstain_below: Annotated[
        float | None,
        typer.Option(
            help="Say nothing where unsure: the share of answers on the validation rows that shall be right.",
            show_default="always answer",
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            help="Most tokens of a text.", show_default=f"{DEFAULT_MAX_LENGTH}, or the base's limit"
        ),
    ] = None,
    long_text: Annotated[
        str, typer.Option(help="What to do with longer texts: cut, or window, which reads them in parts.")
    ] = "cut",
    seed: Annotated[int, typer.Option(help="The same seed gives the same result on one machine.")] = 0,
    text_column: Annotated[
        str | None,
        typer.Option(
            help="Column with the texts; two with a comma between are a pair.",
            show_default="text, text_a,text_b or tokens",
        ),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column with the labels.", show_default="label, labels or tags")
    ] = None,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave out rows that cannot be used.")
    ] = False,
    trunk_cache: Annotated[
        bool,
        typer.Option(
            "--trunk-cache/--no-trunk-cache",
            help="Compute the frozen blocks once for each text, not in every step.",
        ),
    ] = True,
    frozen_precision: Annotated[
        str,
        typer.Option(
            help="What frozen matrices multiply in while training: float32, bfloat16, or auto, which is bfloat16 "
            "on processors made for it."
        ),
    ] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that is there.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training that was interrupted.")
    ] = False,
    track: Annotated[
        str,
        typer.Option(
            help=f"Where to write the training down: {', '.join(tracking.names())}, several with commas, or none."
        ),
    ] = tracking.DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Fine-tune a classifier on labelled text and write it as a bundle."""
    from keras_peft.cli.console import ConsoleProgress, print_json, scores_table
    from keras_peft.cli.console import out as stdout
    from keras_peft.job import fine_tune
    from keras_peft.sources import is_preset

    result = fine_tune(
        data,
        out=out,
        task=task,
        base=base,
        method=method,
        layers=layers,
        targets=_targets(targets) if targets else None,
        validation=_share_or_file(validation),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        label_smoothing=label_smoothing,
        class_weights=class_weights,
        gradient_accumulation=gradient_accumulation,
        patience=patience,
        abstain_below=abstain_below,
        max_length=max_length,
        long_text=long_text,
        seed=seed,
        text_column=text_column,
        label_column=label_column,
        skip_bad_rows=skip_bad_rows,
        trunk_cache=trunk_cache,
        frozen_precision=frozen_precision,
        overwrite=overwrite,
        resume=resume,
        track=_trackers(track),
        progress=ConsoleProgress(presets=is_preset(base)),
    )
    if as_json:
        print_json(result.to_json())
        return
    report = result.report
    seconds = report["seconds"]
    stdout.print(
        scores_table(f"{out}: scores on {report['validation']['rows']} validation rows", report["validation"])
    )
    stdout.print(
        f"Trained in {seconds['train']:.0f} s of {seconds['total']:.0f} s, peak memory {report['peak_rss_mb']} MB. "
        f"Report: {out / 'report.html'}",
        soft_wrap=True,
    )
    stdout.print(f'Try it: keras-peft predict {out} "a text"', soft_wrap=True)


def _flag(method: type, field: dataclasses.Field[Any]) -> inspect.Parameter:
    kind = typing.get_type_hints(method)[field.name]
    names = [f"--{field.name.replace('_', '-')}"]
    if kind is bool:
        kind, default = bool | None, "off" if not field.default else "on"
        names = [f"{names[0]}/--no-{names[0][2:]}"]
    else:
        kind, default = kind | None, "none" if field.default is None else str(field.default)
    option = typer.Option(
        *names,
        help=f"{field.metadata['help'][0].upper()}{field.metadata['help'][1:]}.",
        show_default=default,
        rich_help_panel=f"Options of {method.name}",  # type: ignore[attr-defined]
    )
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option]
    )


def _in_flags(message: str, names: Iterable[str]) -> str:
    """Writes options as flags."""
    for name in names:
        message = re.sub(
            rf"\b{name}\b(?= must)|(?<=at least ){name}\b", f"--{name.replace('_', '-')}", message
        )
    return message


def _targets(value: str) -> list[str]:
    """Splits at commas where what they separate are roles; an expression may hold commas."""
    parts = [part.strip() for part in value.split(",")]
    return parts if any(part in ROLES for part in parts) else [value]


def _trackers(value: str) -> list[str] | None:
    """Splits at commas; what is the default is left to each backend."""
    chosen = [part.strip() for part in value.split(",") if part.strip()]
    return None if chosen == [tracking.DEFAULT] else [] if chosen == [tracking.NONE] else chosen


def _share_or_file(value: str) -> float | Path:
    try:
        return float(value)
    except ValueError:
        return Path(value)
