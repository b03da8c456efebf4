"""The optional packages of each extra, and the error raised when they are not installed.

The minimal install adapts Keras models, and saves, merges and combines adapters. Everything else
calls `need` before it starts. pyproject.toml lists the same packages.
"""

from __future__ import annotations

from importlib.util import find_spec

from keras_peft.errors import ExtraNotInstalled

# Maps the import names of each extra's packages to names on the package index. TensorFlow is omitted because another
# Keras backend may be installed instead.
EXTRAS = {
    "onnx": {
        "onnx": "onnx",
        "onnxruntime": "onnxruntime",
        "platformdirs": "platformdirs",
        "rich": "rich",
        "tokenizers": "tokenizers",
        "typer": "typer",
    },
    "train": {
        "anyio": "anyio",
        "httpx2": "httpx2",
        "huggingface_hub": "huggingface-hub",
        "jinja2": "jinja2",
        "keras_hub": "keras-hub",
        "polars": "polars",
        "python_calamine": "python-calamine",
        "scipy": "scipy",
        "sklearn": "scikit-learn",
        "tomli_w": "tomli-w",
    },
    "serve": {
        "fastapi": "fastapi",
        "httptools": "httptools",
        "opentelemetry": "opentelemetry-api",
        "prometheus_client": "prometheus-client",
        "threadpoolctl": "threadpoolctl",
        "uvicorn": "uvicorn",
    },
    "litert": {"ai_edge_litert": "ai-edge-litert"},
    "openvino": {"openvino": "openvino"},
    "plot": {"matplotlib": "matplotlib"},
    "sweep": {"optuna": "optuna"},
    "remote": {"fsspec": "fsspec"},
    "ray": {"ray": "ray"},
}
# The extras whose packages an extra includes.
_INCLUDED = {
    "train": ("onnx",),
    "serve": ("onnx",),
    "remote": ("onnx",),
    "ray": ("remote", "onnx"),
    **dict.fromkeys(("litert", "openvino", "plot", "sweep"), ("train", "onnx")),
}
_MOST_NAMED = 4


def need(what: str, *packages: str, extra: str | None = None) -> None:
    """Checks that packages are installed, without importing them.

    Args:
        what: The feature that needs them. It starts the error message.
        packages: Import names from `EXTRAS`.
        extra: The extra to install; by default the smallest one with the missing packages, or several.

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
    names = [brought[package] for brought in EXTRAS.values() for package in missing if package in brought]
    extra = extra or _extra_with(set(missing))
    raise ExtraNotInstalled(
        f"{what} needs {_joined(names)}, which {'is' if len(names) == 1 else 'are'} not installed: "
        f"pip install '.[{extra}]' in a checkout, or pip install 'keras-peft[{extra}]' elsewhere"
    )


def _extra_with(missing: set[str]) -> str:
    """Returns the first extra that has all packages, or all extras that have one of them."""
    for extra in EXTRAS:
        if missing <= {package for one in (extra, *_INCLUDED.get(extra, ())) for package in EXTRAS[one]}:
            return extra
    some = [extra for extra, brought in EXTRAS.items() if not missing.isdisjoint(brought)]
    return ",".join(extra for extra in some if not any(extra in _INCLUDED.get(one, ()) for one in some))


def _joined(names: list[str]) -> str:
    if len(names) > _MOST_NAMED:
        names = [*names[: _MOST_NAMED - 1], f"{len(names) - _MOST_NAMED + 1} more packages"]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
