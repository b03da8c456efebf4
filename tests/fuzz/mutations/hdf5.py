"""Mutations of HDF5 files that stay valid, and of their bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

from fuzz.mutations import Mutation, raw

_DTYPES = ("float64", "float16", "int64", "int8", "bool", "S4", "complex64")


def datasets(random: Random, content: bytes) -> bytes:
    """Changes a dataset, a group, a link or an attribute."""
    import h5py

    target = io.BytesIO(content)
    try:
        with h5py.File(target, "r+") as file:
            found: list[str] = []
            file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
            random.choice(_CHANGES)(random, file, random.choice(found))
    except Exception:  # h5py raises many kinds
        return raw.flip(random, content)
    return target.getvalue()


def _written(file: Any, name: str, values: Any, **options: Any) -> None:
    del file[name]
    file.create_dataset(name, data=values, **options)


def _values(random: Random, file: Any, name: str) -> None:
    file[name][...] = random.choice((np.nan, np.inf, 3e38, 0))


def _shape(random: Random, file: Any, name: str) -> None:
    own = file[name][()]
    _written(file, name, random.choice((own.T, own.ravel(), own[None], own[:0], np.zeros(()), own[..., :1])))


def _dtype(random: Random, file: Any, name: str) -> None:
    _written(file, name, np.zeros(file[name].shape, random.choice(_DTYPES)))


def _huge(random: Random, file: Any, name: str) -> None:
    """Declares values that are not stored: a few bytes that read as terabytes."""
    shape = random.choice(((2**20, 2**20), (2**40,), (2**31, 3)))
    del file[name]
    file.create_dataset(name, shape=shape, dtype="float32", chunks=True)


def _renamed(random: Random, file: Any, name: str) -> None:
    file.move(name, random.choice((f"{name}x", "x", f"{name}/../y", "layers/\x1b[2J", "é")))


def _dropped(random: Random, file: Any, name: str) -> None:
    del file[random.choice((name, name.partition("/")[0]))]


def _linked(random: Random, file: Any, name: str) -> None:
    import h5py

    del file[name]
    file[name] = random.choice(
        (h5py.ExternalLink("/etc/passwd", "/"), h5py.SoftLink("/nowhere"), h5py.SoftLink("/"))
    )


def _group(random: Random, file: Any, name: str) -> None:
    del file[name]
    file.create_group(name)


def _attribute(random: Random, file: Any, name: str) -> None:
    owner = random.choice((file, file[name]))
    owner.attrs[random.choice((*owner.attrs, "x"))] = random.choice((1, "x", np.zeros(3), b"\xff"))


_Change = Callable[[Random, Any, str], None]
_CHANGES: tuple[_Change, ...] = (
    *(_values, _shape, _shape, _dtype, _huge, _renamed, _dropped, _linked, _group, _attribute),
)

MUTATIONS: tuple[Mutation, ...] = (datasets, datasets, datasets, *raw.MUTATIONS)
