"""A process that writes parts: it gets a job and then one shard after another."""

from __future__ import annotations

import queue
import traceback
from typing import Any, NoReturn

from keras_peft.errors import KerasPeftError
from keras_peft.parent_process import connect
from keras_peft.sharding.parts import PartWriter
from keras_peft.sharding.plan import Shard


def main() -> NoReturn:
    """Writes parts until the process that started this one ends it."""
    asked = queue.Queue[Any]()
    answer = connect(asked.put)
    writer = PartWriter(asked.get())
    while True:
        answer(answer_to(writer, asked.get()))


def answer_to(writer: PartWriter, shard: Shard) -> dict[str, Any]:
    """Writes the part of a shard.

    Args:
        writer: Writes it.
        shard: The shard.

    Returns:
        `done` with a `Done`, `refused` with a message for the user, or `failed` with a traceback.
    """
    try:
        return {"done": writer.write_part(shard)}
    except KerasPeftError as error:
        return {"refused": str(error)}
    except Exception:
        return {"failed": traceback.format_exc()}


if __name__ == "__main__":
    main()
