"""The handler of every fake function in ministack. It forwards each call to the test process.

It imports only the standard library, to keep the cold start of each worker short.
"""

from __future__ import annotations

import json
import os
import urllib.request
from typing import Any

FAKES_URL = "FAKES_URL"
"""The environment variable with the URL of the test's Lambda endpoint."""


def handler(event: Any, _context: Any) -> Any:
    """Return the response of the test process, or raise an error with the name in it."""
    name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
    url = f"{os.environ[FAKES_URL]}/2015-03-31/functions/{name}/invocations"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(event).encode()), timeout=30) as response:
        payload = json.load(response)
        failed = "X-Amz-Function-Error" in response.headers
    if failed:
        raise type(payload["errorType"], (Exception,), {})(payload["errorMessage"])
    return payload
