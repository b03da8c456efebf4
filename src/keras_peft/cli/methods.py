"""keras-peft methods: lists the available methods."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from keras_peft.options import default_text


def methods(
    name: Annotated[
        str | None, typer.Argument(help="Method to show the options of.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """List the methods, or show the options of one."""
    from keras_peft import methods as shelf
    from keras_peft.cli.console import out, print_json, table

    found = [shelf.find(one) for one in ([name] if name else shelf.names())]
    described = [describe(method) for method in found]
    if as_json:
        print_json({"methods": described})
        return
    if name is None:
        rows = ((d["name"], d["title"], d["layers"], d["paper"]) for d in described)
        out.print(table(None, ("method", "", "blocks", "paper"), rows, left=4))
        return
    (one,) = described
    out.print(f"{one['name']}  {one['summary']}", style="bold")
    out.print(
        f"{one['paper']}\nattaches to {', '.join(one['targets']) or 'the head only'}, blocks {one['layers']}; "
        f"learning rate {one['learning_rate']:g}, of the head {one['head_learning_rate']:g}"
    )
    options = (
        (f"--{p['name'].replace('_', '-')}", default_text(p["default"]), p["help"]) for p in one["parameters"]
    )
    out.print(table(None, ("option", "default", ""), options, left=3))


def describe(method: type[Any]) -> dict[str, Any]:
    """Returns the description of a method, for the docs and for --json.

    Args:
        method: The class of the method.
    """
    return {
        "name": method.name,
        "title": method.title,
        "summary": (method.__doc__ or "").strip().splitlines()[0],
        "paper": method.paper,
        "targets": list(method.default_targets),
        "layers": method.default_layers,
        "learning_rate": method.learning_rate,
        "head_learning_rate": method.head_learning_rate,
        "starts_as_identity": method.starts_as_identity,
        "merges": method.merges,
        "supports_mixed_batch": method.supports_mixed_batch,
        "quantised": method.quantised,
        "generates": method.generates,
        "hugging_face": method.hugging_face,
        "parameters": [
            {"name": field.name, "default": field.default, "help": field.metadata["help"]}
            for field in dataclasses.fields(method)
            if field.metadata["flag"]
        ],
    }
