"""The options of the measurements of one server."""

from __future__ import annotations

import argparse
from pathlib import Path

from .servers import ROOT


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the options that these measurements share.

    Args:
        name: Name of the module.
        description: Its docstring.
    """
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.serving.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--data", type=Path, default=ROOT / "benchmarks" / "data" / "sentiment_sentences", metavar="FOLDER")
    add("--work", type=Path, default=ROOT / ".bench-serve", metavar="FOLDER", help="bundles and logs")
    add("--peers", type=Path, default=Path(".venv-peers/bin/python"), help="named where it is measured")
    add("--quick", action="store_true", help="a short run; nothing is written")
    return made


def parsed(made: argparse.ArgumentParser) -> argparse.Namespace:
    """Parses the command line."""
    options = made.parse_args()
    # Not resolved, since Python finds its environment by the link.
    options.work, options.peers = options.work.absolute(), options.peers.absolute()
    return options


def with_minutes(name: str, description: str | None) -> argparse.Namespace:
    """Parses the command line of a measurement that takes some minutes.

    Args:
        name: Name of the module.
        description: Its docstring.
    """
    made = parser(name, description)
    made.add_argument("--minutes", type=float, default=10.0, help="half a minute with --quick")
    options = parsed(made)
    if options.quick:
        options.minutes = 0.5
    return options
