"""The operator's commands for the lock, for a failed execution, and for a health check."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.builders import a_delta
from tests.e2e.commands import Cli, command_line
from tests.stack import Stack

pytestmark = pytest.mark.e2e


@pytest.fixture
def cli(stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(stack, monkeypatch, capsys)


def hold_lock(stack: Stack, owner: str) -> None:
    leases = stack.services(cache_dir=Path()).leases
    leases.acquire(stack.settings.lock_id, owner, now=time.time(), seconds=600)


def an_execution_that_waits(stack: Stack) -> str:
    """Start an execution that is RUNNING until it is stopped, and return its ARN."""
    waits = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 600, "End": True}}}
    workflow = stack.sfn.describe_state_machine(stateMachineArn=stack.deployed.exports["STATE_MACHINE_ARN"])
    machine = stack.sfn.create_state_machine(
        name=f"waiting-{stack.bucket}", definition=json.dumps(waits), roleArn=workflow["roleArn"]
    )
    return stack.sfn.start_execution(stateMachineArn=machine["stateMachineArn"])["executionArn"]


def test_release_keeps_a_running_executions_lock_and_releases_one_left_behind(cli: Cli, stack: Stack) -> None:
    execution = an_execution_that_waits(stack)
    name = execution.rpartition(":")[2]
    hold_lock(stack, execution)

    shown = cli("lock", "show")
    refused = cli("lock", "release")
    stack.sfn.stop_execution(executionArn=execution)
    planned = cli("lock", "release", "--dry-run")
    kept = stack.lease()
    released = cli("lock", "release")

    assert (shown.code, refused.code, planned.code, released.code) == (0, 3, 0, 0)
    assert f"{name} (RUNNING)" in shown.out
    assert refused.has_one_error
    assert name in refused.err
    assert "--force" in refused.err
    assert f"Would release lock {stack.settings.lock_id} of {name} (ABORTED)" in planned.out
    assert kept is not None
    assert released.out.startswith("Released")
    assert stack.lease() is None


def test_the_lock_commands_print_json_for_a_free_and_a_held_lock(cli: Cli, stack: Stack) -> None:
    unknown = stack.deployed.exports["STATE_MACHINE_ARN"].replace(":stateMachine:", ":execution:") + ":unknown"

    free = cli("lock", "show", "--json").json
    nothing = cli("lock", "release", "--json").json
    hold_lock(stack, unknown)
    held = cli("lock", "show", "--json").json
    released = cli("lock", "release", "--json").json

    assert (free["held"], nothing["released"]) == (False, False)
    assert (held["held"], held["execution"], held["status"], held["console"]) == (True, "unknown", None, None)
    assert released["released"] is True


def test_history_shows_a_failure_with_its_state_its_log_and_the_next_command(
    cli: Cli, stack: Stack, tmp_path: Path
) -> None:
    delta = a_delta(upserts={"a": [1, 0]}, at=time.time())
    stack.put_objects({delta.key: delta.body, "snapshot/CURRENT": b"no pointer"})
    name = stack.compact().arn.rpartition(":")[2]

    shown = cli("history", name)
    failure = cli("history", name, "--json").json["failure"]
    page = tmp_path / "page.html"
    written = cli("history", name, "--html", str(page))
    lost = cli("history", name, "--html", str(tmp_path / "no" / "page.html"))

    assert (shown.code, written.code, lost.code) == (0, 0, 2)
    assert (failure["state"], failure["error"]) == ("ListDeltas", "SnapshotCorruptError")
    assert failure["next"] == "chromadb-compaction snapshots verify"
    assert failure["request"]
    assert any(line.startswith("ERROR SnapshotCorruptError") for line in failure["lines"])
    for words in ("in: ListDeltas", "ERROR SnapshotCorruptError", "next: chromadb-compaction snapshots verify"):
        assert words in shown.out
    assert "chromadb-compaction snapshots verify" in page.read_text(encoding="utf-8")


def test_every_log_line_of_a_function_names_the_execution_and_is_at_info(cli: Cli, stack: Stack) -> None:
    good, bad = a_delta(upserts={"a": [1, 0]}, at=time.time()), a_delta(upserts={"b": [1, 0]}, at=time.time())
    stack.put_objects({good.key: good.body, bad.key: bad.body[:-20]})
    name = stack.compact().arn.rpartition(":")[2]

    lines = [json.loads(line) for text in stack.new_logs().values() for line in text.splitlines() if line[:1] == "{"]
    messages = [line for line in lines if "message" in line]

    assert {line["execution"] for line in messages} == {name}
    assert all(line["function_request_id"] for line in messages)
    done = [line["message"] for line in messages if line["level"] == "INFO"]
    for task in ("acquire_lock", "list_deltas", "merge_batch", "clean_up", "release_lock"):
        assert done.count(f"{task} done") == 1
    [warning] = [line for line in messages if line["level"] == "WARNING"]
    assert bad.key in warning["message"]
    assert warning["batch"].endswith("/batches/0000.json")


def test_the_doctor_finds_no_problem_in_a_healthy_stack(cli: Cli) -> None:
    seen = cli("doctor")
    findings = {finding["about"]: finding for finding in cli("doctor", "--json").json}

    assert seen.code == 0
    assert "fail" not in seen.out
    assert {"settings", "credentials", "bucket", "lock table", "queue", "state machine", "logs"} <= findings.keys()
    assert {finding["verdict"] for finding in findings.values()} == {"ok"}


def test_the_doctor_names_a_missing_resource_and_its_fix(
    cli: Cli, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stack.keys()
    monkeypatch.setenv("DYNAMODB_TABLE", "no-such-table")
    monkeypatch.delenv("DELTA_DLQ_URL")

    ended = cli("doctor", "--json")

    findings = {finding["about"]: finding for finding in ended.json}
    assert ended.code == 1
    assert findings["lock table"]["verdict"] == "fail"
    assert "no-such-table" in findings["lock table"]["found"]
    assert findings["lock table"]["fix"]
    assert findings["dead letters"]["verdict"] == "warn"
    assert stack.keys() == before


def test_the_doctor_reports_that_nothing_answers(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    ended = cli("doctor")

    assert ended.code == 1
    assert "chromadb-compaction local up" in ended.out


def test_status_watch_runs_until_ctrl_c(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)

    watched = cli("status", "--watch")
    lines = cli("status", "--watch", "--json")

    assert (watched.code, lines.code) == (0, 0)
    assert "nothing published yet" in watched.out
    assert json.loads(lines.out)["pending"]["deltas"] == 0
