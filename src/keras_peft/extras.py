"""The optional packages of each extra, and the error raised when they are not installed.

The minimal install adapts Keras models, and saves, merges and combines adapters. Everything else
calls `need` before it starts. pyproject.toml lists the same packages.
"""

from __future__ import annotations

from importlib.util import find_spec

from keras_peft.errors import ExtraNotInstalled

# Maps the import names of each extra's packages to names on the package index. `serve` and `plot` include
# `train`. TensorFlow is omitted because another Keras backend may be installed instead.
EXTRAS = {
    "train": {
        "anyio": "anyio",
        "httpx2": "httpx2",
        "huggingface_hub": "huggingface-hub",
        "jinja2": "jinja2",
        "keras_hub": "keras-hub",
        "platformdirs": "platformdirs",
        "polars": "polars",
        "python_calamine": "python-calamine",
        "rich": "rich",
        "scipy": "scipy",
        "sklearn": "scikit-learn",
        "tokenizers": "tokenizers",
        "tomli_w": "tomli-w",
        "typer": "typer",
    },
    "plot": {"matplotlib": "matplotlib"},
    "serve": {
        "fastapi": "fastapi",
        "httptools": "httptools",
        "opentelemetry": "opentelemetry-api",
        "prometheus_client": "prometheus-client",
        "threadpoolctl": "threadpoolctl",
        "uvicorn": "uvicorn",
    },
}
_MOST_NAMED = 4


def need(what: str, *packages: str) -> None:
    """Checks that packages are installed, without importing them.

    Args:
        what: The feature that needs them. It starts the error message.
        packages: Import names from `EXTRAS`.

    Raises:
        ExtraNotInstalled: If a package is missing.

    Example:
        >>> need("Training", "keras_hub", "polars", "sklearn")
        Traceback (most recent call last):
        ...
        ExtraNotInstalled: Training needs polars and scikit-learn, which are not installed:
        pip install '.[train]' in a checkout, or pip install 'keras-peft[train]' elsewhere
    """
    missing = [package for package in packages if find_spec(package) is None]
    if not missing:
        return
    extra = [extra for extra, brought in EXTRAS.items() if not brought.keys().isdisjoint(missing)][-1]
    names = [brought[package] for brought in EXTRAS.values() for package in missing if package in brought]
    raise ExtraNotInstalled(
        f"{what} needs {_joined(names)}, which {'is' if len(names) == 1 else 'are'} not installed: "
        f"pip install '.[{extra}]' in a checkout, or pip install 'keras-peft[{extra}]' elsewhere"
    )


def _joined(names: list[str]) -> str:
    if len(names) > _MOST_NAMED:
        names = [*names[: _MOST_NAMED - 1], f"{len(names) - _MOST_NAMED + 1} more packages"]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
