"""The check of free disk space."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from chromadb_compaction.disk import check_disk
from chromadb_compaction.errors import ConfigurationError, SnapshotTooLargeError


class Disk(NamedTuple):
    free: int


@pytest.fixture(autouse=True)
def small_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Disk(free=1000))


def test_a_disk_with_exactly_enough_space_passes(tmp_path: Path) -> None:
    check_disk(tmp_path, 1000, "the fold", next_step="buy a disk")


def test_the_error_states_the_action_both_sizes_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SnapshotTooLargeError) as raised:
        check_disk(tmp_path, 1001, "the fold", next_step="buy a disk")

    assert raised.value.message == "the fold may need 1,001 bytes of disk, 1,000 are free"
    assert raised.value.next_step == "buy a disk"


def test_the_caller_can_choose_the_class_of_the_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="1,000 are free; buy a disk"):
        check_disk(tmp_path, 1001, "the copy", next_step="buy a disk", error=ConfigurationError)
