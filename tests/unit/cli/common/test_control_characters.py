"""No control character of a stranger's text reaches a terminal."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.live import Live
from rich.table import Table
from rich.text import Text

from chromadb_compaction.cli.common.console import EscapingConsole, note, print_error
from chromadb_compaction.cli.common.control_characters import escape_json, escape_text
from chromadb_compaction.cli.common.output import CONSOLE, JSON

HOSTILE = "id\x1b]0;title\x07\x1b[2J\x9b31m\x7f\u202e\u2066\u200f\x00\r"
FORBIDDEN = {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), *"\u061c\u200e\u200f\u2028\u2029"} | {
    *map(chr, range(0x202A, 0x202F)),
    *map(chr, range(0x2066, 0x206A)),
}


def sent(text: str) -> set[str]:
    """Return the forbidden characters of an output."""
    return FORBIDDEN & set(text) - {"\n"}


def table() -> Table:
    """Return a table with hostile text in its heading, in a cell and in markup."""
    table = Table(title=HOSTILE, caption=HOSTILE)
    table.add_column(HOSTILE, overflow="fold")
    table.add_row(Text(HOSTILE * 20))
    table.add_row(HOSTILE)
    return table


@given(st.text())
def test_escaped_text_has_no_control_character_but_newline_and_tab(text: str) -> None:
    escaped = escape_text(text)

    assert not sent(escaped) - {"\t"}
    assert escape_text(escaped) == escaped


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_an_escaped_document_means_the_same(value: object) -> None:
    document = escape_json(json.dumps(value, ensure_ascii=False))

    assert json.loads(document) == value
    assert not sent(document)


def test_a_control_character_is_shown_and_readable_text_stays() -> None:
    assert escape_text("Straße\x1b[2J\x9b\u202e日本\t\n") == "Straße\\x1b[2J\\x9b\\u202e日本\t\n"


@pytest.mark.parametrize(
    "part", [HOSTILE, Text(HOSTILE), Text(HOSTILE, style="bold"), table()], ids=["markup", "text", "bold", "table"]
)
def test_nothing_that_is_shown_reaches_the_terminal_raw(part: str | Text | Table) -> None:
    stream = io.StringIO()
    EscapingConsole(file=stream, width=60).print(part)

    assert not sent(stream.getvalue())
    assert "\\x9b" in stream.getvalue()


def test_a_table_that_is_redrawn_sends_only_the_consoles_own_codes() -> None:
    stream = io.StringIO()
    console = EscapingConsole(file=stream, width=60, force_terminal=True, color_system=None)
    with Live(table(), console=console, auto_refresh=False) as live:
        live.update(table(), refresh=True)

    assert "\x9b" not in stream.getvalue()
    assert "\x1b]" not in stream.getvalue()
    assert "\x1b[" in stream.getvalue()


def test_errors_and_notes_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(HOSTILE, HOSTILE)
    note(HOSTILE)

    assert not sent(capsys.readouterr().err)


def test_documents_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    JSON.show({"id": HOSTILE}, lambda _: [])
    shown = capsys.readouterr().out
    JSON.fail({"kind": "X", "message": HOSTILE, "next_step": None})
    failed = capsys.readouterr()
    CONSOLE.show(HOSTILE, lambda text: [Text(text)])

    assert not sent(shown + failed.out + failed.err + capsys.readouterr().out)
    assert json.loads(shown) == {"id": HOSTILE}
    assert json.loads(failed.out)["error"]["message"] == HOSTILE
