"""Sealed bundles with random changes: each must be refused with a library error, or give finite answers.

Run as a program, it limits the memory of its process. A test starts it with the folder of a valid bundle.
"""

from __future__ import annotations

import copy
import json
import random
import resource
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

TEXTS = ["the model and the data", "people and work"]
# Values that have broken readers: wrong types, wrong ranges, and what only looks like a number.
STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 3, 10**7, 10**9, 2**63, 10**30, 0.5, -2.5, 1e38, 1e308, "", "x", "16", "../..", "os.system",
    [], [None], ["a", "a"], [[1]], {}, {"name": "lora"}, {"a": {"b": []}}, [0] * 2_000,
)  # fmt: skip
_SPARE = 1 << 30


def main(folder: Path, count: int) -> None:
    """Loads changed copies, and writes what happened to each."""
    import numpy as np

    import keras_peft

    expected = keras_peft.load(folder).probabilities(TEXTS)
    keras_peft.load(folder, engine="keras").probabilities(TEXTS)  # Imports all before the limit is set.
    limit = memory() + _SPARE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for seed in range(count):
        changed = folder.with_name("changed")
        shutil.rmtree(changed, ignore_errors=True)
        shutil.copytree(folder, changed)
        what = change(changed, random.Random(seed))
        try:
            found = keras_peft.load(changed, engine=("onnx", "keras")[seed % 8 == 0]).probabilities(TEXTS)
        except keras_peft.KerasPeftError as error:
            outcome = "refused" if len(str(error)) < 20_000 else "said at length"
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error}"
        else:
            is_same = found.shape == expected.shape and np.allclose(found, expected, atol=1e-5)
            is_finite = found.ndim == 2 and bool(np.isfinite(found).all())
            outcome = "the same" if is_same else "another answer" if is_finite else "no answer"
        sys.stdout.write(f"{json.dumps([what, outcome[:300]])}\n")
        sys.stdout.flush()


def memory() -> int:
    """The address space of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def change(folder: Path, chance: random.Random) -> str:
    """Changes one thing in a bundle, and seals it again as anybody can."""
    from keras_peft import bundle as bundles

    file = folder / "adapter.safetensors"
    content = json.loads((folder / "bundle.json").read_text())
    kind = chance.choice(("field", "field", "field", "header", "bytes", "weights", "tokenizer", "more parts"))
    what = kind
    if kind == "field":
        what = f"field {change_field(content, chance)}"
    elif kind == "more parts":
        content["parts"] *= chance.choice((2, 5_000))
    elif kind == "header":
        what = f"header {change_header(file, chance)}"
    elif kind == "weights":
        what = f"weights {change_weights(file, chance)}"
    elif kind == "bytes":
        data = bytearray(file.read_bytes())
        data[chance.randrange(8, 400)] ^= 1 << chance.randrange(8)
        file.write_bytes(data)
    else:
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        what = f"tokenizer {change_field(tokenizer, chance)}"
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    bundles.seal(folder, content)
    return what


def change_field(content: Any, chance: random.Random) -> str:
    """Replaces or removes one value, anywhere in some JSON."""
    places = list(places_in(content, ()))
    # What an adapter computes with comes first, and is changed more often than the rest.
    own = [place for place in places if place[0] in ("parts", "task", "task_options", "labels", "max_length")]
    *way, last = chance.choice(own if own and chance.random() < 0.8 else places)
    inner = content
    for step in way:
        inner = inner[step]
    if chance.random() < 0.15:
        del inner[last]
        return f"without {[*way, last]}"
    inner[last] = copy.deepcopy(chance.choice(STRANGE))
    return f"{[*way, last]}: {str(inner[last])[:40]}"


def places_in(value: Any, way: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """The ways to all values in some JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [(*way, key) for key, _ in inner][:200]
    return found + [place for one in found for place in places_in(value[one[-1]], one)][:2_000]


def change_header(file: Path, chance: random.Random) -> str:
    """Changes the shape, the type or the place of a tensor in the header of a file."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    key = chance.choice(sorted(header))
    field = chance.choice(("shape", "dtype", "data_offsets"))
    choices: dict[str, tuple[Any, ...]] = {
        "shape": ([], [0], [10**12], [1, *header[key]["shape"]], [-1]),
        "dtype": ("I64", "BOOL", "F8_E4M3", "F64", "BF16", "C64", 3),
        "data_offsets": ([0, 10**15], [5, 1], [], None),
    }
    header[key][field] = chance.choice(choices[field])
    new = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(new)) + new + data[8 + length :])
    return f"{key} {field}: {header[key][field]}"


def change_weights(file: Path, chance: random.Random) -> str:
    """Gives a tensor values of another type, or values that nothing can be computed with."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(file)
    key = chance.choice(sorted(tensors))
    kind = chance.choice(("nan", "inf", "1e38", "int64", "bool", "transposed", "gone", "twice"))
    if kind == "gone":
        del tensors[key]
    elif kind == "twice":
        tensors[f"{key}2"] = tensors[key]
    elif kind == "transposed":
        tensors[key] = tensors[key].T[None].copy()
    elif kind in ("int64", "bool"):
        tensors[key] = tensors[key].astype(kind)
    else:
        tensors[key] = tensors[key] * 0 + float(kind)
    save_file(tensors, file)
    return f"{key}: {kind}"


if __name__ == "__main__":
    run: Callable[[Path, int], None] = main
    run(Path(sys.argv[1]), int(sys.argv[2]))
