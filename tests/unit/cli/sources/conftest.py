"""A put of 40 records from a file into fakes, in deltas of five."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.services import Fakes
from tests.puts import RECORDS, fakes_with_small_deltas, holding


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    return fakes_with_small_deltas(monkeypatch)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return holding(tmp_path / "records.jsonl", RECORDS)
