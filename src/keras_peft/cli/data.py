"""keras-peft data: checks, splits and generates labelled text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from keras_peft.cli.data_check import check
from keras_peft.cli.data_split import split
from keras_peft.errors import OptionError

if TYPE_CHECKING:
    from keras_peft.data.synthesis import DataGeneration, Generated, GenerationPlan

data = typer.Typer(no_args_is_help=True, help="Check, split and generate labelled text.")
data.command("check")(check)
data.command("split")(split)


def _print_prompt(asked: bool) -> None:
    if asked:
        from keras_peft.data.synthesis.prompt import own_template

        print(own_template(), end="")  # noqa: T201
        raise typer.Exit


@data.command("generate")
def generate(
    topic: Annotated[str, typer.Argument(help="Topic of the texts.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The .jsonl file to write.", show_default=False)],
    endpoint: Annotated[
        str,
        typer.Option(
            help="An OpenAI-compatible chat-completions endpoint: https://api.openai.com/v1, "
            "http://localhost:11434/v1, …",
            show_default=False,
        ),
    ],
    model: Annotated[str, typer.Option(help="Name of the model at the endpoint.", show_default=False)],
    rows: Annotated[int, typer.Option(help="Number of rows, balanced over the labels.")] = 100,
    labels: Annotated[
        str | None, typer.Option(help="Labels, separated by commas.", show_default=False)
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            help='A label and its description: news="something happened". Repeatable.', show_default=False
        ),
    ] = None,
    speakers: Annotated[
        str | None,
        typer.Option(
            help="Speakers of each text, separated by commas: Jon,Sumit.", show_default="plain texts"
        ),
    ] = None,
    subtopic: Annotated[
        list[str] | None,
        typer.Option(
            help="A subtopic; each request covers one of those given. Repeatable.", show_default=False
        ),
    ] = None,
    key_variable: Annotated[
        str, typer.Option(help="Environment variable with the API key, if one is needed.")
    ] = "OPENAI_API_KEY",
    prompt: Annotated[
        Path | None,
        typer.Option(
            help="File with a Jinja2 template for the requests.", show_default="the built-in template"
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="Sampling temperature of the model.", show_default="the endpoint's default"),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Maximum tokens per response.", show_default="the endpoint's default")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Random seed for the order of the rows and the variety of the requests; if given, it is also sent.",
            show_default="0, not sent",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(help="Rows per request.")] = 10,
    concurrency: Annotated[int, typer.Option(help="Number of concurrent requests.")] = 4,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for a response.")] = 120.0,
    retries: Annotated[
        int, typer.Option(help="Number of retries of a request after a temporary failure.")
    ] = 5,
    retry_delay: Annotated[
        float, typer.Option(help="Seconds before the first retry; doubles with each further one, up to 60.")
    ] = 1.0,
    max_requests: Annotated[
        int | None, typer.Option(help="Maximum number of requests.", show_default="3 × the minimum + 10")
    ] = None,
    min_characters: Annotated[int, typer.Option(help="Minimum characters per text.")] = 20,
    max_characters: Annotated[int, typer.Option(help="Maximum characters per text.")] = 500,
    similarity: Annotated[float, typer.Option(help="Minimum similarity of near duplicates, up to 1.")] = 0.7,
    input_price: Annotated[
        float | None,
        typer.Option(help="Price per million input tokens.", show_default=False),
    ] = None,
    output_price: Annotated[
        float | None, typer.Option(help="Price per million output tokens.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Start without asking for confirmation.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and the first request without sending anything.")
    ] = False,
    print_prompt: Annotated[
        bool,
        typer.Option(
            "--print-prompt",
            help="Print the built-in template, to edit and pass as --prompt, and exit.",
            is_eager=True,
            callback=_print_prompt,
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")] = False,
) -> None:
    """Generate labelled text with a language model: validated, balanced and without duplicates."""
    from keras_peft.cli.console import ConsoleProgress, err, print_json
    from keras_peft.cli.console import out as stdout
    from keras_peft.data.synthesis import DataGeneration

    generation = DataGeneration(
        topic=topic,
        labels=_labels(labels, label or []),
        rows=rows,
        out=out,
        endpoint=endpoint,
        model=model,
        speakers=_separated(speakers),
        subtopics=subtopic or [],
        key_variable=key_variable,
        prompt=prompt,
        temperature=temperature,
        max_tokens=max_tokens,
        seed=seed,
        batch=batch,
        concurrency=concurrency,
        timeout=timeout,
        retries=retries,
        retry_delay=retry_delay,
        max_requests=max_requests,
        min_characters=min_characters,
        max_characters=max_characters,
        similarity=similarity,
        input_price=input_price,
        output_price=output_price,
        overwrite=overwrite,
    )
    plan = generation.plan()
    if dry_run:
        if as_json:
            print_json(plan.to_json())
        else:
            stdout.print(_described(generation, plan), soft_wrap=True)
            stdout.print(f"\nThe first request:\n\n{plan.prompt}", soft_wrap=True)
        return
    err.print(_described(generation, plan), soft_wrap=True)
    if plan.requests and not yes:
        if not sys.stdin.isatty():
            raise OptionError(
                "stdin is not a terminal, so nobody can confirm the run; pass --yes, or preview it with --dry-run."
            )
        if not _agreed():
            err.print("Nothing was sent.")
            return
    made = generation.run(ConsoleProgress())
    if as_json:
        print_json(made.to_json())
    else:
        _show(made, priced=plan.cost is not None)


def _agreed() -> bool:
    try:
        return typer.confirm("Start?", err=True)
    except typer.Abort:  # End of input means no.
        return False


def _labels(words: str | None, described: list[str]) -> dict[str, str]:
    """Merges --labels a,b and --label c="description"."""
    pairs = [(word, "") for word in _separated(words)]
    for one in described:
        name, _, description = one.partition("=")
        pairs.append((name.strip(), description.strip()))
    labels = dict(pairs)
    if len(labels) < len(pairs):
        twice = next(name for name in labels if [name for name, _ in pairs].count(name) > 1)
        raise OptionError(f"The label {twice!r} is given twice; pass it once, in --labels or in --label.")
    return labels


def _separated(words: str | None) -> list[str]:
    return [word.strip() for word in words.split(",")] if words else []


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _described(generation: DataGeneration, plan: GenerationPlan) -> str:
    """Formats the plan as lines of text."""
    parts = urlsplit(plan.url)
    key = f"with the key in ${generation.key_variable}" if plan.sends_key else "without a key"
    if plan.sends_key and parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        key += ", sent unencrypted over http"
    lines = {
        "labels": ", ".join(f"{label} {rows:,}" for label, rows in plan.labels.items()),
        "endpoint": f"{plan.url}, model {generation.model}, {key}",
        "requests": f"at least {plan.requests:,} of up to {_rows(generation.batch)}, {generation.concurrency} at once",
        "tokens": f"about {plan.prompt_tokens:,} input and {plan.completion_tokens:,} output",
    }
    if plan.cost is not None:
        lines["cost"] = f"about {plan.cost:,.4f}"
    if plan.kept:
        lines["kept"] = f"{_rows(plan.kept)} from an earlier run"
    width = max(map(len, lines))
    title = f"{_rows(generation.rows)} about {generation.topic}"
    return "\n".join([title, *(f"  {name:{width}}  {words}" for name, words in lines.items())])


def _show(made: Generated, *, priced: bool) -> None:
    from keras_peft.cli.console import out, table

    tally = made.tally
    rows = ((label, f"{count:,}") for label, count in made.labels.items())
    out.print(table(f"{made.out}: {_rows(sum(made.labels.values()))}", ("label", "rows"), rows))
    rejected = [
        *((f"rows: {reason}", count) for reason, count in tally.rejected.most_common()),
        *((f"responses: {fault}", count) for fault, count in tally.bad_answers.most_common()),
    ]
    if rejected:
        out.print(table("Rejected", ("", "count"), ((why, f"{count:,}") for why, count in rejected)))
    again = f" ({tally.retries:,} retried)" if tally.retries else ""
    cost = "" if made.cost is None else f", cost {made.cost:,.4f}"
    if tally.without_usage:
        responses = "1 response" if tally.without_usage == 1 else f"{tally.without_usage:,} responses"
        cost = f", {responses} without token counts" + (", so the cost is unknown" if priced else "")
    out.print(
        f"{tally.requests:,} requests{again}, {tally.prompt_tokens:,} input tokens and "
        f"{tally.completion_tokens:,} output tokens{cost}, {made.seconds:.0f} s",
        soft_wrap=True,
    )
    out.print(f"Train on it: keras-peft train {made.out} --out my-bundle", soft_wrap=True)
