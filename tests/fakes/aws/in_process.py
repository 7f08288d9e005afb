"""All fake services behind real boto3 clients. Their state is saved and restored in microseconds."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple
from unittest.mock import patch

import boto3
import botocore.session
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.loaders import Loader

from chromadb_compaction.aws.clients import connect
from chromadb_compaction.ports import Clock, Services
from chromadb_compaction.settings import Settings
from tests.fakes.aws.dynamodb import DynamoDB, Tables
from tests.fakes.aws.protocol import Answer, Call, Refusal, http_response, refused, sent_body
from tests.fakes.aws.s3 import S3, Buckets, address
from tests.fakes.aws.sqs import Queues, Sqs, queue_name
from tests.fakes.aws.stepfunctions import Executions, StepFunctions

REGION = "eu-west-1"
Perform = Callable[[], Answer]
Interceptor = Callable[[Call, Perform], Answer]
"""Called with every HTTP request and a function that performs it. Returns the answer.

It may call `perform` any number of times, wait before or after, or return another answer, such as
`refused(call, Refusal(503, "SlowDown"))`. It may also raise. botocore treats an Exception as a failed connection, and
retries a connection error such as `ReadTimeoutError(endpoint_url=call.request.url)`. A BaseException reaches the
caller.
"""


class Saved(NamedTuple):
    """The saved state of every service."""

    buckets: Buckets
    tables: Tables
    queues: Queues
    executions: Executions


def carry_out(_call: Call, perform: Perform) -> Answer:
    """Perform the request unchanged."""
    return perform()


class InProcessAws:
    """S3, DynamoDB, SQS and Step Functions. Thread-safe: each request takes effect at once, under a lock.

    Args:
        clock: The time of every write and of message visibility, in Unix seconds.

    Attributes:
        intercept: Called with every request. By default it performs the request unchanged.
    """

    def __init__(self, clock: Clock = time.time) -> None:
        self.clock = clock
        self.intercept: Interceptor = carry_out
        self.s3 = S3(clock)
        self.dynamodb = DynamoDB()
        self.sqs = Sqs(clock)
        self.stepfunctions = StepFunctions(clock)
        self._lock = threading.RLock()

    def session(self) -> boto3.Session:
        """Return a session whose clients send all requests to these fakes."""
        inner = botocore.session.Session()
        inner.register_component("data_loader", _models())
        inner.get_component("event_emitter").register("before-send", self._before_send)
        return boto3.Session(
            botocore_session=inner, region_name=REGION, aws_access_key_id="here", aws_secret_access_key="here"
        )

    def services(self, settings: Settings) -> Services:
        """Return the product's adapters, built as the product builds them, over these fakes and their clock."""
        with patch.object(boto3, "Session", return_value=self.session()):
            return connect(settings)._replace(clock=self.clock)

    def create(self, settings: Settings) -> None:
        """Create the empty bucket, table and queues that the settings name."""
        self.s3.buckets.objects[settings.chromadb_bucket] = {}
        if settings.dynamodb_table:
            self.dynamodb.tables.items[settings.dynamodb_table] = {}
        for url in (settings.delta_queue_url, settings.delta_dlq_url):
            if url:
                self.sqs.queues.messages[url.rpartition("/")[2]] = {}

    def save(self) -> Saved:
        """Return the present state."""
        with self._lock:
            return Saved(
                self.s3.buckets.copy(),
                self.dynamodb.tables.copy(),
                self.sqs.queues.copy(),
                self.stepfunctions.executions.copy(),
            )

    def restore(self, saved: Saved) -> None:
        """Restore a saved state. It may be restored again later."""
        with self._lock:
            self.s3.buckets = saved.buckets.copy()
            self.dynamodb.tables = saved.tables.copy()
            self.sqs.queues = saved.queues.copy()
            self.stepfunctions.executions = saved.executions.copy()

    def _before_send(self, request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse:
        service, operation = event_name.split(".")[1:]
        body = sent_body(request)
        call = Call(service, operation, _target(service, request, body), request, body)
        return http_response(request.url, self.intercept(call, lambda: self._perform(call)))

    def _perform(self, call: Call) -> Answer:
        with self._lock:
            try:
                return self._answer(call)
            except Refusal as refusal:
                return refused(call, refusal)

    def _answer(self, call: Call) -> Answer:
        if call.service == "s3":
            return self.s3.answer(call)
        asked = json.loads(call.body)
        if call.service == "dynamodb":
            return self.dynamodb.answer(call.operation, asked)
        if call.service == "sqs":
            return self.sqs.answer(call.operation, asked)
        return self.stepfunctions.answer(call.operation, asked)


@lru_cache(maxsize=1)
def _models() -> Loader:
    """Return botocore's service descriptions, read once: reading them takes most of the time of making a client."""
    return Loader()


def _target(service: str, request: AWSPreparedRequest, body: bytes) -> str:
    if service == "s3":
        at = address(request)
        return at.key or at.query.get("prefix", "")
    asked = json.loads(body)
    if service == "dynamodb":
        return str(asked["TableName"])
    return queue_name(asked) if service == "sqs" else str(asked.get("executionArn") or asked["stateMachineArn"])
