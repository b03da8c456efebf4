"""Rendering of the package's templates, such as pages and model cards."""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from typing import TYPE_CHECKING, Any

from keras_peft.printable import printable

if TYPE_CHECKING:
    import jinja2

# Characters with a meaning inside a line of Markdown, in tables, and in the mathematics that the Hub and GitHub show.
_MARKS = re.compile(r"[\\`*\[\]{}|~$#!@]|(?<!\w)_|_(?!\w)|:(?=//)|(?<=www)\.")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# Characters that YAML does not allow in a file, in addition to those that `printable` replaces.
_NOT_IN_YAML = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]")


@cache
def environment() -> jinja2.Environment:
    """Returns the Jinja environment of the package's pages, which escapes all values for HTML.

    Characters that would reorder a line are replaced by their notation.
    """
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("keras_peft"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        finalize=_without_acting,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def cards() -> jinja2.Environment:
    """Returns the Jinja environment of model cards, which escapes all values for a line of Markdown.

    Inside code and YAML the filters `code`, `quoted` and `shell` escape instead. The filter `safe` is for Markdown.
    """
    made = environment().overlay(finalize=_finalized, autoescape=False)
    made.filters |= {"code": as_code, "quoted": as_quoted, "shell": as_shell}
    return made


def as_markdown(text: str) -> str:
    r"""Escapes text for a line of Markdown, which then shows exactly the text.

    Args:
        text: Any text. Characters that act on a terminal, such as line breaks, are replaced by their notation.

    Example:
        >>> as_markdown("a|b <i>")
        'a\\|b &lt;i&gt;'
    """
    text = _MARKS.sub(lambda found: f"\\{found[0]}", printable(text))
    return re.sub("[&<>]", lambda found: _ENTITIES[found[0]], text)


def as_code(value: object) -> str:
    """Returns a code span of Markdown that shows a text; in a cell of a table, the text must not contain `|`.

    Args:
        value: The text.

    Example:
        >>> as_code("a `b`")
        '`` a `b` ``'
    """
    from markupsafe import Markup

    text = printable(str(value)) or " "
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    space = " " if text.strip(" ") and (text[0] in "` " or text[-1] in "` ") else ""
    return Markup(f"{fence}{space}{text}{space}{fence}")


def as_quoted(value: Any) -> str:
    """Returns a string in double quotes that is valid in JSON, YAML and Python.

    Args:
        value: The string.

    Example:
        >>> as_quoted('a: "b"')
        '"a: \\\\"b\\\\""'
    """
    from markupsafe import Markup

    text = json.dumps(str(value), ensure_ascii=False)
    return Markup(_NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def as_shell(value: object) -> str:
    """Returns a word of a command line, quoted if a shell would read more than one word.

    Args:
        value: The word.
    """
    from markupsafe import Markup

    return Markup(shlex.quote(printable(str(value))))


def _without_acting(value: Any) -> Any:
    return printable(value, lines=True) if type(value) is str else value


def _finalized(value: Any) -> Any:
    return value if hasattr(value, "__html__") else as_markdown(str(value))
