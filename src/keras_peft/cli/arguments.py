"""Arguments shared by several commands."""

from __future__ import annotations

from typing import Annotated

import typer

BundleName = Annotated[
    str,
    typer.Argument(
        metavar="BUNDLE",
        help="A folder that train wrote, or hf://owner/name of one on Hugging Face's hub.",
        show_default=False,
    ),
]
