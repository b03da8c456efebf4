"""The HDF5 file that KerasHub's `save_lora_weights` writes.

lora/vars/rank                      the rank
lora/<number>/vars/lora_kernel_a    A: the kernel's shape with the rank in place of its last axis
lora/<number>/vars/lora_kernel_b    B: (rank, size of the kernel's last axis)

A layer's number is its index among the backbone's layers that have weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np

from keras_peft.errors import AdapterError, listed

ENDING = ".lora.h5"
_TENSORS = ("lora_kernel_a", "lora_kernel_b")


@dataclass(frozen=True)
class Factors:
    """The factors of Keras's LoRA at one layer.

    Attributes:
        a: A, of the kernel's shape with the rank in place of the last axis.
        b: B, (rank, size of the kernel's last axis).
    """

    a: np.ndarray
    b: np.ndarray

    @property
    def is_silent(self) -> bool:
        """Whether the product is zero because A or B is."""
        return not (self.a.any() and self.b.any())

    @property
    def is_dead(self) -> bool:
        """Whether both A and B are zero. Training cannot change that, since every gradient is zero."""
        return not (self.a.any() or self.b.any())

    def product(self) -> np.ndarray:
        """Returns the product A B, of the kernel's shape."""
        return np.asarray(self.a @ self.b)


@dataclass(frozen=True)
class LoraFile:
    """The content of a KerasHub LoRA file.

    Attributes:
        rank: The rank, the same for all layers.
        layers: Factors by layer number.
    """

    rank: int
    layers: dict[int, Factors]


def read(path: Path) -> LoraFile:
    """Reads a file that `save_lora_weights` wrote.

    Args:
        path: The LoRA file.

    Raises:
        AdapterError: If the file is missing, damaged or not a LoRA file; the message lists all problems.
    """
    if not path.is_file():
        raise AdapterError(
            f"The file {path} does not exist; pass one written by backbone.save_lora_weights()."
        )
    try:
        with h5py.File(path) as file:
            _refuse_elsewhere(file, path)
            _refuse_larger(file, path)
            return _read(file, path)
    except (OSError, RuntimeError, SystemError, KeyError, ValueError, TypeError):
        # h5py has no common class for what it finds in a damaged file; some of it is found when values are read.
        raise AdapterError(
            f"{path} is not an HDF5 file or is damaged; pass one written by backbone.save_lora_weights()."
        ) from None


def _refuse_elsewhere(file: h5py.File, path: Path) -> None:
    """Refuses values outside the file: HDF5 links and external datasets can refer to any local file."""
    found = []

    def visit(name: str, link: Any) -> None:
        there = None if isinstance(link, h5py.ExternalLink | h5py.SoftLink) else file[name]
        if there is None or (isinstance(there, h5py.Dataset) and (there.external or there.is_virtual)):
            found.append(name)

    file.visititems_links(visit)
    if found:
        raise AdapterError(
            f"{path} stores {listed(found, most=4)} outside the file, which KerasHub never does; such files are "
            "not read."
        )


def _refuse_larger(file: h5py.File, path: Path) -> None:
    """Refuses tensors that are larger than the file: HDF5 fills in values that are not stored, and unpacks others."""
    most, found = path.stat().st_size, []

    def visit(name: str, there: Any) -> None:
        if isinstance(there, h5py.Dataset) and there.nbytes > most:
            found.append(f"{name} {there.shape}")

    file.visititems(visit)
    if found:
        raise AdapterError(
            f"{path} has {most:,} bytes, fewer than its tensors {listed(found, most=4)}; KerasHub does not compress "
            "them. Save it again with backbone.save_lora_weights()."
        )


def _read(file: h5py.File, path: Path) -> LoraFile:
    group = file.get("lora")
    if group is None or "rank" not in group.get("vars", ()):
        weights = "layers" in file or "_layer_checkpoint_dependencies" in file
        raise AdapterError(
            f"{path} has no lora/vars/rank"
            + (", because save_weights() wrote it, with LoRA merged into the kernels; " if weights else "; ")
            + "pass one written by backbone.save_lora_weights()."
        )
    rank = int(group["vars"]["rank"][()])
    layers, problems = {}, []
    for number in sorted((name for name in group if name.isdigit()), key=int):
        stored = group[number].get("vars", {})
        if missing := [name for name in _TENSORS if name not in stored]:
            problems.append(f"layer {number} lacks {listed(missing)}")
            continue
        a, b = (_tensor(stored[name]) for name in _TENSORS)
        if a.ndim < 2 or a.shape[-1] != rank or b.ndim != 2 or b.shape[0] != rank:
            problems.append(f"layer {number}: A {a.shape} and B {b.shape} do not have rank {rank}")
        elif not (np.isfinite(a).all() and np.isfinite(b).all()):
            problems.append(f"layer {number} has values that are not finite")
        else:
            layers[int(number)] = Factors(a, b)
    if not layers and not problems:
        problems.append(
            "it contains no layer, for example because save_lora_weights() failed at an embedding, which it cannot save"
        )
    if problems:
        raise AdapterError(f"{path} cannot be imported: {'; '.join(problems)}.")
    return LoraFile(rank, layers)


def _tensor(dataset: h5py.Dataset) -> np.ndarray:
    # HDF5 has no bfloat16, so Keras stores the dtype as an attribute.
    if dataset.attrs.get("dtype") == "bfloat16":
        return np.array(dataset, dtype=ml_dtypes.bfloat16).astype(np.float32)
    return np.array(dataset, dtype=np.float32)
