"""The local stack: it is deployed from the program, enforces the roles, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.exceptions import ClientError

from chromadb_compaction.local import server
from chromadb_compaction.local.deployment import Deployment, bring_up, deploy_stack
from chromadb_compaction.local.errors import LocalStackError, LocalStackNotRunningError
from chromadb_compaction.local.home import StackHome
from chromadb_compaction.local.resources.clients import AwsClients
from chromadb_compaction.local.stack import load
from chromadb_compaction.settings import load_settings, required
from tests.e2e.conftest import DeployStack
from tests.stack import FunctionError, Stack

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.e2e

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[StackHome]:
    home = StackHome(tmp_path / "stack")
    yield home
    server.stop(home)


def command(home: StackHome, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chromadb_compaction", "local", *arguments, "--dir", str(home.path)],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
        cwd=CHECKOUT,
    )


def objects_as(stack: Stack, function: str) -> S3Client:
    """Return a client for S3 with the credentials of a function's role."""
    role = stack.functions.get_function(FunctionName=stack.function_name(function))["Configuration"]["Role"]
    given = stack.deployed.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    return boto3.client(
        "s3",
        endpoint_url=stack.deployed.endpoint,
        region_name=server.REGION,
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )


def living(group: int) -> int:
    """Count the processes of a group without zombies."""
    listing = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    return sum(pgid == str(group) and not stat.startswith("Z") for pgid, stat in map(str.split, listing.splitlines()))


# The command line.


def test_up_env_and_down_start_describe_and_remove_the_stack(home: StackHome) -> None:
    up = command(home, "up", "--detach", "--json")
    record = home.record()
    shown = command(home, "env", "--json")
    lines = command(home, "env").stdout
    down = command(home, "down", "--json")

    assert up.returncode == 0, up.stderr
    assert record is not None
    assert json.loads(up.stdout)["endpoint"] == record.endpoint
    variables = json.loads(shown.stdout)
    assert variables["AWS_ENDPOINT_URL"] == record.endpoint
    assert variables["STATE_MACHINE_ARN"].endswith(":stateMachine:chromadb-compaction-local")
    assert f"export CHROMADB_BUCKET={variables['CHROMADB_BUCKET']}\n" in lines
    assert json.loads(down.stdout) == {"stopped": True, "deleted": False}
    assert home.record() is None
    assert {entry.name for entry in home.path.iterdir()} == {".gitignore", "lock", "logs", "s3"}


def test_objects_outlive_a_killed_server_and_down_until_they_are_deleted(home: StackHome) -> None:
    deployment = Deployment("kept", {"enableCompaction": "false"})
    first = Stack(bring_up(home, deployment, end_with_parent=True, durable=True), home)
    first.put_objects({"delta/docs/kept": b"x"})
    killed = home.record()
    assert killed is not None
    os.killpg(killed.pid, signal.SIGKILL)
    server.wait(home)

    second = Stack(bring_up(home, deployment, end_with_parent=True, durable=True), home)
    assert second.keys() == ["delta/docs/kept"]
    assert second.deployed.secret != first.deployed.secret
    second.put_objects({"delta/docs/later": b"y"})
    assert command(home, "down").returncode == 0

    third = Stack(bring_up(home, deployment, end_with_parent=True, durable=True), home)
    assert third.keys() == ["delta/docs/kept", "delta/docs/later"]
    unanswered = command(home, "down", "--delete")
    assert (unanswered.returncode, home.has_objects(), home.is_served()) == (1, True, True)
    deleted = command(home, "down", "--delete", "--yes", "--json")
    assert json.loads(deleted.stdout) == {"stopped": True, "deleted": True}
    assert not home.has_objects()


def test_up_in_the_foreground_serves_until_it_is_interrupted(home: StackHome) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "chromadb_compaction", "local", "up", "--json", "--dir", str(home.path)],
        stdout=subprocess.PIPE,
        cwd=CHECKOUT,
    ) as serving:
        assert serving.stdout is not None
        serving.stdout.readline()
        assert home.is_served()
        serving.send_signal(signal.SIGINT)
        code = serving.wait(20)

    assert code == 0
    assert not home.is_served()


def test_env_without_a_running_stack_names_the_command_that_starts_one(home: StackHome) -> None:
    with pytest.raises(LocalStackNotRunningError, match="local up --detach"):
        load(home, "local")


def test_env_of_an_unknown_stack_names_the_deployed_stacks(local_server: StackHome, stack: Stack) -> None:
    with pytest.raises(LocalStackError, match=stack.deployed.name):
        load(local_server, "nowhere")


def test_the_shell_lines_set_the_variables_of_the_functions(stack: Stack) -> None:
    script = "\n".join([*stack.deployed.shell_lines(), "env"])
    shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, env={"PATH": os.defpath})
    variables = dict(line.split("=", 1) for line in shell.stdout.splitlines())

    assert stack.env.items() <= variables.items()
    assert load_settings(variables) == stack.settings


# The server.


def test_a_second_start_returns_the_running_server(home: StackHome) -> None:
    first = server.start(home, end_with_parent=True)

    assert server.start(home, end_with_parent=True) == first


def test_start_refuses_another_port_while_a_server_runs(home: StackHome) -> None:
    running = server.start(home, end_with_parent=True)

    with pytest.raises(LocalStackError, match=f"already runs on port {running.port}"):
        server.start(home, port=running.port + 1)


def test_start_refuses_a_port_that_another_program_uses(home: StackHome, local_server: StackHome) -> None:
    taken = local_server.record()
    assert taken is not None

    with pytest.raises(LocalStackError, match=f"port {taken.port} is taken"):
        server.start(home, port=taken.port)


def test_a_killed_server_does_not_count_as_running(home: StackHome) -> None:
    dead = server.start(home, end_with_parent=True)
    os.kill(dead.pid, signal.SIGKILL)
    server.wait(home)

    assert home.record() is None
    assert server.start(home, end_with_parent=True).pid != dead.pid


def test_a_server_ends_when_the_process_that_started_it_is_killed(home: StackHome) -> None:
    program = (
        "import os, pathlib; from chromadb_compaction.local import home, server;"
        f"server.start(home.StackHome(pathlib.Path({str(home.path)!r})), end_with_parent=True); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, check=False, timeout=60)

    server.wait(home)


def test_stopping_the_server_ends_the_functions_workers(home: StackHome) -> None:
    record = server.start(home, end_with_parent=True)
    stack = Stack(deploy_stack(home, Deployment(), AwsClients(record.endpoint, record.secret)), home)
    stack.invoke("release-lock", {"execution": "nobody"})
    assert living(record.pid) > 1

    server.stop(home)

    assert living(record.pid) == 0


# The deployment.


def test_deploying_again_keeps_the_objects_and_updates_the_functions(
    local_server: StackHome, deploy: DeployStack
) -> None:
    stack = deploy(config={"maxPasses": "6"})  # no other test uses it, because its configuration changes here
    stack.put_objects({"delta/docs/kept": b"x"})
    deployment = Deployment(stack.deployed.name, {"enableCompaction": "false", "maxPasses": "7"})

    again = deploy_stack(local_server, deployment, AwsClients(stack.deployed.endpoint, stack.deployed.secret))

    assert stack.keys() == ["delta/docs/kept"]
    assert again.settings().max_passes == 7
    name = required(again.settings().chromadb_compactor_function, "CHROMADB_COMPACTOR_FUNCTION")
    variables = stack.functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    assert variables["MAX_PASSES"] == "7"


def test_two_stacks_in_one_server_share_nothing(stack: Stack, small_passes: Stack) -> None:
    stack.put_objects({"delta/docs/mine": b"x"})

    assert small_passes.keys() == []
    assert stack.deployed.exports.keys() == small_passes.deployed.exports.keys()
    for name in ("CHROMADB_BUCKET", "DELTA_QUEUE_URL", "DYNAMODB_TABLE", "STATE_MACHINE_ARN"):
        assert stack.env[name] != small_passes.env[name]


def test_the_bucket_has_the_programs_settings(stack: Stack) -> None:
    versioning = stack.s3.get_bucket_versioning(Bucket=stack.bucket)
    rules = stack.s3.get_bucket_lifecycle_configuration(Bucket=stack.bucket)["Rules"]

    assert versioning["Status"] == "Enabled"
    assert {rule["ID"] for rule in rules} >= {"compacted", "work"}
    assert all(type(rule["Expiration"]["Days"]) is int for rule in rules if "Days" in rule.get("Expiration", {}))


# The functions.


def test_the_caller_gets_an_error_with_its_class_name(stack: Stack) -> None:
    with pytest.raises(FunctionError) as raised:
        stack.invoke("release-lock", {"unknown": 1})

    assert raised.value.error_type == "InvalidRequestError"


def test_a_functions_log_is_in_a_file_and_in_cloudwatch(stack: Stack) -> None:
    stack.invoke("release-lock", {"execution": "nobody"})

    name = stack.function_name("release-lock")
    assert "is not owned by this execution" in stack.new_logs()[name]
    events = stack.logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
    assert any("is not owned by this execution" in event["message"] for event in events)


def test_a_role_allows_the_calls_of_its_task_and_no_others(stack: Stack) -> None:
    objects = objects_as(stack, "acquire-lock")
    lister = objects_as(stack, "list-deltas")

    assert "Contents" not in lister.list_objects_v2(Bucket=stack.bucket, Prefix="delta/")
    with pytest.raises(ClientError, match="AccessDenied"):
        objects.list_objects_v2(Bucket=stack.bucket, Prefix="delta/")
    with pytest.raises(ClientError, match="AccessDenied"):
        lister.put_object(Bucket=stack.bucket, Key="snapshot/CURRENT", Body=b"")


def test_a_web_page_cannot_reach_the_stack(stack: Stack) -> None:
    url = stack.s3.generate_presigned_url("put_object", Params={"Bucket": stack.bucket, "Key": "delta/docs/page"})
    page = {"Origin": "http://page.example", "Access-Control-Request-Method": "PUT"}
    requests = (
        Request(url, method="PUT", data=b"x", headers=page),
        Request(url, method="OPTIONS", headers=page),
        Request(url, method="PUT", data=b"x", headers={"Host": "page.example"}),
        Request(f"{stack.deployed.endpoint}/_ministack/reset", method="POST", data=b""),
    )

    for request in requests:
        with pytest.raises(HTTPError) as refused:
            urlopen(request, timeout=10)
        assert refused.value.code == 403
        assert "Access-Control-Allow-Origin" not in refused.value.headers
        refused.value.close()
    assert stack.keys() == []


def test_the_well_known_secret_is_refused(stack: Stack) -> None:
    guessed = boto3.client(
        "s3",
        endpoint_url=stack.deployed.endpoint,
        region_name=server.REGION,
        aws_access_key_id=server.ADMIN_KEY,
        aws_secret_access_key="test",
    )

    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        guessed.list_objects_v2(Bucket=stack.bucket)


def test_an_unknown_access_key_is_refused(stack: Stack) -> None:
    unknown = boto3.client(
        "s3",
        endpoint_url=stack.deployed.endpoint,
        region_name=server.REGION,
        aws_access_key_id="AKIAUNKNOWN000000000",
        aws_secret_access_key="made-up",
    )

    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        unknown.list_objects_v2(Bucket=stack.bucket)
