"""The local stack with its state machine in another Step Functions engine, in whose place a moto server runs.

moto is not the engine of AWS, but it is reached in the same way: it runs beside the stack, and calls the functions with
credentials that the stack does not know.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from chromadb_compaction.local import server
from chromadb_compaction.local.deployment import Deployment, Engine, bring_up
from chromadb_compaction.local.errors import LocalStackError
from chromadb_compaction.local.home import StackHome
from tests.e2e.commands import Cli, command_line
from tests.e2e.model import Delta, Row
from tests.stack import Stack
from tests.statemachine.moto_engine import moto_engine

pytestmark = pytest.mark.e2e

CHECKOUT = Path(__file__).parents[2]


class Beside(NamedTuple):
    """An engine that runs beside a stack, and the port at which it looks for functions."""

    endpoint: str
    lambda_port: int


@pytest.fixture(scope="module")
def beside() -> Iterator[Beside]:
    port = server.free_port()
    with moto_engine(port) as engine:
        yield Beside(engine.client.meta.endpoint_url, port)


@pytest.fixture(scope="module")
def stack(beside: Beside, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = StackHome(tmp_path_factory.mktemp("other-engine"))
    deployed = bring_up(home, Deployment("beside"), end_with_parent=True, engine=Engine(*beside))
    yield Stack(deployed, home)
    server.stop(home)


@pytest.fixture
def cli(stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(stack, monkeypatch, capsys)


def put(stack: Stack, id_: str) -> None:
    delta = Delta("docs", (Row(id_, (1.0, 0.0)),))
    stack.put_objects({delta.key: delta.body()})


def post(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("POST", path, b'{"execution": "nobody"}', headers or {})
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_the_state_machine_is_in_the_engine_and_not_in_the_server(stack: Stack, beside: Beside) -> None:
    arn = stack.deployed.exports["STATE_MACHINE_ARN"]
    assert stack.sfn.meta.endpoint_url == beside.endpoint
    assert stack.sfn.describe_state_machine(stateMachineArn=arn)["stateMachineArn"] == arn
    of_the_server = stack.deployed.model_copy(update={"state_machine_endpoint": None}).client("stepfunctions")
    assert of_the_server.list_state_machines()["stateMachines"] == []


def test_compact_follows_an_execution_in_the_engine(stack: Stack, cli: Cli) -> None:
    put(stack, "a")

    ended = cli("compact", "--wait")

    assert ended.code == 0, ended.err
    assert "Merged 1 delta" in ended.out + ended.err
    assert stack.keys("delta/") == []
    assert stack.lease() is None


def test_history_and_status_show_the_engines_executions(stack: Stack, cli: Cli) -> None:
    put(stack, "b")
    assert cli("compact", "--wait").code == 0

    history, status = cli("history", "--json"), cli("status", "--json")

    assert (history.code, status.code) == (0, 0), history.err + status.err
    states = [state["name"] for state in history.json["states"]]
    assert {"AcquireLock", "MergeBatches", "UploadSnapshot", "ReleaseLock"} <= set(states)
    assert status.json["executions"][0]["status"] == "SUCCEEDED"


def test_an_error_of_a_function_reaches_the_engine_by_its_name(stack: Stack, cli: Cli) -> None:
    stack.invoke("acquire-lock", {"execution": "arn:aws:states:us-east-1:000000000000:execution:x:another"})

    ended = cli("compact", "--wait")

    assert ended.code == 3, ended.err
    stack.delete_lock_item()


def test_the_compactor_starts_an_execution_in_the_engine(stack: Stack) -> None:
    started = stack.invoke("compactor", {})["executionArn"]

    assert stack.wait(started).status == "SUCCEEDED"


def test_the_server_starts_nothing_on_schedule(stack: Stack) -> None:
    rules = stack.deployed.client("events").list_rules()["Rules"]
    states = {rule["Name"].rpartition("-")[2]: rule["State"] for rule in rules if "beside" in rule["Name"]}
    assert states["schedule"] == "DISABLED"


def test_deploying_again_without_the_engine_returns_to_the_server(stack: Stack) -> None:
    put(stack, "c")
    again = Stack(bring_up(stack.home, Deployment("beside")), stack.home)

    assert again.deployed.state_machine_endpoint is None
    assert again.compact().status == "SUCCEEDED"


# The port at which the engine calls functions.


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/2015-03-31/functions",
        "/2015-03-31/functions/chromadb-query-beside/policy",
        "/2020-06-30/functions/x/code",
        "/chromadb-vectors-beside-000000000000/snapshot/CURRENT",
    ],
)
def test_only_functions_can_be_called_at_the_port(stack: Stack, beside: Beside, path: str) -> None:
    assert stack.home.is_served()
    assert post(beside.lambda_port, path) == (403, "only functions can be called here")


@pytest.mark.parametrize("headers", [{"Origin": "http://example.com"}, {"Host": "example.com"}])
def test_a_web_page_cannot_call_functions(stack: Stack, beside: Beside, headers: dict[str, str]) -> None:
    name = f"{stack.function_name('release-lock')}:live"
    path = f"/2015-03-31/functions/{name}/invocations"

    assert post(beside.lambda_port, path, headers) == (403, "this request may come from a web page")
    assert post(beside.lambda_port, path) == (200, json.dumps({"released": False, "holder": None}))


# What is wrong is said.


def test_an_engine_that_does_not_run_is_reported_before_anything_starts(tmp_path: Path) -> None:
    home = StackHome(tmp_path / "none")
    with pytest.raises(LocalStackError, match="no Step Functions engine answers") as raised:
        bring_up(home, Deployment(), engine=Engine("http://127.0.0.1:9", server.free_port()))
    assert "docker compose up" in str(raised.value)
    assert not home.is_served()


def test_an_engine_of_another_account_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.statemachine.moto_engine.ACCOUNT", "123456789012")
    port = server.free_port()
    with moto_engine(port) as engine, pytest.raises(LocalStackError, match="in another account") as raised:
        bring_up(StackHome(tmp_path / "other"), Deployment(), engine=Engine(engine.client.meta.endpoint_url, port))
    assert "AWS_ACCOUNT_ID=000000000000" in str(raised.value)


@pytest.mark.slow
def test_the_demo_runs_in_the_engine(tmp_path: Path) -> None:
    port = server.free_port()
    with moto_engine(port) as engine:
        options = ("--state-machine-endpoint", engine.client.meta.endpoint_url, "--lambda-port", str(port))
        ran = subprocess.run(
            [sys.executable, "-m", "demo", "--directory", tmp_path / "demo", *options],
            cwd=CHECKOUT,
            env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr
