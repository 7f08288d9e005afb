from __future__ import annotations

import logging
import sys
import warnings

import pytest

from chromadb_compaction import errors
from chromadb_compaction.cli.app import run
from chromadb_compaction.cli.exits import ExitCode, error_named, exit_code
from chromadb_compaction.cli.wording import ago, counted, duration, one_line, size


@pytest.fixture(autouse=True)
def own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a command line program may do to its own process."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(logging.getLogger("chromadb_compaction"), "handlers", [])
    monkeypatch.delenv("CHROMADB_BUCKET", raising=False)


def ended(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as end:
        run(arguments)
    return end.value.code


@pytest.mark.parametrize(
    "command", ["put", "compact", "status", "history", "query", "snapshots", "deltas", "why", "local"]
)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(command, "--help") == ExitCode.DONE
    assert "Usage" in capsys.readouterr().out


def test_without_settings_one_line_says_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("status") == ExitCode.USAGE

    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert 'eval "$(chromadb-compaction local env)"' in said


def test_with_debug_the_error_keeps_its_traceback() -> None:
    with pytest.raises(errors.ConfigurationError):
        run(["--debug", "status"])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("text", "--embedding-file", "file.json"), "a TEXT or --embedding-file, not both"),
        (("--where", "{n: 1}"), "--where is no JSON"),
        (("--where", "[]"), "--where is a JSON object such as"),
        (("text", "--where-document", '"backup"'), "--where-document is a JSON object such as"),
    ],
)
def test_a_question_that_cannot_be_asked_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    complaint: str,
) -> None:
    monkeypatch.setenv("CHROMADB_BUCKET", "bucket")
    monkeypatch.setenv("CHROMADB_QUERY_FUNCTION", "query")

    assert ended("query", "-c", "docs", *options) == ExitCode.USAGE
    assert complaint in capsys.readouterr().err


def test_an_unknown_command_is_a_usage_error() -> None:
    assert ended("compress") == ExitCode.USAGE


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError, 2),
        (errors.InvalidRequestError, 2),
        (errors.LockHeldError, 3),
        (errors.NoSnapshotError, 4),
        (errors.NoSuchCollectionError, 4),
        (errors.SnapshotCorruptError, 5),
        (errors.TransientStorageError, 1),
    ],
)
def test_the_exit_codes_are_the_documented_ones(error: type[errors.CompactionError], code: int) -> None:
    assert exit_code(error("x")) == code


def test_an_error_that_a_function_names_is_raised_as_if_it_were_ours() -> None:
    assert isinstance(error_named("NoSuchCollectionError", "no"), errors.NoSuchCollectionError)
    assert str(error_named("KeyError", "x")) == "KeyError: x"


def test_numbers_are_worded_for_people() -> None:
    assert [duration(s) for s in (0.344, 12.06, 185, 7800, 356_400)] == [
        "0.34 s",
        "12.1 s",
        "3 min 5 s",
        "2 h 10 min",
        "4 d 3 h",
    ]
    assert [size(n) for n in (512, 1536, 34 * 2**20)] == ["512 B", "1.5 KiB", "34.0 MiB"]
    assert [counted(n, "batch", "batches") for n in (1, 1234)] == ["1 batch", "1,234 batches"]
    assert (ago(-3), ago(12.06)) == ("just now", "12.1 s ago")
    assert one_line("a\n  b" + "c" * 20, 8) == "a bcccc…"
