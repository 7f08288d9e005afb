"""A log of every AWS call that a function makes. A test compares it with the function's role.

Deploy with the environment variable LOCAL_STACK_CALLS set to a directory: each function then appends its calls to its
own file there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict

CLIENT_HEADER = "amz-sdk-invocation-id"
"""A header of every request that a boto3 client sends."""
CONTEXT_KEY = "chromadb_compaction.parameters"
RECORDED = frozenset(
    {"Bucket", "CopySource", "Delete", "IfMatch", "Key", "Prefix", "QueueUrl", "TableName", "stateMachineArn"}
)
"""The parameters to log. The others may be large."""


class Call(BaseModel):
    """One call under botocore's names, and the HTTP status of its response."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    service: str
    operation: str
    parameters: dict[str, Any]
    status: int


def record_calls(directory: Path, function: str) -> None:
    """Log every answered call of the clients that are made from now on."""
    from botocore import handlers

    log = os.open(_file(directory, function), os.O_APPEND | os.O_CREAT | os.O_WRONLY)

    def keep_parameters(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
        context[CONTEXT_KEY] = {name: value for name, value in params.items() if name in RECORDED}

    def write(call: Call) -> None:
        # One write per line keeps the lines of threads and worker processes apart.
        os.write(log, f"{call.model_dump_json()}\n".encode())

    def log_client_call(http_response: Any, model: Any, context: dict[str, Any], **_: object) -> None:  # noqa: ANN401 - botocore's
        write(
            Call(
                service=model.service_model.service_name,
                operation=model.name,
                parameters=context[CONTEXT_KEY],
                status=http_response.status_code,
            )
        )

    def log_signed_request(request: Any, event_name: str, **_unused: object) -> None:  # noqa: ANN401 - botocore's
        # aws/signed_requests.py sends its requests without a client. If one fails, a client's call follows.
        if CLIENT_HEADER not in request.headers:
            bucket, _, key = unquote(urlsplit(request.url).path).removeprefix("/").partition("/")
            parameters: dict[str, Any] = {"Bucket": bucket, "Key": key}
            if "x-amz-copy-source" in request.headers:
                source_bucket, _, source = unquote(request.headers["x-amz-copy-source"]).partition("/")
                parameters |= {"CopySource": {"Bucket": source_bucket, "Key": source}}
            write(Call(service="s3", operation=event_name.rpartition(".")[2], parameters=parameters, status=200))

    # Every session that is made later registers these handlers.
    handlers.BUILTIN_HANDLERS.extend(
        [
            ("provide-client-params", keep_parameters),
            ("after-call", log_client_call),
            ("before-send.s3.GetObject", log_signed_request),
            ("before-send.s3.CopyObject", log_signed_request),
        ]
    )


def read_calls(directory: Path, function: str) -> Iterator[Call]:
    """Yield the calls of a function, oldest first."""
    file = _file(directory, function)
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        yield Call.model_validate(json.loads(line))


def _file(directory: Path, function: str) -> Path:
    return directory / f"{function}.jsonl"
