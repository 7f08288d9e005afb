from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from chromadb_compaction.aws import workflow
from chromadb_compaction.cli.commands import lock as command
from chromadb_compaction.cli.common import clients
from chromadb_compaction.cli.views import lock as view
from chromadb_compaction.cli.views.lock import console_link, read_lock
from chromadb_compaction.errors import LockHeldError, MalformedLockError
from tests.fakes.services import EXECUTION, START, Fakes, new_fakes

LATER = EXECUTION.replace("first", "second")
OPERATOR = "operator:ada@laptop/1"


class NoSuchExecutionError(Exception):
    pass


class Executions:
    """A Step Functions client with executions of these statuses."""

    exceptions = SimpleNamespace(ExecutionDoesNotExist=NoSuchExecutionError, InvalidArn=NoSuchExecutionError)
    meta = SimpleNamespace(endpoint_url="https://states.eu-west-1.amazonaws.com")

    def __init__(self, **statuses: str) -> None:
        self.statuses = statuses

    def describe_execution(self, *, executionArn: str) -> dict[str, Any]:  # noqa: N803 - boto3's own name
        name = executionArn.rpartition(":")[2]
        if name not in self.statuses:
            raise NoSuchExecutionError
        return {"name": name, "status": self.statuses[name], "startDate": datetime(2026, 1, 1, tzinfo=UTC)}


Given = Callable[..., Fakes]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    """Return a function that makes a lock held by `owner`, and executions with these statuses."""

    def fakes(owner: str | None = EXECUTION, **statuses: str) -> Fakes:
        made = new_fakes(dynamodb_table="table")
        if owner:
            made.hold_lease(owner)
        monkeypatch.setattr(clients, "services", lambda: made.services)
        monkeypatch.setattr(workflow, "step_functions", lambda: Executions(**statuses))
        return made

    return fakes


def owner_of(fakes: Fakes) -> str | None:
    lease = fakes.leases.read(fakes.settings.lock_id)
    return lease.owner if lease else None


def test_the_holder_is_shown_with_its_status_and_its_page_in_the_console(
    given: Given, capsys: pytest.CaptureFixture[str]
) -> None:
    given(EXECUTION, first="RUNNING")

    command.show(as_json=True)

    shown = json.loads(capsys.readouterr().out)
    assert (shown["held"], shown["execution"], shown["status"], shown["expired"]) == (True, "first", "RUNNING", False)
    assert (shown["acquired_at"], shown["expires_at"]) == ("2025-10-09T08:53:20Z", "2025-10-09T09:08:20Z")
    assert shown["console"] == (
        f"https://eu-west-1.console.aws.amazon.com/states/home?region=eu-west-1#/v2/executions/details/{EXECUTION}"
    )


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:4566", "https://states.example.com", ""])
def test_an_endpoint_outside_aws_has_no_console(endpoint: str) -> None:
    assert console_link(EXECUTION, endpoint) is None


@pytest.mark.parametrize(
    ("partition", "endpoint", "console"),
    [
        ("aws-cn", "https://states.cn-north-1.amazonaws.com.cn", "https://console.amazonaws.cn/"),
        ("aws-us-gov", "https://states.us-gov-west-1.amazonaws.com", "https://console.amazonaws-us-gov.com/"),
    ],
)
def test_other_partitions_have_their_own_consoles(partition: str, endpoint: str, console: str) -> None:
    link = console_link(EXECUTION.replace("arn:aws:", f"arn:{partition}:"), endpoint)

    assert link is not None
    assert link.startswith(console)


def test_a_lock_whose_execution_runs_is_kept_and_the_error_states_the_risk_of_force(given: Given) -> None:
    fakes = given(EXECUTION, first="RUNNING")

    with pytest.raises(LockHeldError, match=r"held by first \(RUNNING\).*--force: its owner will stop") as raised:
        command.release()

    assert (raised.value.holder, raised.value.since) == (EXECUTION, START)
    assert owner_of(fakes) == EXECUTION


def test_force_takes_it_from_an_execution_that_runs(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    fakes = given(EXECUTION, first="RUNNING")

    command.release(force=True)

    assert owner_of(fakes) is None
    assert "warning: its owner will stop" in capsys.readouterr().err


@pytest.mark.parametrize("statuses", [{"first": "FAILED"}, {"first": "ABORTED"}, {}])
def test_a_lock_left_behind_is_released(given: Given, statuses: dict[str, str]) -> None:
    fakes = given(EXECUTION, **statuses)

    command.release()

    assert owner_of(fakes) is None


def test_a_dry_run_releases_nothing(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    fakes = given(EXECUTION, first="FAILED")

    command.release(dry_run=True)

    assert owner_of(fakes) == EXECUTION
    assert "Would release" in capsys.readouterr().out


def test_a_lock_that_has_passed_to_another_owner_meanwhile_is_not_released(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = given(EXECUTION, first="FAILED")
    executions: Any = Executions(first="FAILED")
    held = read_lock(fakes.services, executions)
    fakes.leases.release(fakes.settings.lock_id, EXECUTION)
    fakes.hold_lease(LATER)
    monkeypatch.setattr(view, "read_lock", lambda *_: held)

    with pytest.raises(LockHeldError, match="passed from first to second meanwhile"):
        command.release(force=True)

    assert owner_of(fakes) == LATER


def test_an_operators_command_keeps_its_lock_until_it_expires(given: Given) -> None:
    fakes = given(OPERATOR)

    with pytest.raises(LockHeldError, match=r"a command of an operator.*; wait until it expires at"):
        command.release()
    fakes.clock.tick(16 * 60)
    command.release()

    assert owner_of(fakes) is None


def test_releasing_a_free_lock_is_not_an_error(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    given(None)

    command.release(as_json=True)

    assert json.loads(capsys.readouterr().out) == {"released": False, "dry_run": False, "held": None}


def test_an_item_that_is_not_a_lease_is_deleted_only_by_force(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    fakes = given(None)
    fakes.leases.malformed.add(fakes.settings.lock_id)

    with pytest.raises(MalformedLockError):
        command.release(force=False, dry_run=False, as_json=False)
    command.release(force=True, dry_run=True, as_json=False)
    assert fakes.leases.malformed
    command.release(force=True, dry_run=False, as_json=False)

    assert not fakes.leases.malformed
    assert "Deleted the item LOCK#" in capsys.readouterr().out
