"""One execution merges ten thousand pending deltas in several passes, and its state stays small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.model import Delta, Row, content_of, pull
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

BACKLOG = 10_000


@pytest.mark.timeout(1200)
def test_one_execution_merges_ten_thousand_pending_deltas(stack: Stack, tmp_path: Path) -> None:
    one = Delta("docs", (Row("replaced", (1.0, 2.0)),))
    body = one.body()
    stack.put_objects(dict.fromkeys((Delta("docs", ()).key for _ in range(BACKLOG - 1)), body))
    last = Delta("docs", (Row("replaced", (3.0, 4.0), "the newest"),))
    stack.put_objects({last.key: last.body()})

    result = stack.compact(seconds=900)

    assert result.status == "SUCCEEDED"
    assert result.output["work"]["pass"] == 3
    assert len(json.dumps(result.output)) < 256 * 1024
    assert stack.keys("delta/") == []
    assert len(stack.keys("compacted/")) == BACKLOG
    content = content_of(pull(stack.s3, stack.bucket, tmp_path)["docs"], "docs")
    assert content == {"replaced": ((3.0, 4.0), "the newest", None)}
