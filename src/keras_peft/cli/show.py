"""keras-peft show: describes a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from keras_peft.cli.arguments import BundleName


def show(
    bundle: BundleName,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """Show the contents of a bundle and verify its files."""
    from keras_peft import bundle as bundles
    from keras_peft.bundle import describe_placements
    from keras_peft.cli.console import out, print_json, scores_table, table

    found = bundles.read(bundle)
    content, report = dict(found.content), found.report()
    if as_json:
        print_json({**content, "report": report})
        return
    base = content["base"]
    plan = report["plan"]
    size = sum(file.stat().st_size for file in found.folder.iterdir())
    facts = {
        "task": f"{content['task']}, {len(found.labels)} labels",
        "base": f"{base['name']} ({base['architecture']}, sha256 {base['sha256'][:12]}…)",
        **describe_placements(content["parts"]),
        "trained": f"{plan['trainable_parameters']:,} of {plan['total_parameters']:,} parameters",
        "data": _data(content["data"]),
        "max length": f"{content['max_length']} tokens",
        "verified": "reloaded, logits differ by at most "
        f"{content['verification']['reloaded']['max_abs_logit_difference']:.1e}",
        "size": f"{size / 2**20:.2f} MB, all files unmodified",
        "versions": ", ".join(f"{key} {value}" for key, value in content["versions"].items()),
    }
    out.print(table(str(bundle), ("", ""), ((key, value) for key, value in facts.items()), left=2))
    if report["validation"]["rows"]:
        out.print(scores_table("Scores on validation", report["validation"]))


def _data(data: Mapping[str, Any]) -> str:
    rows = data["training_rows"]
    return f"{data['source']}, {rows} training rows" if rows else f"imported from {data['source']}"
