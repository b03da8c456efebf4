"""keras-peft serve: serves bundles over HTTP."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_peft.cli.process import Interrupted, lenient_output, quiet_import
from keras_peft.cli.setting_flags import with_settings
from keras_peft.cli.wording import as_flags
from keras_peft.errors import KerasPeftError, OptionError
from keras_peft.places import MACHINE, RAY, check_place
from keras_peft.serve.settings import ServeSettings

if TYPE_CHECKING:
    from keras_peft.serve.adapter_record import AdapterStatus
    from keras_peft.serve.http.startup import StartupEvents

# Maximum number of adapter names in the line with the server's address.
_MOST_SHOWN = 8
# Time to end the threads of a server that has stopped, in seconds.
_PATIENCE = 5.0
_LOADERS = "keras-peft-loader"


def _serve(
    bundles: Annotated[
        list[Path],
        typer.Argument(
            help="A folder of bundles, which is watched for changes, or single bundles.", show_default=False
        ),
    ],
    *,
    on: Annotated[
        str,
        typer.Option(
            "--on",
            help="Where the server runs: machine, or ray for replicas on a Ray cluster, which is started here if there "
            "is none.",
            metavar="PLACE",
        ),
    ] = MACHINE,
    replicas: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of replicas on Ray.", show_default="1"),
    ] = None,
    max_replicas: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Largest number of replicas on Ray, which starts and ends them by the number of requests; --replicas "
            "is the smallest number.",
            show_default="--replicas",
        ),
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of cores of a replica on Ray.", show_default="1"),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="Number of GPUs of a replica on Ray, or its share of one, such as 0.5.",
            show_default="0",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write nothing but JSON lines, also while the server starts.")
    ] = False,
    settings: ServeSettings,
) -> None:
    """Serve bundles over HTTP, many on one base, and load and unload them at runtime."""
    from keras_peft.serve.http import logs, process

    given = {"replicas": replicas, "max_replicas": max_replicas, "cores": cores, "gpus": gpus}
    of_ray = {name: value for name, value in given.items() if value is not None}
    check_place(on)
    if on == RAY:
        _serve_on_ray(bundles, settings, of_ray, as_json=as_json)
        return
    if of_ray:
        raise OptionError(f"`{next(iter(of_ray))}` is for replicas on Ray; add `on='ray'`.")
    with lenient_output():
        if as_json:
            logs.configure()
        with _logged() if as_json else nullcontext(), _ending() as end:
            start = _silent_start() if as_json else _console_start()
            start.stopped = end.start  # type: ignore[method-assign]
            if not process.serve(bundles, settings, start):
                # Threads that are still computing would keep the process alive.
                sys.stdout.flush()
                os._exit(130)


def _serve_on_ray(
    bundles: list[Path], settings: ServeSettings, of_ray: dict[str, Any], *, as_json: bool
) -> None:
    from keras_peft.serve.http import logs
    from keras_peft.serve.on_ray import run
    from keras_peft.serve.on_ray.settings import RaySettings

    if as_json:
        logs.configure()
    with _logged() if as_json else nullcontext():
        start = _silent_start() if as_json else _console_start()
        run.serve(bundles, settings, RaySettings(**of_ray), start)


def make(configured: Mapping[str, Any]) -> Callable[..., None]:
    """Creates the command; see `with_settings`."""
    return with_settings(_serve, ServeSettings, configured=configured)


@contextmanager
def _ending() -> Iterator[threading.Timer]:
    """Yields a timer that ends a process whose threads hang, as Python would wait for them for ever."""
    timer = threading.Timer(_PATIENCE, os._exit, (0,))
    timer.daemon = True
    try:
        yield timer
    finally:
        if not any(thread.name.startswith(_LOADERS) for thread in threading.enumerate()):
            timer.cancel()


@contextmanager
def _logged() -> Iterator[None]:
    """Logs the errors and signals that end the start, which the command line would print as text."""
    from keras_peft.serve import events

    try:
        yield
    except (KerasPeftError, OSError) as error:
        options = [field.name for field in dataclasses.fields(ServeSettings)]
        events.log("start_failed", level=logging.CRITICAL, reason=as_flags(str(error), options))
        raise typer.Exit(2) from None
    except Interrupted as error:
        events.log("stopped", signal=error.signal, requests=0, complete=True)
        raise typer.Exit(130) from None


def _silent_start() -> StartupEvents:
    from keras_peft.serve.http.startup import StartupEvents

    # Its progress bars would not be JSON.
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

    class SilentStartup(StartupEvents):
        """Shows nothing: the log tells."""

        def importing(self, base: str) -> AbstractContextManager[None]:
            return _importing(base)

    return SilentStartup()


def _console_start() -> StartupEvents:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from keras_peft.cli.console import err, out
    from keras_peft.serve.http.startup import StartupEvents

    bars = Progress(
        TextColumn("Loading adapters"),
        BarColumn(),
        MofNCompleteColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )
    task = bars.add_task("", total=None)

    class ConsoleStartup(StartupEvents):
        """Shows the progress of the start on stderr and the server's address on stdout."""

        def stage(self, text: str) -> None:
            err.print(f"{text} …", style="dim", soft_wrap=True)

        def importing(self, base: str) -> AbstractContextManager[None]:
            return _importing(base)

        def loading(self, *, done: int, adapters: int) -> None:
            bars.start()
            bars.update(task, completed=done, total=adapters)

        def listening(self, address: str, adapters: Sequence[AdapterStatus], *, needs_key: bool) -> None:
            bars.stop()
            for one in adapters:
                if one.reason:
                    err.print(f"{one.name} is not served: {one.reason}", style="yellow", soft_wrap=True)
            out.print(f"Serving {_counted(adapters)} at {address}", style="bold", soft_wrap=True)
            for line in _examples(address, adapters, needs_key):
                out.print(line, soft_wrap=True)
            sys.stdout.flush()

    return ConsoleStartup()


def _importing(base: str) -> AbstractContextManager[None]:
    from keras_peft.sources import is_preset

    return quiet_import(presets=is_preset(base))


def _counted(adapters: Sequence[AdapterStatus]) -> str:
    # Adapters that are not loaded yet are served too: the first request loads them.
    names = [one.name for one in adapters if one.is_available]
    shown = ", ".join(names[:_MOST_SHOWN]) + (" …" if len(names) > _MOST_SHOWN else "")
    return f"{len(names)} adapter{'' if len(names) == 1 else 's'} ({shown})" if names else "no adapter yet"


def _examples(address: str, adapters: Sequence[AdapterStatus], needs_key: bool) -> list[str]:
    """Returns an example request for the first adapter that is ready."""
    first = next((one for one in adapters if one.state == "READY" and one.bundle is not None), None)
    if first is None or first.bundle is None:
        return []
    texts = ["a text", "another"][: first.bundle.texts_per_row]
    body = json.dumps({"inputs": texts[0] if len(texts) == 1 else texts, "adapter_id": first.name})
    key = " -H 'Authorization: Bearer KEY'" if needs_key else ""
    return [f"  curl {address}/predict -H 'Content-Type: application/json'{key} -d '{body}'"]
