"""Command-line flags generated from the fields of a settings class, without importing what the settings are for."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any

import typer

from keras_peft.cli import config


def with_settings(
    run: Callable[..., None],
    owner: type,
    *,
    shown: Mapping[str, str] = MappingProxyType({}),
    configured: Mapping[str, Any] | None = None,
) -> Callable[..., None]:
    """Adds the flags of a settings class to a command.

    Args:
        run: The command. It takes `settings`, an instance of the class, in addition to its own
            arguments.
        owner: A frozen dataclass whose fields are made by `keras_peft.options.setting`.
        shown: What the help shows as the default of some fields, if it differs in this command.
        configured: Values from the file of `--config`, or None if the command does not have it.

    Returns:
        The command with the flags.

    Raises:
        OptionError: If the file of `--config` contains an unknown flag or a value of the wrong type.
    """
    fields = dataclasses.fields(owner)

    def command(**values: Any) -> None:
        values.pop("config", None)
        run(settings=owner(**{field.name: values.pop(field.name) for field in fields}), **values)

    signature = inspect.signature(run, eval_str=True)
    own = [one for name, one in signature.parameters.items() if name != "settings"]
    parameters = [*own, *(setting_flag(owner, field, shown.get(field.name)) for field in fields)]
    if configured is not None:
        config.check(configured, parameters)
        parameters.append(config.parameter("serve.toml"))
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__doc__ = run.__doc__
    return command


def setting_flag(owner: type, field: dataclasses.Field[Any], shown: str | None = None) -> inspect.Parameter:
    """Returns the flag of a field that was made by `keras_peft.options.setting`.

    Args:
        owner: The dataclass of the field.
        field: The field.
        shown: What the help shows as the default, if not what the field says.
    """
    kind = typing.get_type_hints(owner)[field.name]
    name = f"--{field.name.replace('_', '-')}"
    default: Any = field.default
    names = [name]
    if kind is bool:
        names = [f"{name}/--no-{name[2:]}"] if default else [name]
    elif typing.get_origin(kind) is tuple:  # A flag that can be repeated.
        kind, default = list[str], list(default)
    elif str in typing.get_args(kind):  # Other types are parsed from the string.
        kind = str if default is not None else str | None
        default = None if default is None else str(default)
    option = typer.Option(
        *names, help=field.metadata["help"], show_default=shown or field.metadata["shown"] or True
    )
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )
