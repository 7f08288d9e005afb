"""What `doctor` looks at, each by a call that changes nothing: pure findings, for whoever shows them."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING, Literal, NamedTuple

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
)
from botocore.exceptions import (
    ConnectionError as NoConnectionError,
)

from chromadb_compaction.errors import (
    CompactionError,
    ConfigurationError,
    ObjectMissingError,
    SnapshotCorruptError,
)
from chromadb_compaction.settings import Settings, settings_problems, settings_set
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer

if TYPE_CHECKING:
    from collections.abc import Mapping

    import boto3
    from botocore.config import Config

    from chromadb_compaction.ports import Services

Verdict = Literal["ok", "warn", "fail"]


DEPLOY = "deploy it, or set the variable right: pulumi up; pulumi stack output --shell"
GRANT = "grant it to the identity above, or use one that has it"
SKEW_WARN, SKEW_FAIL = 60, 300
"""Seconds between this machine's clock and the cloud's: AWS refuses signatures that are five minutes off."""

_DENIED = ("AccessDenied", "AccessDeniedException", "403", "Forbidden", "UnauthorizedOperation", "AuthorizationError")


class Finding(NamedTuple):
    """One line of the report. `mend` says what to do; None when there is nothing to mend."""

    about: str
    verdict: Verdict
    found: str
    mend: str | None = None


class CheckClients(NamedTuple):
    """What the checks call: a session, and the configuration of its clients."""

    session: boto3.Session
    config: Config


def check_versions() -> Iterator[Finding]:
    """Look at what is installed here."""
    yield Finding("python", "ok", platform.python_version())
    for package in ("chromadb-compaction", "boto3", "chromadb"):
        try:
            installed = version(package)
        except PackageNotFoundError:
            why = "not installed; only opening snapshots on this machine needs it"
            yield Finding(package, "ok" if package == "chromadb" else "warn", why)
            continue
        pinned = _pinned_chromadb()
        if package == "chromadb" and pinned not in {None, installed}:
            mend = f"pip install chromadb=={pinned}"
            yield Finding(package, "warn", f"{installed}; the functions write with {pinned}", mend)
        else:
            yield Finding(package, "ok", installed)


def _pinned_chromadb() -> str | None:
    """Return the version of ChromaDB that this package's `chroma` extra pins: the functions write with it."""
    try:
        requirements = requires("chromadb-compaction") or []
    except PackageNotFoundError:
        return None
    pins = (re.match(r"chromadb==([\w.]+)", requirement) for requirement in requirements)
    return next((pin[1] for pin in pins if pin), None)


def check_settings(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Look at the environment variables: set, wrong or misspelt."""
    problems = settings_problems(environment)
    if not environment.get("CHROMADB_BUCKET"):
        mend = (
            'eval "$(chromadb-compaction local env)", or for AWS: set -a; eval "$(pulumi stack output --shell)"; set +a'
        )
        yield Finding("settings", "fail", "CHROMADB_BUCKET is not set", mend)
        problems = [each for each in problems if "CHROMADB_BUCKET" not in each]
    for problem in problems:
        yield Finding("settings", "fail", problem, "set it right, or unset it")
    if not problems and environment.get("CHROMADB_BUCKET"):
        names = settings_set(environment)
        yield Finding("settings", "ok", f"{len(names)} set: {', '.join(names)}")


def check_identity(clients: CheckClients, now: float) -> Iterator[Finding]:
    """Look at endpoint, credentials and clock, by one call of STS."""
    try:
        client = clients.session.client("sts", config=clients.config)
        endpoint = client.meta.endpoint_url
        answer = client.get_caller_identity()
    except NoRegionError:
        yield Finding("endpoint", "fail", "no region is set", "export AWS_REGION=us-east-1, or whatever it is")
    except NoCredentialsError:
        yield Finding("endpoint", "ok", endpoint)
        yield Finding("credentials", "fail", "there are none", "aws configure sso, or set AWS_PROFILE")
    except (HTTPClientError, NoConnectionError) as error:
        yield Finding("endpoint", "fail", str(error), _reach(endpoint))
    except (ClientError, BotoCoreError) as error:
        yield Finding("endpoint", "ok", endpoint)
        yield Finding("credentials", "fail", _words(error), "aws sso login, or set AWS_PROFILE to one that is valid")
    else:
        yield Finding("endpoint", "ok", endpoint)
        yield Finding("credentials", "ok", answer["Arn"])
        yield from _clock(answer["ResponseMetadata"]["HTTPHeaders"].get("date"), now)


def check_permissions(clients: CheckClients, settings: Settings) -> Iterator[Finding]:
    """Make the reading call of each service that the commands use."""
    for about, variable, value, call in _calls(clients, settings):
        if value is None:
            yield Finding(about, "warn", f"{variable} is not set", f"set {variable}, if a command should use it")
            continue
        yield tried(about, value, call)


def check_snapshot(services: Services) -> Finding:
    """Look at the published snapshot: that its pointer and manifest are of a format which this version reads."""
    try:
        published = read_pointer(services)
        if published is None:
            return Finding("snapshot", "ok", "nothing is published yet")
        manifest = read_manifest(services, published.pointer)
    except (SnapshotCorruptError, ObjectMissingError) as error:
        return Finding("snapshot", "fail", str(error), "chromadb-compaction snapshots verify")
    except CompactionError as error:
        return Finding("snapshot", "fail", str(error), GRANT)
    formats = f"pointer format {published.pointer.format}, manifest format {manifest.format}"
    return Finding("snapshot", "ok", f"{manifest.snapshot_id}: {formats}")


def tried(about: str, name: str, call: Callable[[str], str | None]) -> Finding:
    """Return what came of one call: it may answer with a complaint, or raise."""
    try:
        complaint = call(name)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _DENIED:
            return Finding(about, "fail", f"{name}: {error.operation_name} is denied", GRANT)
        return Finding(about, "fail", f"{name}: {_words(error)}", DEPLOY)
    except (HTTPClientError, NoConnectionError) as error:
        return Finding(about, "fail", f"{name}: {error}", "check the endpoint and the way to it")
    except (BotoCoreError, ConfigurationError) as error:
        return Finding(about, "fail", f"{name}: {error}", DEPLOY)
    except CompactionError as error:
        return Finding(about, "fail", f"{name}: {error}", GRANT)
    return Finding(about, "warn" if complaint else "ok", f"{name}: {complaint}" if complaint else name)


_Call = tuple[str, str, str | None, Callable[[str], str | None]]


def _calls(clients: CheckClients, settings: Settings) -> Iterator[_Call]:
    yield from _stores(clients, settings)
    yield from _workflow(clients, settings)


def _stores(clients: CheckClients, settings: Settings) -> Iterator[_Call]:
    s3 = clients.session.client("s3", config=clients.config)
    sqs = clients.session.client("sqs", config=clients.config)
    dynamodb = clients.session.client("dynamodb", config=clients.config)
    lock = {"S": f"LOCK#{settings.lock_id}"}

    def bucket(name: str) -> str | None:
        s3.head_bucket(Bucket=name)
        s3.list_objects_v2(Bucket=name, Prefix=settings.delta_prefix, MaxKeys=1)
        versioning = s3.get_bucket_versioning(Bucket=name).get("Status", "off")
        return None if versioning == "Enabled" else f"versioning is {versioning}: what is overwritten cannot come back"

    def table(name: str) -> None:
        dynamodb.get_item(TableName=name, Key={"PK": lock, "SK": lock}, ConsistentRead=True)

    def queue(url: str) -> None:
        sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])

    yield "bucket", "CHROMADB_BUCKET", settings.chromadb_bucket, bucket
    yield "lock table", "DYNAMODB_TABLE", settings.dynamodb_table, table
    yield "queue", "DELTA_QUEUE_URL", settings.delta_queue_url, queue
    yield "dead letters", "DELTA_DLQ_URL", settings.delta_dlq_url, queue


def _workflow(clients: CheckClients, settings: Settings) -> Iterator[_Call]:
    sfn = clients.session.client("stepfunctions", config=clients.config)
    functions = clients.session.client("lambda", config=clients.config)
    logs = clients.session.client("logs", config=clients.config)

    def machine(arn: str) -> str | None:
        status = sfn.describe_state_machine(stateMachineArn=arn)["status"]
        sfn.list_executions(stateMachineArn=arn, maxResults=1)
        return None if status == "ACTIVE" else f"it is {status}"

    def function(name: str) -> str | None:
        found = functions.get_function(FunctionName=name)["Configuration"]
        state = found.get("State", "Active")
        return (
            None if state in {"Active", "Inactive"} else f"it is {state}: {found.get('StateReason', 'no reason given')}"
        )

    def log(name: str) -> None:
        logs.filter_log_events(logGroupName=f"/aws/lambda/{name}", limit=1)

    yield "state machine", "STATE_MACHINE_ARN", settings.state_machine_arn, machine
    compactor = settings.chromadb_compactor_function
    yield "compactor", "CHROMADB_COMPACTOR_FUNCTION", compactor, function
    yield "query function", "CHROMADB_QUERY_FUNCTION", settings.chromadb_query_function, function
    yield "producer", "CHROMADB_PRODUCER_FUNCTION", settings.chromadb_producer_function, function
    yield "logs", "CHROMADB_COMPACTOR_FUNCTION", compactor, log


def _words(error: ClientError | BotoCoreError) -> str:
    """Return what the cloud said, without the wrapping of boto3."""
    said = error.response.get("Error", {}) if isinstance(error, ClientError) else {}
    return f"{said['Code']}: {said.get('Message') or 'no message'}" if said.get("Code") else str(error)


def _clock(date: str | None, now: float) -> Iterator[Finding]:
    if date is None:
        return
    skew = abs(parsedate_to_datetime(date).timestamp() - now)
    verdict: Verdict = "fail" if skew > SKEW_FAIL else "warn" if skew > SKEW_WARN else "ok"
    found = f"{skew:.0f} s from the cloud's"
    yield Finding("clock", verdict, found, None if verdict == "ok" else "set this machine's clock: it names the deltas")


def _reach(endpoint: str) -> str:
    if "127.0.0.1" in endpoint or "localhost" in endpoint:
        return 'start the local stack: chromadb-compaction local up --detach; eval "$(chromadb-compaction local env)"'
    return "check AWS_ENDPOINT_URL, AWS_REGION, the network and the proxy"
