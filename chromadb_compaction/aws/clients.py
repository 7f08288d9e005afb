"""The boto3 clients, and the services made of them. AWS_ENDPOINT_URL selects AWS or a local stack."""

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
"""Connections that each client keeps open: more than the threads of any step, so that no thread waits for one."""


def client_config() -> Config:
    """Return the configuration of every client: standard retries, and timeouts far below a task's own."""
    return Config(
        retries={"mode": "standard", "max_attempts": 5},
        connect_timeout=3,
        read_timeout=30,
        max_pool_connections=PARALLEL_TRANSFERS,
        tcp_keepalive=True,
    )


def connect(settings: Settings, *, bucket_region: str | None = None) -> Services:
    """Return the services for `settings`, without making a request.

    `bucket_region` is the region of the bucket, if it is not the environment's.
    """
    session, lock = boto3.Session(), Lock()
    config = client_config()
    return Services(
        settings=settings,
        objects=S3ObjectStore(
            cast("S3Client", _LazyClient(lambda: session.client("s3", region_name=bucket_region, config=config), lock)),
            settings.chromadb_bucket,
        ),
        leases=DynamoDBLeaseStore(
            cast("DynamoDBClient", _LazyClient(lambda: session.client("dynamodb", config=config), lock)),
            settings.dynamodb_table,
        ),
        queue=SqsDeltaQueue(
            cast("SQSClient", _LazyClient(lambda: session.client("sqs", config=config), lock)),
            settings.delta_queue_url,
            settings.delta_dlq_url,
        ),
        clock=time.time,
    )


class _LazyClient:
    """A client that is created at its first use, because acquiring and releasing the lock need no S3 or SQS.

    `lock` guards the session, which is not thread-safe.
    """

    def __init__(self, create: Callable[[], object], lock: Lock) -> None:
        self._create = create
        self._lock = lock

    def __getattr__(self, name: str) -> object:
        with self._lock:
            if "_client" not in self.__dict__:
                self._client = self._create()
        return getattr(self._client, name)


@lru_cache(maxsize=1)
def services() -> Services:
    """Return the services for the environment's settings. A process makes them once, and Lambda reuses the process."""
    return connect(load_settings())
