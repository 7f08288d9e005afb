from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from chromadb_compaction.cli.common import watch
from chromadb_compaction.errors import TransientStorageError

Sleep = Callable[[float], None]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    file = io.StringIO()
    monkeypatch.setattr(watch, "out", Console(file=file, force_terminal=True, width=80))
    return file


def interrupted_after(readings: int) -> Sleep:
    """Return a sleep that raises KeyboardInterrupt after so many readings."""
    count = [0]

    def sleep(_seconds: float) -> None:
        count[0] += 1
        if count[0] >= readings:
            raise KeyboardInterrupt

    return sleep


def test_it_reads_again_until_ctrl_c(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", interrupted_after(3))
    readings = iter(["first reading", "second reading", "third reading"])

    watch.watch_screen(lambda: [next(readings)], every=2)

    assert "first reading" in terminal.getvalue()
    assert terminal.getvalue().rstrip().endswith("third reading")


def test_a_later_error_is_shown_below_the_last_result(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", interrupted_after(2))
    count = [0]

    def read() -> list[str]:
        count[0] += 1
        if count[0] > 1:
            raise TransientStorageError("503 Slow Down")
        return ["the result"]

    watch.watch_screen(read, every=2)

    shown = terminal.getvalue()
    assert shown.index("the result") < shown.index("503 Slow Down")


def test_an_error_of_the_first_reading_is_raised(terminal: io.StringIO) -> None:
    def read() -> list[str]:
        raise TransientStorageError("no bucket")

    with pytest.raises(TransientStorageError):
        watch.watch_screen(read, every=2)


def test_a_program_gets_one_document_per_line(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", interrupted_after(2))

    watch.watch_lines(lambda: '{"pending": 1}', every=2)

    assert terminal.getvalue() == '{"pending": 1}\n' * 2
