"""The documentation page: only the part between two markers is generated."""

from __future__ import annotations

from pathlib import Path

from . import tables
from .results import Results

BEGIN, END = "<!-- speed: generated -->", "<!-- /speed -->"

_CAPTIONS = {
    "speed.png": "Training time of the three sides, by number of epochs and by number of rows",
    "scaling.png": "Peak memory of keras-peft by number of rows, and its training time by length of the texts",
}


def write(results: Results, page: Path, images: list[Path]) -> None:
    """Writes the results between the markers of the page.

    Raises:
        ValueError: If the page lacks the markers.
    """
    parts = [tables.machine(results.machine), tables.sections(results)]
    pictures = [f"![{_CAPTIONS[image.name]}](../images/{image.name})" for image in images]
    if pictures:
        parts += ["## Scaling", *pictures]
    _put(page, "\n\n".join(part for part in parts if part))


def write_summary(results: Results, page: Path) -> None:
    """Writes the ratios to the peers between the markers of README.md.

    Raises:
        ValueError: If the page lacks the markers.
    """
    _put(page, f"{tables.summary(results)}\n\n{tables.machine(results.machine)}")


def _put(page: Path, body: str) -> None:
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} must have {BEGIN} and {END}.")
    page.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}", encoding="utf-8")
