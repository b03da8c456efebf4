"""Rendering of the package's templates, such as pages and model cards."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2


@cache
def environment() -> jinja2.Environment:
    """Returns the Jinja environment of the package's templates."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("keras_peft"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
