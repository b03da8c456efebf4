"""keras-peft show: describes a bundle or an export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_peft.cli.arguments import AdapterName, BundleName

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.bundle.description import Description

_OF_OTHERS = (
    "report.html in this bundle is a web page that its author wrote, and a browser runs what it contains; open it only "
    "if you trust the author. What is shown here comes from report.json, which contains no code."
)


def show(
    bundle: BundleName,
    adapter: AdapterName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """Show the contents of a bundle or an export and verify its files."""
    from keras_peft import bundle as bundles
    from keras_peft.cli.console import err, out, print_json, scores_table, table
    from keras_peft.sources import hub

    found = bundles.describe(bundle, adapter)
    report = found.report() if isinstance(found, bundles.Bundle) else None
    if as_json:
        print_json({**found.content, **({} if report is None else {"report": report})})
        return
    facts = {
        "task": f"{found.content['task']}, {len(found.labels)} labels",
        "base": _base(found.content["base"]),
        **bundles.describe_placements(found.content["parts"]),
        **(
            _of_bundle(found, report)
            if isinstance(found, bundles.Bundle) and report is not None
            else _of_export(found)
        ),
    }
    out.print(table(str(bundle), ("", ""), ((key, value) for key, value in facts.items()), left=2))
    if report is not None and report.get("validation") and report["validation"]["rows"]:
        out.print(scores_table("Scores on validation", report["validation"]))
    if hub.is_hub_name(bundle):
        err.print(f"Note: {_OF_OTHERS}", style="yellow", soft_wrap=True)


def _of_bundle(found: Bundle, report: Mapping[str, Any]) -> dict[str, str]:
    from keras_peft.engines import chosen_engine

    content, plan = found.content, report.get("plan")
    engine, why = chosen_engine(found.base_name)
    return {
        **({"trained": _parameters(plan)} if plan else {}),
        "data": _data(content["data"]),
        "max length": f"{content['max_length']} tokens",
        **_verified(content["verification"].get("reloaded"), "reloaded,"),
        "engine": f"{engine}: {why}",
        "size": f"{_megabytes(found):.2f} MB, all files unmodified",
        "versions": ", ".join(f"{key} {value}" for key, value in content["versions"].items()),
    }


def _parameters(plan: Mapping[str, int]) -> str:
    return f"{plan['trainable_parameters']:,} of {plan['total_parameters']:,} parameters"


def _of_export(found: Description) -> dict[str, str]:
    content, verified = found.content, found.content["verification"]
    return {
        "data": _data(content["data"]),
        "max length": f"{content['max_length']} tokens",
        **({"format": f"{content['kind']}, {content['precision']}"} if "kind" in content else {}),
        **_verified(verified, f"in {verified.get('runtime')} on {verified.get('texts')} texts,"),
        "size": f"{_megabytes(found):.2f} MB, all files unmodified",
    }


def _verified(found: Mapping[str, Any] | None, how: str) -> dict[str, str]:
    if not found or "max_abs_logit_difference" not in found:
        return {}
    return {"verified": f"{how} logits differ by at most {found['max_abs_logit_difference']:.1e}"}


def _base(base: Mapping[str, Any]) -> str:
    return f"{base['name']} ({base['architecture']}, sha256 {base['sha256'][:12]}…)"


def _megabytes(found: Description) -> float:
    return sum(file.stat().st_size for file in found.folder.rglob("*") if file.is_file()) / 2**20


def _data(data: Mapping[str, Any]) -> str:
    rows, source = data.get("training_rows"), data.get("source", "unknown")
    return f"{source}, {rows} training rows" if rows else f"imported from {source}"
