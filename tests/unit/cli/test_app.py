from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from botocore.exceptions import ClientError

from chromadb_compaction import errors
from chromadb_compaction.cli.app import build, run
from chromadb_compaction.cli.common import clients
from chromadb_compaction.cli.common.exits import ExitCode, exit_code
from chromadb_compaction.cli.common.formatting import (
    ago,
    clock_time,
    counted,
    duration,
    local_time,
    one_line,
    size,
    some,
    until,
    when,
)


@pytest.fixture(autouse=True)
def unchanged_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what the command line changes in its process."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(logging.getLogger("chromadb_compaction"), "handlers", [])
    monkeypatch.delenv("CHROMADB_BUCKET", raising=False)


def exit_code_of(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as end:
        run(arguments)
    return end.value.code


def every_command(group: Any, *names: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the words and the help of each command."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, *names, name)
        else:
            yield (*names, name), command.help or ""


COMMANDS = dict(every_command(typer.main.get_command(build())))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_help_of_every_command_has_an_example(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(*command, "--help") == ExitCode.DONE
    assert "Usage" in capsys.readouterr().out
    assert f"chromadb-compaction {' '.join(command)}" in COMMANDS[command].partition("xample: ")[2]


def test_no_command_that_only_lists_or_moves_objects_waits_for_chromadb() -> None:
    views = "snapshots", "snapshot_text", "deltas", "overview", "checks", "lock"
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

    assert exit_code_of() == ExitCode.DONE
    assert capsys.readouterr().out.split() == ["status"]


def test_without_settings_the_error_says_how_to_set_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of("status") == ExitCode.USAGE

    error, next_step = capsys.readouterr().err.splitlines()
    assert error == "error: CHROMADB_BUCKET is not set"
    assert next_step.startswith("next: ")
    assert 'eval "$(chromadb-compaction local env)"' in next_step


def test_with_json_an_error_is_also_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of("lock", "show", "--json") == ExitCode.USAGE

    printed = capsys.readouterr()
    error = json.loads(printed.out)["error"]
    assert (error["kind"], error["message"]) == ("Configuration", "CHROMADB_BUCKET is not set")
    assert "local env" in error["next_step"]
    assert printed.err.startswith("error: CHROMADB_BUCKET is not set\nnext: ")


def test_an_error_of_aws_has_its_class_as_kind_and_points_to_doctor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ClientError({"Error": {"Code": "Teapot", "Message": "short and stout"}}, "ListQueues")

    monkeypatch.setattr(clients, "services", fail)

    assert exit_code_of("status", "--json") == ExitCode.FAILED

    error = json.loads(capsys.readouterr().out)["error"]
    assert error["kind"] == "ClientError"
    assert "short and stout" in error["message"]
    assert "chromadb-compaction doctor" in error["next_step"]


def test_an_unexpected_error_names_its_class_and_the_way_to_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(clients, "services", fail)
    with pytest.raises(ZeroDivisionError) as raised:
        run(["status", "--json"])

    sys.excepthook(raised.type, raised.value, raised.tb)

    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"]["kind"] == "ZeroDivisionError"
    assert printed.err.startswith("error: ZeroDivisionError: division by zero\nnext: ")
    assert "--debug" in printed.err


def test_a_warning_takes_one_line_of_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert exit_code_of("local", "down", "--dir", str(tmp_path)) == ExitCode.DONE
    capsys.readouterr()

    warnings.showwarning("two\nlines", UserWarning, "file.py", 1)

    assert capsys.readouterr().err == "warning: two lines\n"


def test_version_prints_the_version_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of("--version") == ExitCode.DONE

    assert re.fullmatch(r"chromadb-compaction \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_with_debug_the_error_keeps_its_traceback() -> None:
    with pytest.raises(errors.ConfigurationError):
        run(["--debug", "status"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("text", "--embedding-file", "file.json"), "a TEXT or --embedding-file, not both"),
        (("--where", "{n: 1}"), "--where is not JSON"),
        (("--where", "[]"), "--where must be a JSON object such as"),
        (("text", "--where-document", '"backup"'), "--where-document must be a JSON object such as"),
    ],
)
def test_an_invalid_query_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setenv("CHROMADB_BUCKET", "bucket")
    monkeypatch.setenv("CHROMADB_QUERY_FUNCTION", "query")

    assert exit_code_of("query", "-c", "docs", *options) == ExitCode.USAGE
    assert message in capsys.readouterr().err


def test_an_unknown_command_is_a_usage_error() -> None:
    assert exit_code_of("compress") == ExitCode.USAGE


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


def test_numbers_are_printed_for_people() -> None:
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


def test_times_are_printed_in_local_time_with_their_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert local_time(1_764_336_441.7) == "2025-11-28 18:57:21+05:30"
        assert clock_time(1_764_336_441.7) == "18:57:21+05:30"
        assert when(1_764_336_441, now=1_764_336_501) == "2025-11-28 18:57:21+05:30 (1 min 0 s ago)"
        assert until(1_764_336_441, now=1_764_336_431) == "2025-11-28 18:57:21+05:30 (10.0 s left)"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_long_lists_of_keys_are_cut_and_the_rest_is_counted() -> None:
    assert list(some(["a", "b"], 2)) == ["  a", "  b"]
    assert list(some(["a", "b", "c"], 1)) == ["  a", "  and 2 more: --json names all"]


def test_a_local_stack_that_is_down_is_reported_at_once_with_the_command_that_starts_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHROMADB_BUCKET", "bucket")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    began = time.monotonic()

    assert exit_code_of("status") == ExitCode.FAILED

    assert time.monotonic() - began < 2
    error, next_step = capsys.readouterr().err.splitlines()
    assert error == "error: nothing answers at http://127.0.0.1:9"
    assert "chromadb-compaction local up --detach" in next_step
