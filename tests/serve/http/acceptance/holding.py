"""`keras-peft serve` on a base that tests can block: `python holding.py FOLDER SECONDS serve …`.

While the folder contains a file named after an adapter, its rows are not computed, as if the base hung.
Workers count as hanging after SECONDS.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from keras_peft.cli import main
from keras_peft.serve.engines.onnx import Engine
from keras_peft.serve.http import process
from keras_peft.serve.http.context import ServerContext


def hold(folder: Path) -> None:
    run = Engine.run

    def held(engine: Engine, rows: Sequence[Any]) -> Any:
        while any((folder / row.adapter.name).exists() for row in rows):
            time.sleep(0.01)
        return run(engine, rows)

    Engine.run = held


if __name__ == "__main__":
    hold(Path(sys.argv[1]))
    process.ServerContext = partial(ServerContext, hung_after=float(sys.argv[2]))
    main(sys.argv[3:])
