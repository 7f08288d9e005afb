"""A handle on a local stack for tests and benchmarks: write objects, run executions, read the results."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from chromadb_compaction.aws.clients import client_config
from chromadb_compaction.aws.delta_queue import SqsDeltaQueue
from chromadb_compaction.aws.lease_store import DynamoDBLeaseStore
from chromadb_compaction.aws.object_store import S3ObjectStore
from chromadb_compaction.lease import Lease
from chromadb_compaction.local.bootstrap import bootstrap_zip
from chromadb_compaction.local.home import StackHome
from chromadb_compaction.local.stack import LocalStack
from chromadb_compaction.ports import Services
from chromadb_compaction.settings import Settings, required
from infra.names import LIVE

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient
    from mypy_boto3_stepfunctions.type_defs import DescribeExecutionOutputTypeDef, HistoryEventTypeDef

POLL_SECONDS = 0.05
PARALLEL_PUTS = 16
DELETES_PER_CALL = 1000


class ExecutionResult(NamedTuple):
    """The end of an execution. `output` is {} unless it succeeded. `failed_state` is the state that failed last."""

    arn: str
    status: str
    output: dict[str, Any]
    error: str
    cause: str
    failed_state: str | None
    seconds: float


class FunctionError(Exception):
    """A function raised an exception. `error_type` is its class name."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(f"{answer.get('errorType')}: {answer.get('errorMessage')}")
        self.error_type = answer.get("errorType")


class Stack:
    """One deployed stack, with an administrator's permissions.

    Args:
        deployed: The stack.
        home: The directory of its server's state and logs.
    """

    def __init__(self, deployed: LocalStack, home: StackHome) -> None:
        self.deployed = deployed
        self.home = home
        self.bucket = self.settings.chromadb_bucket
        self._log_marks: dict[Path, int] = {}

    @cached_property
    def settings(self) -> Settings:
        """The functions' settings, but with this process's own cache."""
        return self.deployed.settings()

    @cached_property
    def env(self) -> dict[str, str]:
        """The variables that point AWS clients and this package's command line at the stack."""
        return self.deployed.environment()

    @cached_property
    def s3(self) -> S3Client:
        """The S3 client."""
        client: S3Client = self.deployed.client("s3", client_config())
        return client

    @cached_property
    def sqs(self) -> SQSClient:
        """The SQS client."""
        client: SQSClient = self.deployed.client("sqs", client_config())
        return client

    @cached_property
    def dynamodb(self) -> DynamoDBClient:
        """The DynamoDB client."""
        client: DynamoDBClient = self.deployed.client("dynamodb", client_config())
        return client

    @cached_property
    def sfn(self) -> SFNClient:
        """The Step Functions client."""
        client: SFNClient = self.deployed.client("stepfunctions", client_config())
        return client

    @cached_property
    def functions(self) -> LambdaClient:
        """The Lambda client."""
        client: LambdaClient = self.deployed.client("lambda", client_config())
        return client

    @cached_property
    def logs(self) -> CloudWatchLogsClient:
        """The CloudWatch Logs client."""
        client: CloudWatchLogsClient = self.deployed.client("logs", client_config())
        return client

    def services(self, *, cache_dir: Path) -> Services:
        """Return the services that run steps in this process, with a cache in `cache_dir`."""
        settings = self.settings.model_copy(update={"chromadb_cache_dir": str(cache_dir)})
        return Services(
            settings=settings,
            objects=S3ObjectStore(self.s3, self.bucket),
            leases=DynamoDBLeaseStore(self.dynamodb, settings.dynamodb_table),
            queue=SqsDeltaQueue(self.sqs, settings.delta_queue_url, settings.delta_dlq_url),
            clock=time.time,
        )

    # Objects.

    def put_objects(self, objects: Mapping[str, bytes]) -> None:
        """Write objects in parallel."""

        def put(entry: tuple[str, bytes]) -> None:
            self.s3.put_object(Bucket=self.bucket, Key=entry[0], Body=entry[1])

        with ThreadPoolExecutor(PARALLEL_PUTS) as threads:
            list(threads.map(put, objects.items()))

    def get(self, key: str) -> bytes:
        """Return an object's content."""
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys under `prefix`, sorted."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    # Executions.

    def start_execution(self, execution_input: Mapping[str, Any] | None = None) -> str:
        """Start an execution and return its ARN."""
        machine = required(self.settings.state_machine_arn, "STATE_MACHINE_ARN")
        started = self.sfn.start_execution(stateMachineArn=machine, input=json.dumps(execution_input or {}))
        return started["executionArn"]

    def wait(self, arn: str, *, seconds: float = 120) -> ExecutionResult:
        """Wait until an execution ends. Raises AssertionError if it still runs after `seconds`."""
        deadline = time.monotonic() + seconds
        while (described := self.sfn.describe_execution(executionArn=arn))["status"] == "RUNNING":
            if time.monotonic() > deadline:
                raise AssertionError(f"{arn} still runs after {seconds} s")
            time.sleep(POLL_SECONDS)
        return self._result(described)

    def compact(self, *, seconds: float = 120) -> ExecutionResult:
        """Run one execution until it ends."""
        return self.wait(self.start_execution(), seconds=seconds)

    def history(self, arn: str) -> list[HistoryEventTypeDef]:
        """Return an execution's events, oldest first."""
        pages = self.sfn.get_paginator("get_execution_history").paginate(executionArn=arn)
        return [event for page in pages for event in page["events"]]

    def _result(self, described: DescribeExecutionOutputTypeDef) -> ExecutionResult:
        arn, status = described["executionArn"], described["status"]
        return ExecutionResult(
            arn=arn,
            status=status,
            output=json.loads(described["output"]) if status == "SUCCEEDED" else {},
            error=described.get("error", ""),
            cause=described.get("cause", ""),
            failed_state=self._failed_state(arn),
            seconds=(described["stopDate"] - described["startDate"]).total_seconds(),
        )

    def _failed_state(self, arn: str) -> str | None:
        state, failed = None, None
        for event in self.history(arn):
            if entered := event.get("stateEnteredEventDetails"):
                state = entered["name"]
            elif event["type"] in ("TaskFailed", "TaskTimedOut", "LambdaFunctionFailed", "MapStateFailed"):
                failed = state
        return failed

    # Functions.

    def invoke(self, function: str, event: Mapping[str, Any]) -> Any:
        """Invoke a function, such as `query`, and return its answer. Raises FunctionError."""
        name = f"{self.function_name(function)}:{LIVE}"
        answer = self.functions.invoke(FunctionName=name, Payload=json.dumps(event).encode())
        payload = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise FunctionError(payload)
        return payload

    def function_name(self, function: str) -> str:
        """Return the full name of a function: chromadb-query-local for `query`."""
        return f"chromadb-{function}-{self.deployed.name}"

    def forget_cached_snapshots(self, *functions: str) -> None:
        """Restart functions (default: those that cache snapshots), as Lambda does when it replaces their instances."""
        self.release(dict.fromkeys(functions or ("compactor", "query"), bootstrap_zip(str(time.time_ns()))))

    def release(self, packages: Mapping[str, bytes]) -> None:
        """Publish new versions of functions, and let the aliases and the state machine name them, as a deployment does.

        `packages` maps each function, such as `query`, to its code.
        """
        machine = required(self.settings.state_machine_arn, "STATE_MACHINE_ARN")
        definition = self.sfn.describe_state_machine(stateMachineArn=machine)["definition"]
        for function, package in packages.items():
            name = self.function_name(function)
            self.functions.update_function_code(FunctionName=name, ZipFile=package)
            version = self.functions.publish_version(FunctionName=name)["Version"]
            self.functions.update_alias(FunctionName=name, Name=LIVE, FunctionVersion=version)
            definition = re.sub(rf"(?<=:{name}:)\d+", version, definition)
        self.sfn.update_state_machine(stateMachineArn=machine, definition=definition, publish=True)

    # Lease and queues.

    def lease(self) -> Lease | None:
        """Return the lease, expired or not. None: there is no lock item."""
        return DynamoDBLeaseStore(self.dynamodb, self.settings.dynamodb_table).read(self.settings.lock_id)

    def delete_lock_item(self) -> None:
        """Delete the lock item of any owner."""
        key = {"S": f"LOCK#{self.settings.lock_id}"}
        table = required(self.settings.dynamodb_table, "DYNAMODB_TABLE")
        self.dynamodb.delete_item(TableName=table, Key={"PK": key, "SK": key})

    def dead_letters(self) -> list[dict[str, Any]]:
        """Delete and return every visible message of the dead-letter queue."""
        url, bodies = required(self.settings.delta_dlq_url, "DELTA_DLQ_URL"), []
        while messages := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            for message in messages:
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                bodies.append(json.loads(message["Body"]))
        return bodies

    # For tests.

    def eventually(self, holds: Callable[[], bool], what: str, *, seconds: float = 30) -> None:
        """Wait until `holds()` is true. Raises AssertionError naming `what` if it is not within `seconds`."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {what}")
            time.sleep(POLL_SECONDS)

    def running_executions(self) -> list[str]:
        """Return the ARNs of running executions."""
        machine = required(self.settings.state_machine_arn, "STATE_MACHINE_ARN")
        listed = self.sfn.list_executions(stateMachineArn=machine, statusFilter="RUNNING")
        return [execution["executionArn"] for execution in listed["executions"]]

    def empty(self) -> None:
        """Delete every object version, every message and the lock item. Ended executions stay listed."""
        pages = self.s3.get_paginator("list_object_versions").paginate(
            Bucket=self.bucket, PaginationConfig={"PageSize": DELETES_PER_CALL}
        )
        for page in pages:
            versions = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if versions:
                objects: Any = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in versions]
                self.s3.delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True})
        for url in (self.settings.delta_queue_url, self.settings.delta_dlq_url):
            self.sqs.purge_queue(QueueUrl=required(url, "DELTA_QUEUE_URL"))
        self.delete_lock_item()

    def mark_logs(self) -> None:
        """Remember the present end of every log, for `new_logs`."""
        self._log_marks = {file: file.stat().st_size for file in self._log_files()}

    def new_logs(self) -> dict[str, str]:
        """Return the server's and the functions' log text since `mark_logs`, by file name."""
        texts = {}
        for file in self._log_files():
            with file.open(encoding="utf-8", errors="replace") as log:
                log.seek(self._log_marks.get(file, 0))
                if text := log.read():
                    texts[file.stem] = text
        return texts

    def _log_files(self) -> list[Path]:
        functions = sorted(self.home.function_logs.glob(f"*-{self.deployed.name}.log"))
        return [file for file in (self.home.server_log, *functions) if file.exists()]
