from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from pydantic import BaseModel
from rich.text import Text

from chromadb_compaction.cli.common.output import CONSOLE, JSON, exit_with, output_for
from chromadb_compaction.errors import SnapshotCorruptError
from chromadb_compaction.times import Moment

ERROR = {"kind": "LockHeld", "message": "lock main is held\nby ada", "next_step": "wait", "holder": "ada"}


class Snapshot(BaseModel):
    created_at: Moment
    name: str


SNAPSHOT = Snapshot(created_at=1_764_336_441, name="Straße")


def fail_to_render(_value: object) -> list[str]:
    raise AssertionError("a program gets no text")


def test_the_flag_selects_the_output() -> None:
    assert (output_for(as_json=True), output_for(as_json=False)) == (JSON, CONSOLE)


def test_a_program_gets_the_value_as_json_with_times_in_iso_8601(capsys: pytest.CaptureFixture[str]) -> None:
    JSON.show([SNAPSHOT], fail_to_render)

    shown = capsys.readouterr()
    assert json.loads(shown.out) == [{"created_at": "2025-11-28T13:27:21Z", "name": "Straße"}]
    assert "Straße" in shown.out
    assert shown.err == ""


def test_a_person_gets_the_text_with_lines_that_are_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    line = "long " * 100 + "end"

    CONSOLE.show(SNAPSHOT, lambda snapshot: [f"[bold]{snapshot.name}[/]", Text(line), Text("[not markup]")])

    assert capsys.readouterr().out == f"Straße\n{line}\n[not markup]\n"


def test_a_person_gets_an_error_on_two_lines_of_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    CONSOLE.fail(ERROR)

    assert capsys.readouterr() == ("", "error: lock main is held by ada\nnext: wait\n")


def test_an_error_without_a_next_step_takes_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    CONSOLE.fail({**ERROR, "next_step": None})

    assert capsys.readouterr().err == "error: lock main is held by ada\n"


def test_a_program_gets_an_error_on_both_streams(capsys: pytest.CaptureFixture[str]) -> None:
    JSON.fail(ERROR)

    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"error": ERROR}
    assert printed.err == "error: lock main is held by ada\nnext: wait\n"


def test_json_writes_no_progress_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    JSON.progress.print("half done")

    assert capsys.readouterr() == ("", "")


def test_an_error_after_the_result_is_printed_to_stderr_and_sets_the_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    end = exit_with(SnapshotCorruptError("it is corrupt", next_step="roll back"))

    assert end.exit_code == 5
    assert capsys.readouterr() == ("", "error: it is corrupt\nnext: roll back\n")


def test_a_value_that_is_not_json_is_printed_as_text_in_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    cause: Any = ClientError({"Error": {"Code": "403"}}, "HeadBucket")

    JSON.fail({**ERROR, "cause": cause})

    assert "HeadBucket" in json.loads(capsys.readouterr().out)["error"]["cause"]
