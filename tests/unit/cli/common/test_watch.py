from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from chromadb_compaction.cli.views import watch as watching
from chromadb_compaction.errors import TransientStorageError

Sleep = Callable[[float], None]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    file = io.StringIO()
    monkeypatch.setattr(watching, "out", Console(file=file, force_terminal=True, width=80))
    return file


def interrupted_after(looks: int) -> Sleep:
    """Return a sleep in which Ctrl-C is typed once there have been so many looks."""
    seen = [0]

    def sleep(_seconds: float) -> None:
        seen[0] += 1
        if seen[0] >= looks:
            raise KeyboardInterrupt

    return sleep


def test_it_looks_again_until_ctrl_c(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", interrupted_after(3))
    looks = iter(["first look", "second look", "third look"])

    watching.watch(lambda: next(looks), every=2)

    assert "first look" in screen.getvalue()
    assert screen.getvalue().rstrip().endswith("third look")


def test_a_look_that_fails_leaves_the_last_screen_and_says_why(
    screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", interrupted_after(2))
    looked = [0]

    def look() -> str:
        looked[0] += 1
        if looked[0] > 1:
            raise TransientStorageError("503 Slow Down")
        return "the screen"

    watching.watch(look, every=2)

    shown = screen.getvalue()
    assert shown.index("the screen") < shown.index("503 Slow Down")


def test_a_first_look_that_fails_is_the_commands_failure(screen: io.StringIO) -> None:
    def look() -> str:
        raise TransientStorageError("no bucket")

    with pytest.raises(TransientStorageError):
        watching.watch(look, every=2)


def test_a_program_gets_one_document_a_line(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", interrupted_after(2))

    watching.watch_json(lambda: '{"pending": 1}', every=2)

    assert screen.getvalue() == '{"pending": 1}\n' * 2
