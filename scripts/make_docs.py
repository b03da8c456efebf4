"""Generates the parts of the documentation that describe the code.

    python scripts/make_docs.py            write
    python scripts/make_docs.py --check    fail if a file would change

The pages of `docs/reference/` are generated completely; in other pages, the parts between two markers.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# The protocols in the order of the documentation.
ROUTES = (
    "tei",
    "openai",
    "hugging_face",
    "kserve",
    "triton",
    "tensorflow",
    "explanation",
    "adapters",
    "repository",
    "vllm",
    "probes",
    "metrics",
    "page",
)
# The names of the two directions in the results.
DIRECTIONS = {"there to here": "imported", "here to there": "exported"}
# Names in the tables of some methods in the results.
SHOWN_AS = {"its head": "imported classifier", "OFT, exact": "OFT, Cayley"}
REPOSITORY = "https://github.com/keras-peft/keras-peft/blob/main"
RESULTS_NOTE = f"""\
Test accuracy on the [sample conversations]({REPOSITORY}/examples/conversations.jsonl)
with each method's defaults on the default base: the mean of two or three seeds, with the lowest and highest value in
brackets. Each seed holds out a different fifth of the rows, which is 48 rows. One row changes the accuracy by about
0.02, so most differences between neighbouring rows of the table are within the spread of the seeds. The trainable
parameters include the 149,380 of the head. The seconds are those of one training run, including the time for the
frozen blocks, on one core of a server processor that also did other work. Measured by
`python benchmarks/methods.py examples/conversations.jsonl --store`.
[Decision 3](../internals/decisions/0003-training-defaults.md) describes how the learning rates were found.\
"""
METHOD_NOTE = """\
The options below `--config` are those of the default method, `lora`. [Methods](methods.md) lists the options of the
other methods.\
"""


def method_table() -> str:
    """A row for each method: its description and paper."""
    from keras_peft import methods

    rows = ["| name | method | paper |", "|---|---|---|"]
    for name in methods.names():
        method = methods.find(name)
        rows.append(f"| [`{name}`](#{name}) | {method.title} | {method.paper} |")
    return "\n".join(rows)


def place_table() -> str:
    """A row for each method: its default sites."""
    from keras_peft import methods

    rows = ["| method | attaches to | blocks |", "|---|---|---|"]
    for name in methods.names():
        method = methods.find(name)
        targets = ", ".join(
            "every layer" if target == "." else f"`{target}`" for target in method.default_targets
        )
        rows.append(f"| `{name}` | {targets or 'the head only'} | {method.default_layers} |")
    return "\n".join(rows)


def ability_table() -> str:
    """A row for each method: its abilities, which are declared by its class and verified by the tests."""
    from keras_peft import methods
    from keras_peft.cli.methods import describe

    abilities = {
        "starts_as_identity": "starts as the identity",
        "merges": "merge",
        "supports_mixed_batch": "mixed batch",
        "quantised": "quantised base",
        "generates": "decoder, cached generation",
    }
    rows = [
        f"| method | {' | '.join(abilities.values())} | in HF PEFT |",
        "|---" * (len(abilities) + 2) + "|",
    ]
    for name in methods.names():
        described = describe(methods.find(name))
        cells = ["yes" if described[ability] else "no" for ability in abilities]
        rows.append(f"| `{name}` | {' | '.join(cells)} | {described['hugging_face'] or ''} |")
    return "\n".join(rows)


def result_table() -> str:
    """A row for each method: its accuracy, as measured by benchmarks/methods.py."""
    from keras_peft import methods

    rows = json.loads((ROOT / "benchmarks" / "results" / "methods.json").read_text(encoding="utf-8"))
    found = {(row["data"], row["method"]): row for row in rows}
    sets = sorted({row["data"] for row in rows})
    lines = [
        f"| method | learning rate | {' | '.join(f'parameters | {data} | seconds' for data in sets)} |",
        "|---" * (2 + 3 * len(sets)) + "|",
    ]
    measured = [name for name in methods.names() if all((data, name) in found for data in sets)]
    for name in sorted(measured, key=lambda name: -mean_accuracy(found[sets[0], name])):
        cells = [f"`{name}`", f"{methods.find(name).learning_rate:g}"]
        for row in (found[data, name] for data in sets):
            if row["learning_rate"] != methods.find(name).learning_rate:
                sys.exit(
                    f"The results of {name} are of another learning rate; run benchmarks/methods.py --store."
                )
            spread = f"{mean_accuracy(row):.3f} ({min(row['accuracies']):.3f}–{max(row['accuracies']):.3f})"
            cells += [f"{row['parameters']:,}", spread, f"{row['seconds']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    if missing := sorted(set(methods.names()) - set(measured)):
        lines += ["", f"Not measured yet: {', '.join(f'`{name}`' for name in missing)}."]
    return "\n".join(lines)


def mean_accuracy(row: dict[str, Any]) -> float:
    """The mean over the seeds."""
    return statistics.mean(row["accuracies"])


def methods_page() -> str:
    """The docstring and options of each method."""
    from keras_peft import methods
    from keras_peft.cli.methods import describe
    from keras_peft.options import default_text

    parts = [
        "# Methods",
        "",
        method_table(),
        "",
        "## Where each method attaches",
        "",
        place_table(),
        "",
        "A method attaches to layers with certain *roles*, such as `attention.query`, which are the same on every",
        "architecture. A role that an architecture does not have is skipped. `last:2` means the last two blocks.",
        "`--targets` selects other roles and `--layers` selects other blocks.",
        "",
        "## What each method can do",
        "",
        ability_table(),
        "",
        "The columns:",
        "",
        "- *starts as the identity*: a new adapter does not change the base's outputs.",
        "- *merge*: the adapter can be merged into the base's weights.",
        "- *mixed batch*: a batch can contain rows of this adapter and of others.",
        "- *quantised base*: the base can have quantised weights.",
        "- *decoder, cached generation*: the method works when a language model generates text with a cache.",
        "- *in HF PEFT*: the same method in HF PEFT. Equal weights give equal hidden states, to 1e-5 of the largest",
        "  value.",
        "",
        "If a method does not support something, it raises an error that says why.",
        "",
        "## Accuracy of each method",
        "",
        RESULTS_NOTE,
        "",
        result_table(),
        "",
        "## Notation",
        "",
        "The rest of this page describes each method and its options. In the equations, a projection is a dense layer",
        "of the base. W is its frozen kernel of shape (in, out), b its bias, x its input and y its output. *dim* is",
        "the width of the base's hidden states.",
    ]
    for name in methods.names():
        method = methods.find(name)
        described = describe(method)
        equation = inspect.getdoc(inspect.getmodule(method)) or ""
        body = re.split(r"\n(?:Args|Example):", inspect.getdoc(method) or "")[0].rstrip()
        parts += ["", f"## `{name}`", "", equation, "", body]
        if described["parameters"]:
            parts += ["", "| option | default | description |", "|---|---|---|"]
        parts += [
            f"| `--{p['name'].replace('_', '-')}` | {default_text(p['default'])} | {p['help']} |"
            for p in described["parameters"]
        ]
        parts += ["", f"Default learning rate: {described['learning_rate']:g}."]
    return "\n".join(parts) + "\n"


def command_page() -> str:
    """The arguments and options of every command."""
    import typer

    from keras_peft.cli.application import build

    application = typer.main.get_command(build([]))
    parts = ["# Command line", "", "`keras-peft COMMAND --help` prints the same text.", ""]
    parts += ["| command | description |", "|---|---|"]
    parts += [
        f"| [`{name}`](#keras-peft-{name}) | {found.help} |" for name, found in application.commands.items()
    ]
    headed = {}
    for name, found in application.commands.items():
        headed[name] = found  # a group, followed by its commands
        headed |= {f"{name} {inner}": command for inner, command in getattr(found, "commands", {}).items()}
    for name, found in headed.items():
        parts += ["", f"## keras-peft {name}", "", found.help]
        if hasattr(found, "commands"):
            continue
        parts += ["", "| argument or option | default | description |", "|---|---|---|"]
        for parameter in found.params:
            if parameter.param_type_name == "argument":
                parts.append(f"| `{parameter.name.upper()}` | | {parameter.help} |")
            elif "--help" not in parameter.opts:
                flags = "`, `".join([*parameter.opts, *parameter.secondary_opts])
                parts.append(f"| `{flags}` | {default_of(parameter)} | {parameter.help} |")
        if any(parameter.name == "method" for parameter in found.params):
            parts += ["", METHOD_NOTE]
    return "\n".join(parts) + "\n"


def default_of(parameter: Any) -> str:
    """The default of an option, formatted for the page."""
    if parameter.required:
        return "required"
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if parameter.default is None:
        return ""
    if isinstance(parameter.default, bool):
        return "on" if parameter.default else "off"
    return str(parameter.default)


# A class in several layers, all of which are its documentation.
_INHERITED = {"keras_peft.AdaptedModel": "\n    options:\n      inherited_members: true"}


def python_page() -> str:
    """Every public name; mkdocstrings inserts the docstrings when the site is built."""
    import keras_peft
    from keras_peft import interop, methods, sklearn

    sections = {
        "Adapt a Keras model": ("attach", "core", "adapter_files", "arithmetic", "sources"),
        "Train and predict": (
            "training",
            "sweeping",
            "sharding",
            "predict",
            "many",
            "forms",
            "labelling",
            "bars",
            "progress",
            "sklearn",
            "comparing",
            "explanation",
            "data",
            "checking",
            "pushing",
        ),
        "Exchange with other libraries": ("interop", "merging"),
        "Errors": ("errors",),
        "Methods": ("methods",),
    }
    # Names in both modules are listed by the shorter path.
    exported = {name: f"keras_peft.{name}" for name in keras_peft.__all__}
    for package in (interop, methods, sklearn):
        names = [name for name in getattr(package, "__all__", ()) if name.lower() not in ("locate", "method")]
        exported = {name: f"{package.__name__}.{name}" for name in names} | exported
    found: dict[str, list[str]] = {title: [] for title in sections}
    for name, path in sorted(exported.items(), key=lambda pair: pair[0].lower()):
        value = getattr(importlib.import_module(path.rpartition(".")[0]), name)
        if inspect.ismodule(value):
            continue
        if home := getattr(value, "__module__", ""):
            room = home.split(".")[1]
            (title,) = [title for title, rooms in sections.items() if room in rooms]
            found[title].append(path)
    parts = [
        "# Python API",
        "",
        "[Methods](methods.md) describes all methods and their options. The most common ones are also listed at the",
        "end of this page. The others are classes in `keras_peft.methods`, such as `keras_peft.methods.LoHa`.",
    ]
    for title, paths in found.items():
        parts += ["", f"## {title}", *[f"\n::: {path}{_INHERITED.get(path, '')}" for path in paths]]
    return "\n".join(parts) + "\n"


def forms_table() -> str:
    """A row for each form of labelled text in the tests: who writes it, and how it is read or refused."""
    from keras_peft.data.examples import read_examples
    from keras_peft.errors import DataError

    folder = ROOT / "tests" / "data" / "forms"
    forms = json.loads((folder / "forms.json").read_text(encoding="utf-8"))
    lines = ["| Written by | What | File | Read as |", "|---|---|---|---|"]
    for form in sorted(forms, key=lambda one: one["tool"].lower()):
        path = folder / form["file"]
        try:
            found = read_examples(path, **form.get("options", {})).reading
        except DataError as error:
            read = f"refused: {_escaped(str(error).replace(str(folder) + '/', ''))}"
        else:
            options = [
                f"`--{name.replace('_', '-')} {value}`" for name, value in form.get("options", {}).items()
            ]
            left_out = ", ".join(f"{count} {reason}" for reason, count in found.left_out.items())
            counted = (
                ""
                if found.labels is None
                else f", {found.labels} {'tags' if found.task.per_word else 'labels'}"
            )
            read = f"{found.task.name} ({_escaped(found.why)}){counted}"
            read += f"; left out: {left_out}" if left_out else ""
            read += f"; with {', '.join(options)}" if options else ""
        lines.append(f"| {form['tool']} | {_escaped(form['writes'])} | `{form['file']}` | {read} |")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Text for a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def formats_page() -> str:
    """docs/reference/formats.md with the current table."""
    return filled("docs/reference/formats.md", {"forms": forms_table()})


def serving_page() -> str:
    """docs/guides/serving.md with the current routes, metrics and events."""
    tables = {"routes": route_table(), "metrics": metric_table(), "events": event_table()}
    return filled("docs/guides/serving.md", tables)


def measured_serving_page() -> str:
    """docs/benchmarks/serving.md with the measurements."""
    parts = {name: figures_of(name) for name in ("soak", "thousand", "attack")}
    parts["figures"] = serving_figures()
    return filled("docs/benchmarks/serving.md", parts)


def route_table() -> str:
    """A row for each route: its protocol and its description."""
    from keras_peft.serve.http import routes

    rows = ["| protocol | route | what it does |", "|---|---|---|"]
    for module in (importlib.import_module(f"{routes.__name__}.{one}") for one in ROUTES):
        for router in (getattr(module, name) for name in ("router", "control") if hasattr(module, name)):
            for route in router.routes:
                methods = sorted(set(route.methods) - {"HEAD"})
                if route.include_in_schema and methods:
                    does = (inspect.getdoc(route.endpoint) or "").splitlines()[0]
                    rows.append(f"| {route.tags[0]} | `{methods[0]} {route.path}` | {does} |")
    return "\n".join(rows)


def metric_table() -> str:
    """A row for each metric of the server."""
    from prometheus_client.metrics import MetricWrapperBase

    from keras_peft.serve.metrics import Metrics

    rows = ["| metric | labels | what it is |", "|---|---|---|"]
    for collector in vars(Metrics()).values():
        if isinstance(collector, MetricWrapperBase):
            (metric,) = collector.describe()
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            labels = ", ".join(f"`{label}`" for label in collector._labelnames)
            rows.append(f"| `{name}` | {labels} | {metric.documentation} |")
    return "\n".join(rows)


def event_table() -> str:
    """A row for each event in the life of the server."""
    from keras_peft.serve.events import EVENTS

    rows = (f"| `{event}` | {description} |" for event, description in EVENTS.items())
    return "\n".join(["| event | what it says |", "|---|---|", *rows])


def serving_figures() -> str:
    """The results of benchmarks/serving."""
    from benchmarks.serving import tables
    from benchmarks.serving.results import Results
    from benchmarks.speed.tables import machine

    results = Results(ROOT / "benchmarks" / "results" / "serving.json", None)
    if not results.scenes:
        return "Not measured yet: `make bench-serve`."
    return "\n\n".join([machine(results.machine), tables.summary(results), tables.sections(results)])


def figures_of(name: str) -> str:
    """The results of a measurement in benchmarks/serving/, from the file of its name."""
    from benchmarks.serving import tables

    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    if not path.is_file():
        return f"Not measured yet: `make {name}`."
    return str(getattr(tables, name)(json.loads(path.read_text(encoding="utf-8"))))


def exchange_page() -> str:
    """docs/guides/exchange.md with the supported settings."""
    from keras_peft.interop import adapter_hub, hf_peft

    kinds = {kind.__name__.rpartition(".")[2]: kind for kind in adapter_hub.kinds()}
    return filled(
        "docs/guides/exchange.md",
        {
            "settings": settings_table("`peft_type`", "ignored: affects training only", hf_peft.kinds()),
            "settings of AdapterHub": settings_table(
                "adapter", "ignored: given by the tensors, or without effect", kinds
            ),
        },
    )


def measured_exports_page() -> str:
    """docs/benchmarks/exports.md with the measurements of benchmarks/exports."""
    from benchmarks.exports import tables

    stored = json.loads((ROOT / "benchmarks" / "results" / "exports.json").read_text(encoding="utf-8"))
    return filled("docs/benchmarks/exports.md", {"measurements": tables.all_of(stored)})


def measured_methods_page() -> str:
    """docs/benchmarks/methods.md with the measurements of benchmarks/comparison."""
    from benchmarks.comparison import __main__ as comparison

    return filled("docs/benchmarks/methods.md", {"measurements": comparison.tables(comparison.load())})


def at_scale_page() -> str:
    """docs/benchmarks/at-scale.md with the costs and the simulation of benchmarks/at_scale."""
    from benchmarks.at_scale import tables

    results = ROOT / "benchmarks" / "results"
    stored = (
        json.loads((results / f"{name}.json").read_text()) for name in ("at_scale", "serving", "thousand")
    )
    return filled("docs/benchmarks/at-scale.md", tables.tables(*stored))


def measured_few_rows_page() -> str:
    """docs/benchmarks/few-rows.md with the measurements of benchmarks/few_rows.py."""
    from benchmarks import few_rows

    stored = json.loads(few_rows.RESULTS.read_text(encoding="utf-8"))
    return filled("docs/benchmarks/few-rows.md", {"measurements": few_rows.tables(stored)})


def measured_exchange_page() -> str:
    """docs/benchmarks/exchange.md with the measurements of tests/interop."""
    return filled(
        "docs/benchmarks/exchange.md",
        {
            "differences": difference_table("interop.json"),
            "differences of language models": difference_table("interop_decoders.json"),
            "differences of whole models": difference_table("interop_models.json"),
            "differences from SetFit": difference_table("interop_setfit.json"),
            "differences from AdapterHub": difference_table("interop_adapter_hub.json"),
        },
    )


def settings_table(what: str, others: str, modules: Mapping[str, Any]) -> str:
    """A row for each kind of adapter in another library: the supported keys of its configuration."""
    rows = [f"| {what} | read (default when missing) | accepted with this value only | {others} |"]
    rows += ["|---|---|---|---|"]
    for name, module in sorted(modules.items()):
        known = module.SETTINGS
        cells = [
            ", ".join(f"`{key}` {json.dumps(value)}" for key, value in sorted(values.items()))
            for values in (known.used, known.fixed)
        ]
        rows.append(
            f"| {name} | {' | '.join(cells)} | {', '.join(f'`{key}`' for key in sorted(known.training))} |"
        )
    return "\n".join(rows)


def difference_table(file: str) -> str:
    """A row for each method: the largest difference between logits for each architecture and direction."""
    path = ROOT / "benchmarks" / "results" / file
    if not path.is_file():
        return "Not measured yet: `make test-interop`."
    content = json.loads(path.read_text(encoding="utf-8"))
    for row in content["rows"]:
        row["method"] = SHOWN_AS.get(row["method"], row["method"])
        row["method"] += f" ({row['task']})" if "task" in row else ""
    found = {(row["method"], row["architecture"], row["direction"]): row for row in content["rows"]}
    columns = list(dict.fromkeys((row["architecture"], row["direction"]) for row in content["rows"]))
    columns.sort(key=lambda column: (column[0] != "distilbert", column[0], column[1] != "there to here"))
    lines = [
        f"| method | {' | '.join(f'{architecture}, {DIRECTIONS[direction]}' for architecture, direction in columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for method in sorted({row["method"] for row in content["rows"]}, key=str.lower):
        rows = [found.get((method, *column)) for column in columns]
        cells = [f"{row['difference'] / row['largest_logit']:.0e}" if row else "" for row in rows]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    return "\n".join([*lines, "", f"Measured with {versions}."])


def security_page() -> str:
    """SECURITY.md with the results of `make fuzz`."""
    sys.path.insert(0, str(ROOT / "tests"))  # to import the fuzz suite
    from fuzz import tables

    path = ROOT / "benchmarks" / "results" / "fuzz.json"
    if not path.is_file():
        return filled("SECURITY.md", {"tried": "Not measured yet: `make fuzz`."})
    return filled("SECURITY.md", {"tried": tables.of_security(json.loads(path.read_text(encoding="utf-8")))})


def house_page() -> str:
    """docs/internals/house.md with the current diagram."""
    from scripts import house

    return filled("docs/internals/house.md", {"picture": house.picture(), "rooms": house.table()})


def filled(page: str, parts: dict[str, str]) -> str:
    """A page with new text between its markers."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for name, body in parts.items():
        begin, end = f"<!-- {name}: generated -->", f"<!-- /{name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(text):
            sys.exit(f"{page} has no {begin} … {end}")
        text = pattern.sub(lambda _, whole=f"{begin}\n{body}\n{end}": whole, text)
    return text


def main() -> None:
    """Writes or checks every page."""
    sys.path.insert(0, str(ROOT))  # to import the benchmarks
    from scripts import keras_pages

    pages = {
        "docs/reference/methods.md": methods_page(),
        "docs/reference/command-line.md": command_page(),
        "docs/reference/python.md": python_page(),
        "docs/reference/formats.md": formats_page(),
        "docs/reference/keras-features.md": keras_pages.features_page(),
        "docs/tutorials/keras-io.md": keras_pages.tutorials_page(),
        "docs/guides/serving.md": serving_page(),
        "docs/guides/exchange.md": exchange_page(),
        "docs/benchmarks/serving.md": measured_serving_page(),
        "docs/benchmarks/few-rows.md": measured_few_rows_page(),
        "docs/benchmarks/methods.md": measured_methods_page(),
        "docs/benchmarks/at-scale.md": at_scale_page(),
        "docs/benchmarks/exports.md": measured_exports_page(),
        "docs/benchmarks/exchange.md": measured_exchange_page(),
        "docs/internals/house.md": house_page(),
        "SECURITY.md": security_page(),
    }
    stale = []
    for name, text in pages.items():
        path = ROOT / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
    if stale and "--check" in sys.argv:
        sys.exit(f"Out of date: {', '.join(stale)}; run 'make docs'.")


if __name__ == "__main__":
    main()
