"""Predictions into a folder of parts, for `keras-peft predict`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.data.predicted import TEXT_ENDINGS
from keras_peft.errors import OptionError
from keras_peft.places import MACHINE

if TYPE_CHECKING:
    from keras_peft.sharding.result import PredictedFiles

_PATTERN = "*?["
_MOST_LABELS = 20


def is_folder(output: str) -> bool:
    """Reports whether an output is a folder of parts rather than a file.

    It is one if it ends in a slash, is a folder already, is elsewhere, or has no file extension.

    Args:
        output: The output.

    Raises:
        OptionError: If it is neither.
    """
    path = Path(output)
    is_elsewhere = "://" in output
    if output.endswith(("/", "\\")) or path.is_dir():
        return True
    if path.suffix.lower() in TEXT_ENDINGS and not is_elsewhere:
        return False
    if path.suffix:
        raise OptionError(
            f"--output {output}: expected a file that ends in {', '.join(TEXT_ENDINGS)}, or a folder of parts, such as "
            f"{output}/."
        )
    return True


def refuse_folder_options(input: str | None, output: str | None, options: Mapping[str, Any]) -> None:
    """Refuses what only a folder of parts has.

    Args:
        input: The input.
        output: The output, which is not a folder.
        options: The options of a folder by name; None where they are not given.

    Raises:
        OptionError: If one is given.
    """
    for name, value in options.items():
        if value not in (None, MACHINE):
            raise OptionError(
                f"`{name}={value!r}` is for a folder of parts; set --output to one, such as predicted/, or remove it."
            )
    is_pattern = input is not None and not Path(input).exists() and any(one in input for one in _PATTERN)
    if input is not None and (is_pattern or "://" in input):
        raise OptionError(
            f"--input {input}: a pattern or an address needs a folder as --output, such as predicted/."
        )


def predict_folder(
    bundle: str,
    input: str,
    output: str,
    *,
    as_json: bool,
    rows_per_shard: int | None,
    **options: Any,
) -> None:
    """Predicts files into a folder of parts.

    Args:
        bundle: Name of the bundle.
        input: The files.
        output: The folder.
        as_json: Whether the result is printed as JSON.
        rows_per_shard: Number of rows in a shard, None for the default.
        options: Further arguments of `predict_files`.
    """
    from keras_peft.cli.console import ConsoleProgress, print_json
    from keras_peft.sharding.run import ROWS_PER_SHARD, predict_files

    progress = ConsoleProgress(options={*options, "rows_per_shard"})
    found = predict_files(
        bundle, input, output, rows_per_shard=rows_per_shard or ROWS_PER_SHARD, progress=progress, **options
    )
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)


def _show(found: PredictedFiles) -> None:
    """Prints a summary and how often each label was predicted."""
    from keras_peft.cli.console import out, table

    parts = f"{len(found.parts):,} part{'s' if len(found.parts) > 1 else ''}"
    earlier = f", {found.found_rows:,} of them by an earlier run" if found.found_rows else ""
    written = found.rows - found.found_rows
    rate = f" ({written / found.seconds:,.0f} rows per second)" if written and found.seconds else ""
    out.print(
        f"{found.folder}: {parts} with {found.rows:,} rows{earlier}; {found.seconds:,.1f} s{rate}",
        soft_wrap=True,
    )
    if not found.labels:
        return
    shown = list(found.labels.items())[:_MOST_LABELS]
    lines = ((label or "(none)", f"{count:,}", f"{count / found.rows:.1%}") for label, count in shown)
    made = table(None, ("label", "rows", ""), lines)
    if more := len(found.labels) - len(shown):
        made.add_row(f"… and {more:,} more", "", "")
    out.print(made)
