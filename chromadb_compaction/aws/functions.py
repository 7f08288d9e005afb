"""Invoke a Lambda function and return its response."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config

from chromadb_compaction.aws.clients import client_config
from chromadb_compaction.errors import CompactionError, error_named

RESPONSE_SECONDS = 300
"""Seconds to wait for a response. A query function that starts cold downloads its snapshot first."""


def invoke(function: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Invoke a function once, without retries, and return its response.

    Args:
        function: The function's name or ARN.
        request: The request, which is sent as JSON.

    Raises:
        CompactionError: The error that the function returned or raised, as the class of that name.
    """
    config = Config(read_timeout=RESPONSE_SECONDS, retries={"mode": "standard", "total_max_attempts": 1})
    client = boto3.client("lambda", config=client_config().merge(config))
    result = client.invoke(FunctionName=function, Payload=json.dumps(request).encode())
    response = json.loads(result["Payload"].read())
    if result.get("FunctionError"):
        raise error_named(response.get("errorType", "Error"), response.get("errorMessage", "no message"))
    if not isinstance(response, dict):
        raise CompactionError(
            f"{function} returned {response!r}, which is not an object",
            next_step="set CHROMADB_QUERY_FUNCTION to the query function",
        )
    if "error" in response:
        error = response["error"]
        raise error_named(error["kind"], error["message"], next_step=error["next_step"])
    return response
