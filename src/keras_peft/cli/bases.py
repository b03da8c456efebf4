"""keras-peft bases: lists the available bases."""

from __future__ import annotations

from typing import Annotated

import typer


def bases(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """List the built-in bases and explain how to use others."""
    from keras_peft.cli.console import out, print_json, table
    from keras_peft.sources import DEFAULT, embedded

    described = [
        {
            "name": name,
            "default": name == DEFAULT,
            "architecture": "distilbert",
            "description": entry.description,
            "parameters": entry.parameters,
            "licence": entry.licence,
            "source": entry.source,
            "sha256": entry.sha256["model.safetensors"],
            "prepared": embedded.is_prepared(name),
        }
        for name, entry in embedded.NAMES.items()
    ]
    if as_json:
        print_json({"bases": described})
        return
    rows = (
        (str(d["name"]), str(d["description"]), str(d["licence"]), f"{d['parameters'] / 1e6:.1f} M")
        for d in described
        if isinstance(d["parameters"], int)
    )
    out.print(table(None, ("base", "", "licence", "parameters"), rows, left=3))
    out.print(
        "Also accepted: a folder with a Hugging Face checkpoint (DistilBERT, BERT, RoBERTa, XLM-RoBERTa), hf://owner/name\n"
        "(with HF_TOKEN set for private and gated ones), a KerasHub preset's name, kaggle:// handle or folder."
    )
