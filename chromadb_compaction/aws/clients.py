"""Plain boto3 clients and the services made of them. AWS_ENDPOINT_URL alone decides which cloud they speak to."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, cast

import boto3
from botocore.config import Config

from chromadb_compaction.aws.delta_queue import SqsDeltaQueue
from chromadb_compaction.aws.lease_store import DynamoDBLeaseStore
from chromadb_compaction.aws.object_store import S3ObjectStore
from chromadb_compaction.ports import Services
from chromadb_compaction.settings import Settings, load_settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

PARALLEL_TRANSFERS = 64
"""Connections kept open per client: more than any step's threads, so that none waits for a socket."""


def client_config() -> Config:
    """Return the configuration of every client: standard retries, and timeouts far below a task's own."""
    return Config(
        retries={"mode": "standard", "max_attempts": 5},
        connect_timeout=3,
        read_timeout=30,
        max_pool_connections=PARALLEL_TRANSFERS,
        tcp_keepalive=True,
    )


def connect(settings: Settings) -> Services:
    """Return the services that `settings` name. Nothing is called yet."""
    session, making = boto3.Session(), Lock()
    config = client_config()
    return Services(
        settings=settings,
        objects=S3ObjectStore(
            cast("S3Client", _WhenUsed(lambda: session.client("s3", config=config), making)), settings.chromadb_bucket
        ),
        leases=DynamoDBLeaseStore(
            cast("DynamoDBClient", _WhenUsed(lambda: session.client("dynamodb", config=config), making)),
            settings.dynamodb_table,
        ),
        queue=SqsDeltaQueue(
            cast("SQSClient", _WhenUsed(lambda: session.client("sqs", config=config), making)),
            settings.delta_queue_url,
            settings.delta_dlq_url,
        ),
        clock=time.time,
    )


class _WhenUsed:
    """A client that is made when it is first used: taking the lock and releasing it never ask S3 or SQS anything.

    `making` guards the session, which several threads may not use at once.
    """

    def __init__(self, make: Callable[[], object], making: Lock) -> None:
        self._make = make
        self._making = making

    def __getattr__(self, name: str) -> object:
        with self._making:
            if "_client" not in self.__dict__:
                self._client = self._make()
        return getattr(self._client, name)


@lru_cache(maxsize=1)
def services() -> Services:
    """Return the services that the environment names: made once per process, as Lambda reuses it."""
    return connect(load_settings())
