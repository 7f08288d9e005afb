"""Plain boto3 clients and the services made of them. AWS_ENDPOINT_URL alone decides which cloud they speak to."""

from __future__ import annotations

import time
from functools import lru_cache

import boto3
from botocore.config import Config

from chromadb_compaction.adapters.delta_queue import SqsDeltaQueue
from chromadb_compaction.adapters.lease_store import DynamoDBLeaseStore
from chromadb_compaction.adapters.object_store import S3ObjectStore
from chromadb_compaction.ports import Services
from chromadb_compaction.settings import Settings, load_settings

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
    session = boto3.Session()
    config = client_config()
    return Services(
        settings=settings,
        objects=S3ObjectStore(session.client("s3", config=config), settings.chromadb_bucket),
        leases=DynamoDBLeaseStore(session.client("dynamodb", config=config), settings.dynamodb_table),
        queue=SqsDeltaQueue(session.client("sqs", config=config), settings.delta_queue_url, settings.delta_dlq_url),
        clock=time.time,
    )


@lru_cache(maxsize=1)
def services() -> Services:
    """Return the services that the environment names: made once per process, as Lambda reuses it."""
    return connect(load_settings())
