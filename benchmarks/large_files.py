"""Measures the memory for reading and tokenising a large JSON Lines file.

    python benchmarks/large_files.py 200000 1000000

Each text is two sentences of the training file of benchmarks/data/sentiment_sentences; no two texts
are equal. Each count runs in its own process, which does not import Keras.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SENTENCES = Path(__file__).parent / "data" / "sentiment_sentences" / "train.jsonl"
_PRIME = 2_654_435_761


def write(path: Path, count: int) -> int:
    """Writes the given number of rows and returns the number of characters in their texts."""
    with SENTENCES.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    characters = 0
    with path.open("w", encoding="utf-8") as file:
        for row in range(count):
            # Multiples of a prime are distinct without keeping a set of them: the memory of this process
            # counts towards the peak of the next one.
            first, second = (rows[place] for place in divmod(row * _PRIME % len(rows) ** 2, len(rows)))
            text = f"{first['text']} {second['text']}"
            characters += len(text)
            file.write(json.dumps({"text": text, "label": first["label"]}) + "\n")
    return characters


def measure(path: Path) -> None:
    """Reads and tokenises a file as training does, and prints the peak memory in MiB before and after."""
    from keras_peft import sources
    from keras_peft.data.examples import check_trainable, read_examples, split
    from keras_peft.inputs.text import TextEncoder

    tokenizer = TextEncoder(sources.load_tokenizer("minilm")[0], 128)
    read_examples(path.parent / "few.jsonl")
    before, start = peak(), time.perf_counter()
    sides = split(check_trainable(read_examples(path)), 0.1, seed=0)
    tokens = [tokenizer(side.texts) for side in sides]
    count = sum(int(one.lengths.sum()) for one in tokens)
    print(json.dumps([before, peak(), count, time.perf_counter() - start]))


def peak() -> int:
    """Returns the peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def main() -> None:
    """Measures each given number of rows."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "few.jsonl", 100)
        for count in map(int, sys.argv[1:]):
            path = Path(folder) / f"{count}.jsonl"
            characters = write(path, count)
            command = [sys.executable, __file__, "--measure", str(path)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            before, after, tokens, seconds = json.loads(output)
            print(
                f"{count:,} rows, {characters / 1e6:.0f} million characters, {tokens / 1e6:.1f} million tokens: "
                f"{after - before} MiB on top of {before}, {seconds:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
    else:
        main()
