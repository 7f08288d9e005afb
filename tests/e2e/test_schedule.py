"""EventBridge starts executions on a schedule."""

from __future__ import annotations

import pytest

from tests.e2e.model import Delta, Row
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.mark.timeout(240)
def test_the_schedule_starts_an_execution_that_merges_the_pending_delta(every_minute: Stack) -> None:
    delta = Delta("docs", (Row("a", (1.0, 2.0)),))
    every_minute.put_objects({delta.key: delta.body()})

    every_minute.eventually(lambda: every_minute.keys("delta/") == [], "the schedule has merged the delta", seconds=180)

    assert "snapshot/CURRENT" in every_minute.keys("snapshot/")
