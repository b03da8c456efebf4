"""Peer: the first answer of `transformers.pipeline`.

python benchmarks/peers/first_answer.py --model FOLDER
"""

from __future__ import annotations

import argparse
import json


def main() -> None:
    """Loads a classifier and prints its answer for one text."""
    import transformers

    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    options = parser.parse_args()
    classify = transformers.pipeline("text-classification", model=options.model)
    print(json.dumps(classify("Which of the two is faster?")))


if __name__ == "__main__":
    main()
