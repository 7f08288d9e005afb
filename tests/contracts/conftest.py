"""Clients of the local server's S3, DynamoDB and SQS, for the contracts of the adapters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from mypy_boto3_dynamodb import DynamoDBClient
from mypy_boto3_s3 import S3Client
from mypy_boto3_sqs import SQSClient

from chromadb_compaction.aws.clients import client_config
from chromadb_compaction.local import server
from chromadb_compaction.local.home import ServerRecord, StackHome


@pytest.fixture(scope="session")
def session(running: ServerRecord) -> boto3.Session:
    return boto3.Session(
        region_name=server.REGION, aws_access_key_id=server.ADMIN_KEY, aws_secret_access_key=running.secret
    )


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerRecord]:
    home = StackHome(tmp_path_factory.mktemp("contracts"))
    yield server.start(home, end_with_parent=True)
    server.stop(home)


@pytest.fixture(scope="session")
def endpoint(running: ServerRecord) -> str:
    return running.endpoint


@pytest.fixture(scope="session")
def s3(session: boto3.Session, endpoint: str) -> S3Client:
    return session.client("s3", endpoint_url=endpoint, config=client_config())


@pytest.fixture(scope="session")
def dynamodb(session: boto3.Session, endpoint: str) -> DynamoDBClient:
    return session.client("dynamodb", endpoint_url=endpoint, config=client_config())


@pytest.fixture(scope="session")
def sqs(session: boto3.Session, endpoint: str) -> SQSClient:
    return session.client("sqs", endpoint_url=endpoint, config=client_config())


def create_table(dynamodb: DynamoDBClient, name: str) -> None:
    """Create a table with the keys of the lock table."""
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "PK", "AttributeType": "S"},
            {"AttributeName": "SK", "AttributeType": "S"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )


def client_to_stub(service: Any) -> Any:
    """Return a client for botocore's stubber: it has any credentials and does not retry."""
    return boto3.client(
        service,
        region_name="eu-west-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"max_attempts": 0}),
    )
