"""Renders the text of a request from the built-in template or the user's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

from keras_peft.errors import OptionError, did_you_mean, listed

_MOST_SEEN_CHARACTERS = 200


@dataclass(frozen=True)
class LabelShare:
    """A label in a request.

    Attributes:
        name: The label.
        description: Description of the label, or "".
        rows: Number of rows requested for the label.
    """

    name: str
    description: str
    rows: int


def own_template() -> str:
    """Returns the built-in template."""
    return (files("keras_peft") / "templates" / "generate.md").read_text(encoding="utf-8")


class Prompt:
    """Jinja2 template for the text of each request.

    Args:
        path: File with the user's template; the built-in template by default.

    Raises:
        OptionError: If the file cannot be read, or is not a valid Jinja2 template.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._name = f"The prompt {path}" if path else "The built-in template"
        try:
            source = path.read_text(encoding="utf-8") if path else own_template()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise OptionError(
                f"{self._name} cannot be read: {reason}. Expected a jinja2 template; 'keras-peft data generate "
                "--print-prompt' prints one to start from."
            ) from None
        import jinja2
        from jinja2.sandbox import SandboxedEnvironment

        # Users share templates, so a template must not access anything but its values.
        environment = SandboxedEnvironment(
            undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
        )
        # Jinja2's own filter escapes "&" and "<" for HTML.
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise OptionError(
                f"{self._name} has a syntax error in line {error.lineno}: {error.message}."
            ) from None

    def render(
        self,
        *,
        topic: str,
        labels: Sequence[LabelShare],
        speakers: Sequence[str],
        subtopic: str | None,
        seen: Sequence[str],
        min_characters: int,
        max_characters: int,
        chance: Random,
    ) -> str:
        """Renders the text of a request.

        Args:
            topic: Topic of the texts.
            labels: The requested labels and their numbers of rows.
            speakers: Names of the speakers; empty for plain texts.
            subtopic: Part of the topic to cover, if any.
            seen: Texts not to be repeated; their beginnings are included.
            min_characters: Minimum number of characters per text.
            max_characters: Maximum number of characters per text.
            chance: Random generator of the template's `pick` function.

        Returns:
            The text of the request.

        Raises:
            OptionError: If the template uses an undefined value, fails, or renders to an empty text.
        """
        import jinja2

        values: Mapping[str, Any] = {
            "topic": topic,
            "labels": list(labels),
            "rows": sum(label.rows for label in labels),
            "speakers": list(speakers),
            "subtopic": subtopic,
            "seen": [_beginning(text) for text in seen],
            "min_characters": min_characters,
            "max_characters": max_characters,
            "pick": chance.choice,
        }
        try:
            text = self._template.render(values).strip()
        except jinja2.UndefinedError as error:
            name = str(error.message).partition("'")[2].partition("'")[0]
            raise OptionError(
                f"{self._name} cannot be rendered: {error.message}. Available variables: {listed(values)}."
                f"{did_you_mean(name, values)}"
            ) from None
        # A template can fail in any way, and its author can fix it.
        except Exception as error:
            raise OptionError(f"{self._name} fails: {type(error).__name__}: {error}.") from None
        if not text:
            raise OptionError(f"{self._name} renders to an empty text; expected instructions for the model.")
        return text


def _beginning(text: str) -> str:
    return text if len(text) <= _MOST_SEEN_CHARACTERS else f"{text[:_MOST_SEEN_CHARACTERS].rstrip()} …"
