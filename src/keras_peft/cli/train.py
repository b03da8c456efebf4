"""keras-peft train: trains on labelled text and writes a verified bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_peft.cli.arguments import Place
from keras_peft.cli.flags import with_flags
from keras_peft.data.readers import READABLE
from keras_peft.places import MACHINE
from keras_peft.training import tracking
from keras_peft.training.distributed.environment import HEARTBEAT, place


def make(method_name: str, settings: Mapping[str, Any]) -> Callable[..., None]:
    """Creates the command with the flags of a method; see `with_flags`."""
    return with_flags(train, method_name, settings)


def train(
    data: Annotated[Path, typer.Argument(help=f"A {READABLE}.", show_default=False)],
    *,
    method: Any,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder to write the bundle to: adapter, head, tokenizer, labels and report.",
            show_default=False,
        ),
    ],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Resume an interrupted training run.")] = False,
    track: Annotated[
        str,
        typer.Option(
            help=f"Trackers to log to, separated by commas: {', '.join(tracking.names())}; or none."
        ),
    ] = tracking.DEFAULT,
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed",
            help="Train together with other processes, which srun, mpirun or environment variables start on one "
            "machine or several; on the JAX backend.",
        ),
    ] = False,
    heartbeat: Annotated[
        int,
        typer.Option(help="Seconds without a sign of life after which another process counts as lost."),
    ] = HEARTBEAT,
    on: Place = MACHINE,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of processes that train together on Ray.", show_default="1"),
    ] = None,
    gpus: Annotated[int, typer.Option(metavar="N", help="Number of GPUs of each process on Ray.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
    **settings: Any,
) -> None:
    """Fine-tune a classifier on labelled text and write it as a bundle, a folder that other commands read."""
    from keras_peft.cli.console import ConsoleProgress, print_json, scores_table
    from keras_peft.cli.console import out as stdout
    from keras_peft.sources import is_preset
    from keras_peft.training.fine_tune import fine_tune

    result = fine_tune(
        data,
        out=out,
        method=method,
        overwrite=overwrite,
        resume=resume,
        track=_trackers(track),
        distributed=distributed,
        heartbeat=heartbeat,
        on=on,
        workers=workers,
        gpus=gpus,
        progress=ConsoleProgress(presets=is_preset(settings["base"]), options={"resume", "gpus", *settings}),
        **settings,
    )
    if distributed and place().rank:
        return  # The first process says it for all.
    if as_json:
        print_json(result.to_json())
        return
    report = result.report
    seconds = report["seconds"]
    folds = report["data"]["folds"]
    rows = f"{report['validation']['rows']} {'rows in' if folds else 'validation rows'}"
    stdout.print(
        scores_table(
            f"{out}: scores on {rows}{f' {folds} folds' if folds else ''}",
            report["validation"],
            report["baseline"],
        )
    )
    stdout.print(
        f"Trained in {seconds['train']:.0f} s ({seconds['total']:.0f} s in total), peak memory "
        f"{report['peak_rss_mb']} MB. Report: {out / 'report.html'}",
        soft_wrap=True,
    )
    stdout.print(f'Try it: keras-peft predict {out} "a text"', soft_wrap=True)


def _trackers(value: str) -> list[str] | None:
    """Splits at commas. The default becomes None, which lets the backend decide."""
    chosen = [part.strip() for part in value.split(",") if part.strip()]
    return None if chosen == [tracking.DEFAULT] else [] if chosen == [tracking.NONE] else chosen
