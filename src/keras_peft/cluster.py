"""Starts Ray, or joins a cluster that runs, without its output."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_peft.errors import OptionError, reason_of
from keras_peft.extras import need

# Ray reads them when it is imported. Its usage statistics need a connection, its deduplicated logs are not shown, and
# its warning on accelerators is about a change in a version to come.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_LOG_TO_DRIVER_EVENT_LEVEL": "FATAL",
}
# Seconds to wait for a cluster to answer.
_PATIENCE = 10.0

# Settings that can be paths.
_PATHS = ("validation", "unlabelled", "base")


@contextmanager
def joined(what: str, *, cores: int | None = None) -> Iterator[Any]:
    """Joins the Ray cluster that `RAY_ADDRESS` names or that runs on this machine; starts one here if there is none.

    Args:
        what: The feature that needs it. It starts the message if Ray is not installed.
        cores: Number of cores of a cluster that is started here; by default all.

    Yields:
        The module `ray`. Afterwards a cluster that was started or joined here is left.

    Raises:
        ExtraNotInstalled: If Ray is not installed.
        OptionError: If Ray does not start, or the cluster cannot be reached.

    Example:
        >>> with joined("Predicting on Ray") as ray:
        ...     ray.get(ray.remote(len).remote("abc"))
        3
    """
    need(what, "ray")
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield ray
        return
    with _same_signals():
        _start(ray, cores)
    try:
        yield ray
    finally:
        with _same_signals():
            ray.shutdown()


def with_absolute_paths(data: Any, settings: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Returns data and settings for processes on Ray, which run in another folder.

    Args:
        data: The path of the rows, or data in memory.
        settings: Training settings by name.

    Returns:
        Both with absolute paths, where a value is the path of a file or folder that exists.
    """
    paths = {name: absolute(settings[name]) for name in _PATHS if name in settings}
    return absolute(data), {**settings, **paths}


def absolute(value: Any) -> Any:
    """Returns the absolute path of a file or folder that exists, of the same type; other values as they are.

    Args:
        value: A path, the name of a base, or anything else that a setting can be.
    """
    from keras_peft.sources import embedded

    is_there = isinstance(value, str | Path) and value not in embedded.NAMES and Path(value).exists()
    return type(value)(Path(value).absolute()) if is_there else value


def _start(ray: Any, cores: int | None) -> None:
    if address := os.environ.get("RAY_ADDRESS"):
        _check_reachable(address)
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "include_dashboard": False}
    try:
        try:
            ray.init(address="auto", **_without(options, "include_dashboard"))
        except ConnectionError:
            if os.environ.get("RAY_ADDRESS"):
                raise
            ray.init(address="local", num_cpus=cores, **options)
    except Exception as error:  # Ray's own exceptions and those of what it runs have no common class.
        raise OptionError(
            f"Ray cannot be started or reached ({type(error).__name__}: {reason_of(error)}); check RAY_ADDRESS, or "
            "whether this machine has enough free memory and time, and run the command again."
        ) from error


def _check_reachable(address: str) -> None:
    """Checks that something listens at an address, where Ray itself would try for a quarter of an hour.

    Args:
        address: The value of `RAY_ADDRESS`.

    Raises:
        OptionError: If nothing does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # Another notation, such as "auto".
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise OptionError(
            f"No Ray cluster answers at {address}, which the environment variable RAY_ADDRESS names "
            f"({reason_of(error)}); start it, or unset RAY_ADDRESS to use Ray on this machine."
        ) from None


def _without(options: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != name}


@contextmanager
def _same_signals() -> Iterator[None]:
    """Restores the handlers of signals, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
