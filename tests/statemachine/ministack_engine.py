"""ministack's Step Functions as an engine, with fake functions deployed in its Lambda."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from chromadb_compaction.local import server
from chromadb_compaction.local.bootstrap import RUNTIME, bootstrap_zip
from chromadb_compaction.local.home import ServerRecord, StackHome
from tests.statemachine.definition import FUNCTIONS
from tests.statemachine.engines import REGION, ROLE, Engine
from tests.statemachine.forwarding import FAKES_URL

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


@contextmanager
def ministack_engine(directory: Path, lambda_port: int) -> Iterator[Engine]:
    """Yield ministack's interpreter, whose functions forward their calls to the Lambda endpoint on `lambda_port`."""
    home = StackHome(directory)
    running = server.start(home, end_with_parent=True)
    try:
        _deploy_functions(running, f"http://127.0.0.1:{lambda_port}")
        yield Engine("ministack", admin_client("stepfunctions", running), shortest_retry=0)
    finally:
        server.stop(home)


def admin_client(service: Any, running: ServerRecord) -> Any:
    """Return a boto3 client for a running ministack, with admin credentials."""
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=running.endpoint,
        aws_access_key_id=server.ADMIN_KEY,
        aws_secret_access_key=running.secret,
    )


def _deploy_functions(running: ServerRecord, fakes_url: str) -> None:
    roles, functions = admin_client("iam", running), admin_client("lambda", running)
    role = roles.create_role(RoleName=ROLE.rpartition("/")[2], AssumeRolePolicyDocument=json.dumps(TRUST))
    for name in FUNCTIONS:
        functions.create_function(
            FunctionName=name,
            Runtime=RUNTIME,
            Role=role["Role"]["Arn"],
            Handler="tests.statemachine.forwarding.handler",
            Code={"ZipFile": bootstrap_zip("fake")},
            Environment={"Variables": {FAKES_URL: fakes_url}},
            Timeout=60,
        )
