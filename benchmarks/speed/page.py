"""The page in docs/: what is written by hand stays, what is measured stands between two markers."""

from __future__ import annotations

from pathlib import Path

from . import tables
from .results import Results

BEGIN, END = "<!-- speed: generated -->", "<!-- /speed -->"

_CAPTIONS = {
    "speed.png": "Seconds of training of the three sides, against epochs and against rows",
    "scaling.png": "Peak memory of keras-peft against rows, and its time against the length of the texts",
}


def write(results: Results, page: Path, images: list[Path]) -> None:
    """Writes what is known between the markers of the page.

    Raises:
        ValueError: If the page lacks the markers.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} must have {BEGIN} and {END}.")
    parts = [tables.machine(results.machine), tables.sections(results)]
    pictures = [f"![{_CAPTIONS[image.name]}](images/{image.name})" for image in images]
    if pictures:
        parts += ["## How it grows", *pictures]
    body = "\n\n".join(part for part in parts if part)
    page.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}", encoding="utf-8")
