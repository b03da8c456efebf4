"""Command-line flags generated from the fields of the training settings and of a method."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from keras_peft import methods
from keras_peft.cli import config
from keras_peft.cli.setting_flags import setting_flag
from keras_peft.core.selection import ROLES
from keras_peft.options import default_text
from keras_peft.training.fine_tune import DEFAULT_METHOD
from keras_peft.training.settings import Settings, ordered


def with_flags(
    run: Callable[..., None],
    method_name: str,
    settings: Mapping[str, Any] = MappingProxyType({}),
    *,
    without: Collection[str] = (),
    only_given: bool = False,
) -> Callable[..., None]:
    """Adds the flags of `Settings` and of a method to a command.

    Args:
        run: The command. It takes `method` and the settings in addition to its own arguments.
        method_name: Name of the method.
        settings: Values from the file of `--config`.
        without: Settings for which the command has no flags. The file may still contain them.
        only_given: Whether the command takes only the settings that are given, and `fixed`, the names of the
            options of the method that are given.

    Returns:
        The command with the flags.

    Raises:
        OptionError: If the method is unknown, or the file contains an unknown flag.
    """
    method = methods.find(method_name)
    fields = [field for field in dataclasses.fields(method) if field.metadata["flag"]]

    def command(**values: Any) -> None:
        options = {field.name: values.pop(field.name) for field in fields}
        values.pop("method")
        values.pop("config")
        given = {name: value for name, value in options.items() if value is not None}
        chosen = method.from_options(given)
        if only_given:
            values = {name: value for name, value in values.items() if name not in known or value is not None}
            values["fixed"] = tuple(given)
        run(method=chosen, **_read(values))

    signature = inspect.signature(run, eval_str=True)
    flags = _setting_flags(without)
    known = {flag.name for flag in flags}
    own = _with_settings(signature, [_without_default(flag) for flag in flags] if only_given else flags)
    chooser = inspect.Parameter(
        "method",
        inspect.Parameter.KEYWORD_ONLY,
        default=DEFAULT_METHOD,
        annotation=Annotated[str, typer.Option(help=f"One of: {', '.join(methods.names())}.")],
    )
    file = config.parameter("a bundle's run.toml")
    parameters = [*own, chooser, file, *(_flag(method, field) for field in fields)]
    config.check(settings, parameters, also=without)
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__doc__ = run.__doc__
    return command


def with_setting_flags(
    run: Callable[..., None], settings: Mapping[str, Any], *, without: Collection[str] = ()
) -> Callable[..., None]:
    """Adds the flags of `Settings` to a command that has no method of its own.

    Args:
        run: The command. It takes the settings in addition to its own arguments.
        settings: Values from the file of `--config`.
        without: Settings for which the command has no flags.

    Returns:
        The command with the flags.

    Raises:
        OptionError: If the file contains an unknown flag.
    """

    def command(**values: Any) -> None:
        values.pop("config")
        run(**_read(values))

    signature = inspect.signature(run, eval_str=True)
    parameters = [*_with_settings(signature, _setting_flags(without)), config.parameter("compare.toml")]
    config.check(settings, parameters)
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__doc__ = run.__doc__
    return command


def _setting_flags(without: Collection[str]) -> list[inspect.Parameter]:
    return [setting_flag(Settings, field) for field in ordered() if field.name not in without]


def _with_settings(
    signature: inspect.Signature, flags: Sequence[inspect.Parameter]
) -> list[inspect.Parameter]:
    """Returns the parameters of a command with flags for the settings, but without the method."""
    own = [one for name, one in signature.parameters.items() if name not in _MADE]
    # The settings come right after the required arguments, because they are used most.
    required = sum(one.default is inspect.Parameter.empty for one in own)
    own[required:required] = flags
    return own


def _read(values: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the flags that are not read by their type."""
    return {**values, **{name: _READ[name](values[name]) for name in _READ if name in values}}


def _without_default(flag: inspect.Parameter) -> inspect.Parameter:
    """Returns a flag that is None where it is not given; the help shows its default."""
    kind, option = typing.get_args(flag.annotation)
    if option.show_default is True:
        option.show_default = default_text(flag.default)
    return flag.replace(default=None, annotation=Annotated[kind | None, option])


def _flag(method: type, field: dataclasses.Field[Any]) -> inspect.Parameter:
    kind = typing.get_type_hints(method)[field.name]
    names = [f"--{field.name.replace('_', '-')}"]
    if kind is bool:
        names = [f"{names[0]}/--no-{names[0][2:]}"]
    option = typer.Option(
        *names,
        help=f"{field.metadata['help'][0].upper()}{field.metadata['help'][1:]}.",
        show_default=default_text(field.default),
        rich_help_panel=f"Options of {method.name}",  # type: ignore[attr-defined]
    )
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _targets(value: str | None) -> list[str] | None:
    """Splits at commas if the parts are roles; a regular expression may contain commas."""
    parts = [part.strip() for part in (value or "").split(",")]
    return None if not value else parts if any(part in ROLES for part in parts) else [value]


def _share_or_file(value: str) -> float | Path:
    try:
        return float(value)
    except ValueError:
        return Path(value)


# Parameters of a command that are made from flags.
_MADE = ("method", "settings", "fixed")
_READ: dict[str, Callable[[Any], Any]] = {"targets": _targets, "validation": _share_or_file}
