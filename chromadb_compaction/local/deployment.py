"""Deploy the Pulumi program into a local server, without Pulumi's engine.

Pulumi's runtime accepts mocks in place of the engine: it then asks them to make every resource, in dependency order
and with resolved inputs. These mocks make each resource through boto3 and return its real id and ARN. So the program
that runs here is the one that production deploys.
"""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pulumi
from botocore.exceptions import BotoCoreError, ClientError
from pulumi.runtime import set_all_config, set_mocks
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.settings import SETTINGS
from pulumi.runtime.stack import run_pulumi_func

from chromadb_compaction.local.bootstrap import bootstrap_zip
from chromadb_compaction.local.defaults import DEFAULT_STACK
from chromadb_compaction.local.errors import LocalStackError
from chromadb_compaction.local.home import StackHome
from chromadb_compaction.local.program import ROOT, make_importable
from chromadb_compaction.local.resources import compute, monitoring, network, storage, workflow
from chromadb_compaction.local.resources.clients import AwsClients, Creator, FunctionOptions, Inputs, Target
from chromadb_compaction.local.server import start, stop
from chromadb_compaction.local.stack import LocalStack, save

CREATORS: dict[str, Creator] = (
    storage.CREATORS | compute.CREATORS | workflow.CREATORS | monitoring.CREATORS | network.CREATORS
)
PROJECT = "chromadb-compaction"

Program = Callable[[], Mapping[str, Any]]
"""Declares resources and returns the stack's exports."""
MakeMonitor = Callable[[pulumi.runtime.Mocks], MockMonitor]
"""Makes the part of Pulumi's runtime that passes each declared resource to the mocks."""


class Deployment(NamedTuple):
    """One stack to deploy.

    Args:
        stack: The stack's name.
        config: What differs from the program's defaults, by the keys of `pulumi config set chromadb:<key>`.
        environment: Extra environment variables of all functions.
        publishes: Whether functions are published as versions. If not, the workflow calls them as they are now, so that
            a change made by hand applies to the next call.
    """

    stack: str = DEFAULT_STACK
    config: Mapping[str, str] = {}
    environment: Mapping[str, str] = {}
    publishes: bool = True


class Engine(NamedTuple):
    """A Step Functions engine that runs beside the server, such as AWS's own.

    Args:
        endpoint: Its URL.
        lambda_port: The port on this machine at which it calls functions.
    """

    endpoint: str
    lambda_port: int

    def check(self) -> None:
        """Raise LocalStackError if nothing answers there."""
        url = urlsplit(self.endpoint)
        try:
            socket.create_connection((url.hostname or "", url.port or 80), timeout=3).close()
        except OSError as error:
            raise LocalStackError(
                f"no Step Functions engine answers at {self.endpoint}", next_step="start it: docker compose up --detach"
            ) from error


def deploy(program: Program, deployment: Deployment, aws: AwsClients) -> dict[str, str]:
    """Create or update every resource of `program`, and return its exports.

    Resources that the program no longer declares are not removed. Raises LocalStackError.
    """
    # A function that starts an execution uses the engine too.
    engine = {"AWS_ENDPOINT_URL_SFN": aws.state_machine_endpoint} if aws.state_machine_endpoint else {}
    options = FunctionOptions(
        bootstrap_zip(uuid.uuid4().hex), {**engine, **deployment.environment}, deployment.publishes
    )
    mocks = DeployingMocks(Target(aws, options))
    return run_program(
        program, mocks, deployment.stack, {**local_config(aws.state_machine_endpoint), **deployment.config}
    )


def run_program(
    program: Program,
    mocks: pulumi.runtime.Mocks,
    stack: str,
    config: Mapping[str, str],
    *,
    monitor: MakeMonitor = MockMonitor,
) -> dict[str, str]:
    """Run `program` as Pulumi would, with `mocks` in place of AWS, and return its exports."""
    # Pulumi keeps its state in context variables and in the thread's event loop. A new thread starts without any, so
    # runs never mix.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(_run, program, mocks, stack, config, monitor).result()


def _run(
    program: Program, mocks: pulumi.runtime.Mocks, stack: str, config: Mapping[str, str], monitor: MakeMonitor
) -> dict[str, str]:
    set_all_config({f"chromadb:{key}": value for key, value in config.items()})
    exports: dict[str, str] = {}
    threads = LoopThreads()

    async def run() -> None:
        asyncio.get_running_loop().set_default_executor(threads)
        # Outputs that a failed deployment left behind would be awaited here.
        SETTINGS.outputs = set()
        set_mocks(mocks, project=PROJECT, stack=stack, preview=False, monitor=monitor(mocks))
        declared: pulumi.Output[Any] = pulumi.Output.all(**program())
        exports.update((name, str(value)) for name, value in ((await declared.future()) or {}).items())

    try:
        asyncio.run(run_pulumi_func(run))
    finally:
        threads.close_loops()
    return exports


class LoopThreads(ThreadPoolExecutor):
    """The threads in which Pulumi calls its mocks.

    Pulumi makes an event loop for each thread and never closes it, so this class makes and closes the loops.
    """

    def __init__(self) -> None:
        super().__init__(initializer=self._make_loop)
        self._loops: list[asyncio.AbstractEventLoop] = []

    def _make_loop(self) -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        self._loops.append(loop)

    def close_loops(self) -> None:
        """Wait until all threads have ended, and close their loops."""
        self.shutdown()
        for loop in self._loops:
            loop.close()


def local_config(state_machine_endpoint: str | None = None) -> dict[str, str]:
    """Return the settings of the program that have no default, or no default that works here."""
    # The server's rules cannot start an execution in another engine.
    scheduled = {"enableCompaction": "false"} if state_machine_endpoint else {}
    # Functions run the code of this checkout or wheel, so no image exists, and nothing reads its name.
    repository = f"{AwsClients.account}.dkr.ecr.{AwsClients.region}.amazonaws.com/chromadb-compaction"
    return {"imageUri": f"{repository}@sha256:{'0' * 64}", "packageDir": str(ROOT), **scheduled}


class DeployingMocks(pulumi.runtime.Mocks):
    """Mocks that take the place of Pulumi's engine and the AWS provider."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        """Make one resource. Components and providers need nothing from AWS."""
        if not args.typ.startswith("aws:"):
            return args.name, dict(args.inputs)
        creator = CREATORS.get(args.typ)
        if creator is None:
            raise LocalStackError(
                f"the local stack cannot make a {args.typ} ({args.name})",
                next_step="add it to chromadb_compaction/local/resources",
            )
        try:
            created = creator(self._target, _with_whole_numbers(args.inputs))
        except (ClientError, BotoCoreError) as error:
            raise LocalStackError(f"making {args.typ} {args.name} failed: {error}") from error
        return created.id, created.outputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """Answer a lookup of the provider."""
        lookup = LOOKUPS.get(args.token)
        if lookup is None:
            raise LocalStackError(f"the local stack cannot answer {args.token}", next_step=f"add it to {__name__}")
        return lookup(self._target, args.args), []


def caller_identity(target: Target, _arguments: Inputs) -> Inputs:
    """aws.get_caller_identity."""
    account = target.aws.account
    return {"accountId": account, "arn": f"arn:aws:iam::{account}:root", "userId": account}


def region(target: Target, _arguments: Inputs) -> Inputs:
    """aws.get_region."""
    name = target.aws.region
    return {"region": name, "name": name, "id": name}


def partition(_target: Target, _arguments: Inputs) -> Inputs:
    """aws.get_partition."""
    return {"partition": "aws", "id": "aws", "dnsSuffix": "amazonaws.com", "reverseDnsPrefix": "com.amazonaws"}


def existing_table(target: Target, arguments: Inputs) -> Inputs:
    """aws.dynamodb.get_table."""
    table = target.client("dynamodb").describe_table(TableName=arguments["name"])["Table"]
    keys = {key["KeyType"]: key["AttributeName"] for key in table["KeySchema"]}
    return {"name": arguments["name"], "arn": table["TableArn"], "hashKey": keys["HASH"], "rangeKey": keys.get("RANGE")}


LOOKUPS: dict[str, Callable[[Target, Inputs], Inputs]] = {
    "aws:index/getCallerIdentity:getCallerIdentity": caller_identity,
    "aws:index/getRegion:getRegion": region,
    "aws:index/getPartition:getPartition": partition,
    "aws:dynamodb/getTable:getTable": existing_table,
    **network.LOOKUPS,
}


def _with_whole_numbers(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return inputs with integers again: Pulumi's wire format turns every number into a float."""
    if isinstance(value, dict):
        return {name: _with_whole_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def deploy_stack(home: StackHome, deployment: Deployment, aws: AwsClients) -> LocalStack:
    """Deploy the project's own program and save the result in `home`."""
    make_importable()
    from infra.program import declare

    exports = deploy(declare, deployment, aws)
    # The command line keeps its copies of snapshots in `home`, so that they are removed with the stack.
    cache = home.caches / deployment.stack
    stack = LocalStack(
        name=deployment.stack,
        endpoint=aws.endpoint,
        secret=aws.secret,
        state_machine_endpoint=aws.state_machine_endpoint,
        exports={**exports, "CHROMADB_CACHE_DIR": str(cache)},
    )
    save(home, stack)
    return stack


def bring_up(
    home: StackHome,
    deployment: Deployment,
    *,
    port: int | None = None,
    end_with_parent: bool = False,
    durable: bool = False,
    engine: Engine | None = None,
) -> LocalStack:
    """Start a server unless one runs, and deploy into it. Stop the server again if the deployment fails.

    With `durable` the objects outlive the server, and the stack is deployed around those of an earlier one. With
    `engine` the state machine is deployed into that engine.
    """
    served = home.is_served()
    if engine:
        engine.check()
    lambda_port = engine.lambda_port if engine else None
    record = start(home, port=port, end_with_parent=end_with_parent, durable=durable, lambda_port=lambda_port)
    try:
        return deploy_stack(home, deployment, AwsClients(record.endpoint, record.secret, engine and engine.endpoint))
    except BaseException:
        if not served:
            stop(home, keep_objects=durable)
        raise
