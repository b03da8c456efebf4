"""Loads and unloads adapters repeatedly in a separate process: `python cycling.py FOLDER CYCLES`.

Prints measurements after a tenth of the cycles and after each further three tenths: memory in bytes, series
of metrics, and the number of loaded adapters that remain; and the number of successful loads.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from keras_peft import sources
from keras_peft.serve.adapters import Adapters
from keras_peft.serve.engines.onnx import Engine
from keras_peft.serve.http.process import base_of
from keras_peft.serve.loaded_adapter import LoadedAdapter
from keras_peft.serve.metrics import Metrics, exposition
from keras_peft.serve.repository import Repository
from keras_peft.serve.settings import ServeSettings


async def turn(adapters: Adapters, metrics: Metrics, name: str, cycles: int) -> None:
    for _ in range(cycles):
        with adapters.using(await adapters.load(name)):
            metrics.adapter_answered(name, texts=1)
        await adapters.unload(name)


async def cycle(folder: Path, cycles: int) -> dict[str, object]:
    metrics, repository = Metrics(), Repository([folder])
    names = repository.names()
    adapters = Adapters(
        repository, Engine(sources.load_weights(base_of(repository, None))), ServeSettings(), metrics
    )
    memory, series, left = [], [], 0
    for part in (cycles // 10, *[cycles * 3 // 10] * 3):
        await asyncio.gather(*(turn(adapters, metrics, name, part // len(names)) for name in names))
        gc.collect()
        memory.append(resident())
        series.append(count_series(metrics))
        left += sum(isinstance(one, LoadedAdapter) for one in gc.get_objects())
    adapters.close()
    loads = metrics.registry.get_sample_value("keras_peft_adapter_loads_total", {"result": "ok"})
    return {"memory": memory, "series": series, "left": left, "loads": loads}


def count_series(metrics: Metrics) -> int:
    text = exposition(metrics.families(), "")[0].decode()
    return sum(len(family.samples) for family in text_string_to_metric_families(text))


def resident() -> int:
    fields = Path("/proc/self/status").read_text().splitlines()
    return next(int(field.split()[1]) for field in fields if field.startswith("VmRSS:")) * 1024


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(cycle(Path(sys.argv[1]), int(sys.argv[2])))))
