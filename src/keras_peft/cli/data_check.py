"""keras-peft data check: finds problems in labelled text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_peft import tasks
from keras_peft.cli.setting_flags import with_settings
from keras_peft.data.readers import READABLE
from keras_peft.data.reading_options import ReadingOptions

if TYPE_CHECKING:
    from keras_peft.data.check import DataReport, Finding

_MOST_LABELS = 30
_BAR = 20
# Options of `train` that the advice mentions.
_ADVISED = ("max_length", "skip_bad_rows", "merge_labels")


def _check(
    file: Annotated[Path, typer.Argument(help=f"A {READABLE}.", show_default=False)],
    validation: Annotated[
        Path | None, typer.Option(help="A validation file; texts that occur in both files are reported.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Base whose tokenizer counts the tokens.", show_default="minilm")
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option(
            help="A bundle or hf://owner/name; lists the rows whose labels it finds least probable."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help=f"Task: {', '.join(tasks.names())}.", show_default="inferred from the columns and labels"
        ),
    ] = None,
    similarity: Annotated[float, typer.Option(help="Minimum similarity of near duplicates, up to 1.")] = 0.9,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 1 if anything is found.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
    *,
    settings: ReadingOptions,
) -> None:
    """Check labelled text for problems that would harm training."""
    from keras_peft.checking import check_data
    from keras_peft.cli.console import err, print_json

    err.print(f"Checking {file} …", style="dim", soft_wrap=True)
    if bundle is not None:
        from keras_peft.cli.process import quiet_import

        with quiet_import(presets=False):
            import keras  # noqa: F401  (imported here to be quiet)
    report = check_data(
        file,
        validation=validation,
        base=base,
        bundle=bundle,
        task=task,
        similarity=similarity,
        **settings.to_options(),
    )
    if as_json:
        print_json(report.to_json())
    else:
        _show(report)
    if strict and report.findings:
        raise typer.Exit(1)


check = with_settings(_check, ReadingOptions)


def _show(report: DataReport) -> None:
    from keras_peft.cli.console import out, show_reading

    show_reading(Path(report.source).name, report.reading, out)
    _show_labels(report, report.facts("labels"))
    lengths = report.facts("lengths")
    out.print(
        f"Tokens of {lengths['base']}: median {lengths['median']:,}, 95% up to {lengths['percentile_95']:,}, longest "
        f"{lengths['longest']:,}; {lengths['over_default']:,} over {lengths['default_limit']}, "
        f"{lengths['over_limit']:,} over the limit of {lengths['base']} ({lengths['limit']})",
        soft_wrap=True,
    )
    shares = report.facts("scripts")["shares"]
    if shares:
        words = (f"{script} {share:.1%}" for script, share in list(shares.items())[:6])
        out.print(f"Letters: {', '.join(words)}", soft_wrap=True)
    repeats = report.facts("duplicates")
    if repeats["compared"] < repeats["of"]:
        out.print(
            f"Near duplicates: searched among {repeats['compared']:,} of {repeats['of']:,} texts, chosen at random",
            soft_wrap=True,
        )
    if not report.findings:
        out.print("\nNo problems found.", style="green")
        return
    count = len(report.findings)
    out.print(f"\n{count} finding{'s' if count > 1 else ''}", style="bold")
    for finding in report.findings:
        _show_finding(finding)
    out.print("\nFor all row numbers, use --json", style="dim")


def _show_finding(finding: Finding) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from keras_peft.cli.console import out
    from keras_peft.cli.wording import as_flags
    from keras_peft.printable import printable

    out.print(f"\n• {finding.title}", style="yellow")
    for line in (line for text in finding.samples for line in text.splitlines()):
        out.print(
            Padding(Text(printable(line), style="dim", overflow="ellipsis", no_wrap=True), (0, 0, 0, 4))
        )
    out.print(Padding(Text(printable(f"→ {as_flags(finding.advice, _ADVISED)}")), (0, 0, 0, 2)))


def _show_labels(report: DataReport, facts: dict[str, Any]) -> None:
    from keras_peft.cli.console import out, table

    title = f"{report.source}: {report.rows:,} rows"
    if report.label_form == "number":
        rows = [(f"{bin_['from']:.3g} to {bin_['to']:.3g}", bin_["count"]) for bin_ in facts["histogram"]]
        title += f", values {facts['least']:g} to {facts['most']:g}, mean {facts['mean']:.3g}"
    else:
        rows = [(label, counted["count"]) for label, counted in facts["counts"].items()]
        title += f", {len(rows):,} {'tags' if report.label_form == 'tags' else 'labels'}"
    most, total = max((count for _, count in rows), default=0), sum(count for _, count in rows)
    shown = (
        (
            label,
            "█" * max(1, round(_BAR * count / most)) if count else "",
            f"{count:,}",
            f"{count / total:.1%}",
        )
        for label, count in rows[:_MOST_LABELS]
    )
    what = "value" if report.label_form == "number" else report.label_form.removesuffix("s")
    made = table(
        title, (what, "", "rows" if report.label_form != "tags" else "tokens", "share"), shown, left=2
    )
    if len(rows) > _MOST_LABELS:
        rest = sum(count for _, count in rows[_MOST_LABELS:])
        made.add_row(f"{len(rows) - _MOST_LABELS} more", "", f"{rest:,}", f"{rest / total:.1%}")
    out.print(made)
