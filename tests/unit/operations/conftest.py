from __future__ import annotations

import pytest

from tests.merged_history import MergedHistory


@pytest.fixture
def history() -> MergedHistory:
    """Four snapshots, the last one published, all cleaned up."""
    made = MergedHistory()
    for number in (1, 2, 3, 4):
        made.publish(number)
    return made
