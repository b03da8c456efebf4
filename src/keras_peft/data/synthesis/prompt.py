"""The prompt: a template of the project's or the user's, and one request's values in."""

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
        description: What it means, "" where that was not said.
        rows: How many rows of it are asked for.
    """

    name: str
    description: str
    rows: int


def own_template() -> str:
    """Returns the template that comes with the package."""
    return (files("keras_peft") / "templates" / "generate.md").read_text(encoding="utf-8")


class Prompt:
    """A jinja2 template from which the text of each request is made.

    Args:
        path: A file with the user's template; the package's own by default.

    Raises:
        OptionError: If there is no such file, or it breaks jinja2's rules.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._name = f"The prompt {path}" if path else "The package's prompt"
        try:
            source = path.read_text(encoding="utf-8") if path else own_template()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise OptionError(
                f"{self._name} cannot be read: {reason}. Expected a jinja2 template; 'keras-peft data generate "
                "--print-prompt' prints one to begin with."
            ) from None
        import jinja2
        from jinja2.sandbox import SandboxedEnvironment

        # Prompts are passed around, so a template gets at nothing but its values.
        environment = SandboxedEnvironment(
            undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
        )
        # jinja2's own is for HTML, where "&" and "<" have to be escaped.
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise OptionError(f"{self._name} is faulty in line {error.lineno}: {error.message}.") from None

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
        """Makes the text of a request.

        Args:
            topic: What the texts are about.
            labels: How many rows of which labels are asked for.
            speakers: Who speaks; nobody for plain texts.
            subtopic: The part of the topic, if any.
            seen: Texts not to be repeated; their beginnings are shown.
            min_characters: Least characters of a text.
            max_characters: Most characters of a text.
            chance: What `pick` draws from.

        Returns:
            The text of the request.

        Raises:
            OptionError: If the template uses what there is not, or fails.
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
                f"{self._name} uses what there is not: {error.message}. There is: {listed(values)}."
                f"{did_you_mean(name, values)}"
            ) from None
        # Anything may go wrong in a template, and it is its author who can mend it.
        except Exception as error:
            raise OptionError(f"{self._name} fails: {type(error).__name__}: {error}.") from None
        if not text:
            raise OptionError(f"{self._name} gives an empty text; expected what the model is to do.")
        return text


def _beginning(text: str) -> str:
    return text if len(text) <= _MOST_SEEN_CHARACTERS else f"{text[:_MOST_SEEN_CHARACTERS].rstrip()} …"
