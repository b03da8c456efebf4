"""Characters that act on a terminal become visible, and JSON stays exact."""

from __future__ import annotations

import io
import json
import logging
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from keras_peft.bars import _Console
from keras_peft.printable import json_line, printable
from keras_peft.serve.http.logs import JsonFormatter

# Often enough, a character that must not reach a terminal.
ACTING = "\x00\x07\x08\t\n\r\x1b\x7f\x85\x9b\x9d\u2028\u202e\u2066\ufeff\ud800"
ANY = st.text(st.sampled_from(ACTING) | st.characters())
STRANGE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe[bold red]x[/]"


def acts(character: str) -> bool:
    is_turned = unicodedata.bidirectional(character) in {"LRE", "RLE", "LRO", "RLO", "PDF"} | {
        "LRI",
        "RLI",
        "FSI",
        "PDI",
    }
    return is_turned or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


@given(ANY)
def test_nothing_that_acts_is_left(text):
    shown = printable(text)
    assert not any(map(acts, shown))
    shown.encode()


@given(ANY)
def test_other_text_does_not_change(text):
    plain = "".join(one for one in text if not acts(one)).replace("\ufeff", "")
    assert printable(plain) == plain
    assert printable(f"{plain}\n\t{plain}", lines=True) == f"{plain}\n\t{plain}"


@given(st.recursive(ANY, lambda inner: st.lists(inner) | st.dictionaries(ANY, inner), max_leaves=5))
def test_json_is_exact_and_safe(content):
    line = json_line(content)
    assert json.loads(line) == content
    assert not any(map(acts, line))


def table_of(text):
    made = Table(text, title=text)
    made.add_row(text)
    return made


@pytest.mark.parametrize("made", [str, Text, table_of], ids=["text", "Text", "table"])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_console_sends_only_its_own_control_codes(made, is_terminal):
    written = io.StringIO()
    console = _Console(
        file=written,
        force_terminal=is_terminal,
        highlight=False,
        markup=False,
        emoji=False,
        no_color=True,
        width=300,
    )
    console.print(made(STRANGE), style="bold", soft_wrap=True)
    shown = written.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")
    shown = shown.replace("\x1b[3m", "").replace("\x1b[1;3m", "")
    assert not any(map(acts, shown.replace("\n", "")))
    assert r"\x1b]0;owned" in shown
    assert r"\u202egnp.exe[bold red]x[/]" in shown


def test_a_table_stays_in_line():
    written = io.StringIO()
    console = _Console(file=written, highlight=False, markup=False, emoji=False, width=60)
    console.print(table_of("\x1b[31mred"))
    assert len({len(line) for line in written.getvalue().splitlines() if line[0] in "┏┡│└┃"}) == 1


def test_a_log_line_is_safe_and_exact():
    record = logging.makeLogRecord({"event": "adapter_refused", "fields": {"reason": STRANGE}})
    line = JsonFormatter().format(record)
    assert json.loads(line)["reason"] == STRANGE
    assert not any(map(acts, line))
