"""moto's Step Functions interpreter as an engine. Its history, timeouts and validation are those of AWS.

It calls Lambda on MOTO_PORT, which is a Lambda endpoint of the tests. The endpoint serves fake functions, or forwards
each call to deployed functions.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import ClientError

from chromadb_compaction.local.server import free_port
from tests.statemachine.engines import ACCOUNT, REGION, Engine
from tests.statemachine.lambda_endpoint import Invoke, LambdaResponse, lambda_endpoint

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

START_SECONDS = 30


@contextmanager
def moto_engine(lambda_port: int) -> Iterator[Engine]:
    """Yield moto's interpreter, which invokes tasks on `lambda_port` of this machine."""
    port = free_port()
    environment = os.environ | {
        "MOTO_PORT": str(lambda_port),
        "MOTO_ACCOUNT_ID": ACCOUNT,
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }
    environment = {name: value for name, value in environment.items() if not name.startswith("AWS_ENDPOINT_URL")}
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _execute_state_machines(f"http://127.0.0.1:{port}", server)
            yield Engine("moto", _client(port), shortest_retry=1)
        finally:
            server.terminate()


@contextmanager
def moto_engine_on(deployed: LambdaClient) -> Iterator[Engine]:
    """Yield moto's interpreter, which invokes the functions that the client `deployed` reaches."""
    with lambda_endpoint(forward_to(deployed)) as port, moto_engine(port) as engine:
        yield engine


def forward_to(deployed: LambdaClient) -> Invoke:
    """Return a function that invokes the deployed ones. Their errors and refusals by Lambda stay distinct."""

    def invoke(function: str, event: Any) -> LambdaResponse:
        try:
            response = deployed.invoke(FunctionName=function, Payload=json.dumps(event))
        except ClientError as error:
            return LambdaResponse({"message": str(error)}, refusal=error.response["Error"]["Code"])
        return LambdaResponse(json.load(response["Payload"]), failed="FunctionError" in response)

    return invoke


def _client(port: int) -> Any:
    return boto3.client(
        "stepfunctions",
        region_name=REGION,
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def _execute_state_machines(url: str, server: subprocess.Popen[bytes]) -> None:
    """Configure moto to interpret state machines, once it has started."""
    body = json.dumps({"stepfunctions": {"execute_state_machine": True}}).encode()
    request = urllib.request.Request(f"{url}/moto-api/config", body, {"Content-Type": "application/json"})
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(request, timeout=5).close()
        except urllib.error.URLError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
