"""Arguments shared by several commands."""

from __future__ import annotations

from typing import Annotated

import typer

BundleName = Annotated[
    str,
    typer.Argument(
        metavar="BUNDLE",
        help="A bundle's folder, or hf://owner/name of one on the Hugging Face Hub.",
        show_default=False,
    ),
]
BaseLocation = Annotated[
    str | None,
    typer.Option(help="Where to find the base model.", show_default="its location in training"),
]
EngineName = Annotated[
    str,
    typer.Option(
        help="What computes the predictions: onnx (ONNX Runtime, which starts faster), keras, or auto.",
        metavar="ENGINE",
    ),
]
Place = Annotated[
    str,
    typer.Option(
        "--on",
        help="Where the workers run: machine, or ray for a Ray cluster, which is started here if there is none.",
        metavar="PLACE",
    ),
]
AdapterName = Annotated[
    str | None,
    typer.Option(help="Name of the adapter, for an export of several adapters.", show_default=False),
]
Separator = Annotated[
    str | None,
    typer.Option(help="Separator of the values in a CSV or TSV file, or tab.", show_default="detected"),
]
EscapeFormulas = Annotated[
    bool,
    typer.Option(
        "--escape-formulas/--no-escape-formulas",
        help="Put an apostrophe before cells of CSV and TSV files that a spreadsheet would run as formulas; keras-peft "
        "removes it when it reads the file.",
    ),
]
TextColumn = Annotated[
    str | None,
    typer.Option(help="Column with the texts.", show_default="the column used in training"),
]
