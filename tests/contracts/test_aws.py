"""The services for the environment's settings, and the requests that they send."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import boto3
import pytest
from mypy_boto3_dynamodb import DynamoDBClient
from mypy_boto3_s3 import S3Client
from mypy_boto3_sqs import SQSClient

from chromadb_compaction import layout
from chromadb_compaction.aws import clients
from chromadb_compaction.deltas.outcomes import DeltaOutcome, pack_outcomes
from chromadb_compaction.errors import ConfigurationError
from chromadb_compaction.local import server
from chromadb_compaction.local.home import ServerRecord
from chromadb_compaction.messages import (
    BATCH_MANIFEST,
    AcquireLockRequest,
    CleanUpRequest,
    ListDeltasRequest,
    ReleaseLockRequest,
)
from chromadb_compaction.ports import DeltaNotification, Services
from chromadb_compaction.settings import load_settings
from chromadb_compaction.steps.acquire_lock import acquire_lock
from chromadb_compaction.steps.clean_up import clean_up
from chromadb_compaction.steps.list_deltas import list_deltas
from chromadb_compaction.steps.release_lock import release_lock
from tests.contracts.conftest import create_table

EXECUTION = "arn:aws:states:us-east-1:000000000000:execution:chromadb-compaction-dev:first"

_numbers = count()


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, running: ServerRecord, s3: S3Client, dynamodb: DynamoDBClient, sqs: SQSClient
) -> Iterator[None]:
    """The resources of a stack, in the environment variables that the functions read."""
    name = f"services-{next(_numbers)}"
    s3.create_bucket(Bucket=name)
    create_table(dynamodb, name)
    variables = {
        "CHROMADB_BUCKET": name,
        "DYNAMODB_TABLE": name,
        "DELTA_QUEUE_URL": sqs.create_queue(QueueName=name)["QueueUrl"],
        "DELTA_DLQ_URL": sqs.create_queue(QueueName=f"{name}-dlq")["QueueUrl"],
        "AWS_ENDPOINT_URL": running.endpoint,
        "AWS_DEFAULT_REGION": server.REGION,
        "AWS_ACCESS_KEY_ID": server.ADMIN_KEY,
        "AWS_SECRET_ACCESS_KEY": running.secret,
    }
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    clients.services.cache_clear()
    yield
    clients.services.cache_clear()


@pytest.fixture
def services(environment: None) -> Services:
    return clients.services()


@pytest.fixture
def requests(services: Services) -> list[str]:
    """The method and URL of every request from now on."""
    sent: list[str] = []

    def record(request: Any, **_: object) -> None:
        sent.append(f"{request.method} {request.url}")

    adapters: list[Any] = [services.objects, services.leases, services.queue]
    for adapter in adapters:
        adapter._client.meta.events.register("before-send", record)
    return sent


def test_the_services_are_created_once_per_process(environment: None) -> None:
    assert clients.services() is clients.services()


def test_a_client_is_created_at_its_first_use(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    created: list[str] = []
    create = boto3.Session.client

    def record(session: boto3.Session, name: Any, **options: Any) -> Any:
        created.append(name)
        return create(session, name, **options)

    monkeypatch.setattr(boto3.Session, "client", record)
    services = clients.connect(load_settings())

    services.leases.read("a-lock")
    services.leases.read("a-lock")

    assert created == ["dynamodb"]


def test_the_error_without_a_bucket_names_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMADB_BUCKET", raising=False)
    clients.services.cache_clear()

    with pytest.raises(ConfigurationError, match="CHROMADB_BUCKET"):
        clients.services()


def test_an_execution_with_nothing_to_do_sends_at_most_eight_requests(services: Services, requests: list[str]) -> None:
    acquire_lock(AcquireLockRequest(execution=EXECUTION), services)
    listing = list_deltas(ListDeltasRequest(execution=EXECUTION, previous_pass=0), services)
    released = release_lock(ReleaseLockRequest(execution=EXECUTION), services)

    assert (listing.deltas, released.released) == (0, True)
    assert len(requests) <= 8


def test_deltas_are_listed_and_archived_in_the_bucket_and_queue(services: Services, requests: list[str]) -> None:
    keys = [layout.delta_key("docs", f"{n:04d}") for n in range(120)]
    for key in keys:
        services.objects.put(key, key.encode())
    services.queue.notify([DeltaNotification(key, 1, 1) for key in keys])
    services.objects.put(layout.quarantine_key(keys[0]), keys[0].encode())
    acquire_lock(AcquireLockRequest(execution=EXECUTION), services)

    listing = list_deltas(ListDeltasRequest(execution=EXECUTION, previous_pass=0), services)
    listed = [
        delta
        for batch in listing.batches
        for delta in BATCH_MANIFEST.validate_json(services.objects.get(batch.key).body)
    ]
    outcomes = [
        DeltaOutcome(key=delta.key, etag=delta.etag, bytes=delta.bytes, status="merged", rows=1) for delta in listed
    ]
    outcomes[0] = outcomes[0].model_copy(update={"status": "quarantined", "reason": "row 1 holds NaN"})
    outcome = layout.outcome_key(EXECUTION, 1)
    services.objects.put(outcome, pack_outcomes(outcomes))
    services.objects.put(keys[7], b"written again")
    request = CleanUpRequest(execution=EXECUTION, pass_number=1, snapshot_id=None, outcome=outcome)
    cleaned = clean_up(request, services)

    assert [batch.deltas for batch in listing.batches] == [100, 20]
    assert (cleaned.archived, cleaned.quarantined, cleaned.messages_deleted) == (118, 2, 120)
    assert list(services.objects.list("delta/")) == []
    assert services.objects.get(layout.quarantine_key(keys[7])).body == b"written again"
    assert len(list(services.objects.list("compacted/"))) == 118
    assert sum(line.startswith("POST") and line.endswith("?delete") for line in requests) == 1
