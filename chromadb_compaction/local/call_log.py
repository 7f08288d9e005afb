"""A record of every AWS call that a function makes, so that its role can be held against what it really does.

Deploy with the environment variable LOCAL_STACK_CALLS, a directory: each function then appends its calls to a file
of its own there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict

VARIABLE = "LOCAL_STACK_CALLS"
BY_A_CLIENT = "amz-sdk-invocation-id"
"""A header of every request that a client of boto3 makes."""
NAMING = frozenset(
    {"Bucket", "CopySource", "Delete", "IfMatch", "Key", "Prefix", "QueueUrl", "TableName", "stateMachineArn"}
)
"""The parameters that say what a call is about. All others may be large, and stay out of the record."""


class Call(BaseModel):
    """One call as botocore names it, and the HTTP status of its answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    service: str
    operation: str
    parameters: dict[str, Any]
    status: int


def record_calls(directory: Path, function: str) -> None:
    """Append every call that a client made from now on gets an answer to."""
    from botocore import handlers

    log = os.open(_file(directory, function), os.O_APPEND | os.O_CREAT | os.O_WRONLY)

    def remember(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
        context[VARIABLE] = {name: value for name, value in params.items() if name in NAMING}

    def write(call: Call) -> None:
        # One write of one line, so that threads and worker processes do not mix theirs.
        os.write(log, f"{call.model_dump_json()}\n".encode())

    def append(http_response: Any, model: Any, context: dict[str, Any], **_: object) -> None:  # noqa: ANN401 - botocore's
        write(
            Call(
                service=model.service_model.service_name,
                operation=model.name,
                parameters=context[VARIABLE],
                status=http_response.status_code,
            )
        )

    def append_short(request: Any, **_unused: object) -> None:  # noqa: ANN401 - botocore's
        # What aws/signed_gets.py asks is no call of a client. If it fails, a client's call follows.
        if BY_A_CLIENT not in request.headers:
            bucket, _, key = unquote(urlsplit(request.url).path).removeprefix("/").partition("/")
            write(Call(service="s3", operation="GetObject", parameters={"Bucket": bucket, "Key": key}, status=200))

    # Every session that is made later registers these as its own.
    handlers.BUILTIN_HANDLERS.extend(
        [("provide-client-params", remember), ("after-call", append), ("before-send.s3.GetObject", append_short)]
    )


def recorded(directory: Path, function: str) -> Iterator[Call]:
    """Yield the calls of a function, oldest first."""
    file = _file(directory, function)
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        yield Call.model_validate(json.loads(line))


def _file(directory: Path, function: str) -> Path:
    return directory / f"{function}.jsonl"
