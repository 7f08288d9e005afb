from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from chromadb_compaction import errors
from chromadb_compaction.cli.app import Debugging, build, run
from chromadb_compaction.cli.common.exits import ExitCode, exit_code
from chromadb_compaction.cli.common.formatting import ago, counted, duration, one_line, size


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


def every_command(group: Any, *names: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each command's words and its help, as the program itself tells them."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, *names, name)
        else:
            yield (*names, name), command.help or ""


COMMANDS = dict(every_command(typer.main.get_command(build(Debugging()))))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_by_an_example(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(*command, "--help") == ExitCode.DONE
    assert "Usage" in capsys.readouterr().out
    assert f"chromadb-compaction {' '.join(command)}" in COMMANDS[command].partition("xample: ")[2]


def test_no_command_that_only_lists_or_moves_objects_waits_for_chromadb() -> None:
    views = "snapshots", "deltas", "overview", "checks"
    operations = "rollback", "quarantine", "provenance", "pull"
    modules = [*(f"cli.views.{name}" for name in views), *(f"operations.{name}" for name in operations)]
    modules += ["cli.commands.lock", "cli.commands.history", "cli.executions.failure_report", "snapshots.catalogue"]
    imports = ", ".join(f"chromadb_compaction.{module}" for module in modules)

    program = f"import sys, {imports}; sys.exit('chromadb' in sys.modules)"
    assert subprocess.call([sys.executable, "-c", program]) == 0


def test_the_shell_completes_the_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_CHROMADB_COMPACTION_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "chromadb-compaction sta")
    monkeypatch.setenv("COMP_CWORD", "1")

    assert ended() == ExitCode.DONE
    assert capsys.readouterr().out.split() == ["status"]


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
