"""The handler of every scripted function in ministack: it asks the test process what to do, and does it.

Only the standard library is imported, since each worker's cold start pays for it.
"""

from __future__ import annotations

import json
import os
import urllib.request
from typing import Any

SCRIPT_URL = "SCRIPT_URL"
"""The environment variable that names the test's lambda endpoint."""


def handler(event: Any, _context: Any) -> Any:
    """Return what the script answers, or raise an error of the name that it says."""
    name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
    url = f"{os.environ[SCRIPT_URL]}/2015-03-31/functions/{name}/invocations"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(event).encode()), timeout=30) as response:
        payload = json.load(response)
        failed = "X-Amz-Function-Error" in response.headers
    if failed:
        raise type(payload["errorType"], (Exception,), {})(payload["errorMessage"])
    return payload
