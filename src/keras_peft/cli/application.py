"""The command-line application: commands, dispatch and error handling."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from keyword import iskeyword
from types import FrameType
from typing import Any, NoReturn

import typer

from keras_peft._version import __version__
from keras_peft.cli import config, supervision
from keras_peft.cli.process import Interrupted
from keras_peft.cli.wording import as_flags
from keras_peft.errors import KerasPeftError, OptionError
from keras_peft.printable import printable

# The help, in this order. Equal to the docstrings of the commands, whose files the help does not import.
COMMANDS = {
    "train": "Fine-tune a classifier on labelled text and write it as a bundle, a folder that other commands read.",
    "cross-validate": "Score settings by cross-validation.",
    "compare": "Compare methods on labelled text, and train a bundle with the best one.",
    "find-rate": "Suggest a learning rate from a short training run with a rising rate.",
    "sweep": "Search for the best settings in a number of trials, and train a bundle with them.",
    "evaluate": "Score a bundle on labelled text.",
    "explain": "Show which words of a text a bundle's prediction depends on.",
    "predict": "Label texts with a bundle; files of any size are streamed.",
    "label": "Choose the texts that are worth labelling next, and write them as a file to fill in and train on.",
    "serve": "Serve bundles over HTTP, many on one base, and load and unload them at runtime.",
    "export": "Export a bundle to the format of another library or runtime.",
    "merge": "Merge a bundle's adapter into its base and write both as plain Keras models.",
    "import": "Create a bundle from another library's format.",
    "push": "Push a bundle or an exported folder to the Hugging Face Hub.",
    "show": "Show the contents of a bundle or an export and verify its files.",
    "methods": "List the methods, or show the options of one.",
    "bases": "List the built-in bases and explain how to use others.",
    "data": "Check, split and generate labelled text.",
    "cache": "Show or clear cached features, the outputs of frozen blocks for training texts.",
}

# Shown below the help of a command.
EXAMPLES = {
    "train": (
        "train rows.csv --out my-bundle",
        "train rows.xlsx --out my-bundle --text-column Review --label-column Stars --task regression",
        "train rows.csv --unlabelled more.txt --out my-bundle",
    ),
    "cross-validate": ("cross-validate rows.csv --folds 5 --method lora --rank 16",),
    "compare": (
        "compare rows.csv --budget 20m --out compared",
        "compare rows.csv --methods lora,bitfit,words --seeds 2 --test test.csv --out compared",
        "compare rows.csv --budget 1h --resume --out compared",
    ),
    "find-rate": ("find-rate rows.csv --method bitfit",),
    "sweep": (
        "sweep rows.csv --out swept --trials 20 --test test.csv",
        "sweep rows.csv --out swept --space space.toml --budget 30m",
        "sweep rows.csv --out swept --space methods --resume",
    ),
    "evaluate": ("evaluate my-bundle test.csv", 'evaluate my-bundle test.csv --separator ";"'),
    "explain": ('explain my-bundle "Which one is faster?"',),
    "predict": (
        'predict my-bundle "Which one is faster?" "The small one."',
        "predict my-bundle --input rows.csv --output labelled.csv",
        "predict my-bundle --input 'rows/*.parquet' --output predicted/ --workers 2",
        "cat texts.txt | keras-peft predict my-bundle -",
    ),
    "label": ("label my-bundle pool.csv --labelled rows.csv --next 50 --out rows-2.csv",),
    "serve": ("serve bundles --port 8000", "serve --config serve.toml"),
    "export": (
        "export my-bundle --format onnx --out exported",
        "export my-bundle --format onnx --quantize int8 --data test.csv --out exported",
        "export bundles/news bundles/mood --format onnx --out exported",
        "export my-bundle --format hf-peft --out exported",
    ),
    "merge": ("merge my-bundle --out merged",),
    "import": ("import exported --out my-bundle",),
    "push": ("push my-bundle owner/name",),
    "show": ("show my-bundle",),
    "methods": ("methods", "methods lora"),
    "bases": ("bases",),
    "data": ("data check rows.csv", "data split rows.csv --out parts"),
    "cache": ("cache show", "cache clear"),
}

_COMPLETION = "_KERAS_PEFT_COMPLETE"
# Commands with the flags of the settings and of a method.
TRAINING = ("train", "cross-validate", "find-rate", "sweep")
# Commands with --config.
CONFIGURABLE = (*TRAINING, "compare", "serve")


def build(arguments: Sequence[str], settings: Mapping[str, Any] | None = None) -> typer.Typer:
    """Creates the application. Only the requested command is imported; the others have just their help.

    Args:
        arguments: Command-line arguments, without the program's name. Training commands have
            the flags of the method named here. If empty, all commands are imported.
        settings: Values from the file of `--config`, if it has been read.

    Returns:
        The application.

    Raises:
        OptionError: If no method has the given name.
    """
    asked = _asked(arguments)
    if settings is None:
        settings = _configured(arguments)
    app = typer.Typer(
        name="keras-peft",
        help="Fine-tune text classifiers with few parameters: labelled text in, verified bundle out.",
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"default_map": dict.fromkeys(CONFIGURABLE, settings)},
    )
    app.callback()(_common)
    for name, description in COMMANDS.items():
        if arguments and name != asked:
            app.command(name, help=description)(_not_imported)
            continue
        epilog = examples(name)
        place = name.replace("-", "_") + "_" * iskeyword(name)
        module = importlib.import_module(f"keras_peft.cli.{place}")
        if name in TRAINING:
            command = module.make(_chosen_method(arguments, settings), settings)
        elif name in CONFIGURABLE:
            command = module.make(settings)
        else:
            command = getattr(module, place)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, epilog=epilog)
        else:
            app.command(name, epilog=epilog)(command)
    return app


def examples(name: str) -> str:
    """Returns the examples of a command, one per paragraph.

    Args:
        name: Name of the command.
    """
    lines = (line if "keras-peft" in line else f"keras-peft {line}" for line in EXAMPLES[name])
    return "\n\n".join(["Examples:", *lines])


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits; see `main`."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if _COMPLETION in os.environ:
        # The shell asks for words that complete a command line.
        build(_words_to_complete())([], prog_name="keras-peft")
    arguments = arguments or ["--help"]
    # TensorFlow logs to stderr unless this is set before its import.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Off by default on processors without VNNI, where a run with it is as fast and takes 50 MB less.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # What Ray prints between the results: the output of its workers and how they ended.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")
    # Without a terminal, each update of a download or upload bar would print a new line.
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    code = 0
    try:
        settings = _configured(arguments)
        if supervision.is_needed(arguments, settings):
            sys.exit(supervision.watch(arguments))
        code = build(arguments, settings)(arguments, prog_name="keras-peft", standalone_mode=False) or 0
        sys.stdout.flush()  # Flush here, where a broken pipe is handled.
    except KerasPeftError as error:
        _fail(as_flags(" ".join([str(error), *_notes(error)]), _options(arguments)))
    except Interrupted as error:
        notes = as_flags(" ".join(_notes(error)), _options(arguments))
        _fail(f"Interrupted. {notes or 'Nothing was written.'}", code=130)
    except BrokenPipeError:
        # The reader closed the pipe, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        reason = f"{error.filename or 'Operating system error'}: {error.strerror or error}."
        if error.errno == errno.ENOSPC:
            reason += " Free some space, and run the command again."
        _fail(" ".join([reason, *_notes(error)]))
    except typer.TyperException as error:
        _fail(error.format_message())
    sys.exit(code)


def _asked(arguments: Sequence[str]) -> str | None:
    """Returns the name of the requested command. Options before the command take no values."""
    return next((argument for argument in arguments if not argument.startswith("-")), None)


def _configured(arguments: Sequence[str]) -> dict[str, Any]:
    """Returns the values from the file of `--config`, if the command has it."""
    return config.read(arguments) if _asked(arguments) in CONFIGURABLE else {}


def _words_to_complete() -> list[str]:
    """Returns the arguments so far; bash, zsh, fish and PowerShell pass them in different variables."""
    words = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS") or ""
    return words.split()[1:]


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)  # noqa: T201
        raise typer.Exit


def _common(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
    ),
) -> None:
    pass


def _not_imported() -> NoReturn:
    raise RuntimeError("This command is not imported, because it was not requested.")


def _chosen_method(arguments: Sequence[str], settings: Mapping[str, Any]) -> str:
    """Returns the value of --method before the arguments are parsed, since flags depend on it.

    Args:
        arguments: Command-line arguments, without the program's name.
        settings: Values from the file of `--config`.

    Raises:
        OptionError: If --method is given more than once.
    """
    from keras_peft.training.fine_tune import DEFAULT_METHOD

    chosen = [after for argument, after in pairwise([*arguments, ""]) if argument == "--method"]
    chosen += [
        argument.removeprefix("--method=") for argument in arguments if argument.startswith("--method=")
    ]
    if len(chosen) > 1:
        raise OptionError(
            f"--method is given {len(chosen)} times, but the command line trains a single method; in Python, several "
            "methods can be combined into one adapter: fine_tune(data, out=folder, method=[LoRA(), PrefixTuning()])."
        )
    return chosen[0] if chosen else str(settings.get("method", DEFAULT_METHOD))


def _options(arguments: Sequence[str]) -> set[str]:
    """Returns the names of all options of the requested command."""
    try:
        waiting = [typer.main.get_command(build(arguments))]
    except KerasPeftError:  # An invalid --method or --config: the command has no flags yet.
        waiting = [typer.main.get_command(build([*arguments[:1], "--help"]))]
    asked = {argument for argument in arguments if not argument.startswith("-")}
    found: set[str] = set()
    while waiting:
        command = waiting.pop()
        found |= {str(parameter.name) for parameter in command.params}
        below = getattr(command, "commands", {})
        waiting += [one for name, one in below.items() if name in asked]
    return found


def _notes(error: BaseException) -> list[str]:
    """Returns the notes added to an error, for example on a checkpoint that is kept."""
    return getattr(error, "__notes__", [])


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    # A second signal ends the process at once, even in the middle of removing partially written files.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)
    raise Interrupted(number)


def _fail(message: str, *, code: int = 2) -> NoReturn:
    if message:  # A command group without a command has already printed its help.
        print(f"keras-peft: {printable(message)}", file=sys.stderr)  # noqa: T201
    sys.exit(code)
