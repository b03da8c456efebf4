"""keras-peft explain: shows the words behind a bundle's decisions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras_peft.cli.arguments import AdapterName, BaseLocation, BundleName, EngineName
from keras_peft.engines import AUTO
from keras_peft.errors import OptionError
from keras_peft.printable import printable

if TYPE_CHECKING:
    from rich.text import Text

    from keras_peft.explanation import Explanation

_MOST_WORDS = 10
_MOST_OTHERS = 4
# Length of a bar on either side of its middle, in characters.
_HALF = 10
# Minimum share of the largest weight, and the styles from there on. Underline and bold also show
# without colour.
_STYLES = (
    (0.6, "bold reverse blue", "bold reverse underline red"),
    (0.3, "bold blue", "bold underline red"),
    (0.1, "blue", "underline red"),
)


def explain(
    bundle: BundleName,
    texts: Annotated[
        list[str], typer.Argument(help="Texts to explain; for pairs, two texts each.", show_default=False)
    ],
    label: Annotated[
        str | None,
        typer.Option(help="Label to explain.", show_default="the most probable label of each text"),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Also write the explanation to this HTML file.", show_default=False)
    ] = None,
    base: BaseLocation = None,
    engine: EngineName = AUTO,
    adapter: AdapterName = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing HTML file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """Show which words of a text a bundle's prediction depends on."""
    from keras_peft import bundle as bundles
    from keras_peft.cli.console import err, open_classifier, out, print_json, row_bar
    from keras_peft.explanation import UNIT, as_html, check_explainable
    from keras_peft.explanation import explain as explain_texts
    from keras_peft.files import refuse_existing, whole_file

    described = bundles.describe(bundle, adapter)
    check_explainable(described.task(), label)
    if html:
        refuse_existing(html, overwrite=overwrite, error=OptionError, option="html")
    if html and not html.parent.is_dir():
        raise OptionError(
            f"--html {html}: the folder {html.parent} does not exist; create it, or choose another one."
        )
    rows = _rows(texts, described.columns[:-1])

    classifier = open_classifier(bundle, described, base, engine)
    with row_bar("Explaining") as bars:
        task = bars.add_task("", total=len(rows))
        explained = explain_texts(
            classifier, rows, label=label, advance=lambda done: bars.advance(task, done)
        )
    if html:
        with whole_file(html) as file:
            file.write(as_html(explained, str(bundle)))
    if as_json:
        print_json({"unit": UNIT, "explanations": [explanation.to_json() for explanation in explained]})
        return
    for number, explanation in enumerate(explained):
        if number:
            out.print()
        _print(explanation)
    if html:
        err.print(f"Written to {html}", soft_wrap=True)


def _rows(texts: list[str], columns: tuple[str, ...]) -> list[list[str]] | list[str]:
    """Groups texts into pairs if the bundle reads pairs."""
    if len(texts) % len(columns):
        raise OptionError(
            f"This bundle reads {len(columns)} texts per row ({', '.join(columns)}), but the number of texts is "
            f"{len(texts)}; pass the texts of each row one after the other."
        )
    if len(columns) == 1:
        return texts
    return [list(row) for row in zip(*[iter(texts)] * len(columns), strict=True)]


def _print(explanation: Explanation) -> None:
    """Prints the text with its words marked, and a table of the strongest words."""
    from rich.text import Text

    from keras_peft.cli.console import out, table

    others = [
        f"{label} {probability:.3f}"
        for label, probability in explanation.probabilities.items()
        if label != explanation.label
    ]
    out.print(
        Text(printable(f"{explanation.label} {explanation.probability:.3f}"), style="bold"),
        Text(printable("  " + ", ".join(others[:_MOST_OTHERS])), style="dim"),
        soft_wrap=True,
    )
    for part in range(len(explanation.texts)):
        out.print(_marked(explanation, part), soft_wrap=True)
    strongest = explanation.strongest(_MOST_WORDS)
    lines = (
        (word.text, _bar(weight / explanation.scale), f"{weight:+.2f}", f"{word.without:.3f}")
        for word, weight in strongest
    )
    out.print(table(None, ("word", "   against│for", "weight", "without it"), lines, left=2))
    if explanation.is_withheld:
        out.print(
            f"The classifier abstains: no label reaches the required probability of {explanation.abstain_below:.3f}.",
            soft_wrap=True,
        )
    if explanation.run_length > 1:
        out.print(
            f"The text is long, so up to {explanation.run_length} words are left out together.",
            soft_wrap=True,
        )
    if explanation.unread:
        words = "1 word" if explanation.unread == 1 else f"{explanation.unread} words"
        verb = "was" if explanation.unread == 1 else "were"
        out.print(f"The text was truncated: {words} at its end {verb} not read.", soft_wrap=True)


def _marked(explanation: Explanation, part: int) -> Text:
    """Colours the words of a text by their weights."""
    from rich.text import Text

    marked = Text()
    for part_of_text, word in explanation.pieces(part):
        piece = printable(part_of_text, lines=True)
        if word is None:
            marked.append(piece)
        elif word.weight is None:
            marked.append(piece, style="dim strike")
        else:
            marked.append(piece, style=_style(word.weight / explanation.scale))
    return marked


def _style(share: float) -> str:
    for least, speaks_for, speaks_against in _STYLES:
        if abs(share) >= least:
            return speaks_for if share > 0 else speaks_against
    return ""


def _bar(share: float) -> str:
    """Draws a bar to the right for words in favour of the label, to the left for words against it."""
    length = round(abs(share) * _HALF)
    against, speaks_for = ("", "█" * length) if share > 0 else ("░" * length, "")
    return f"{against:>{_HALF}}│{speaks_for:<{_HALF}}"
