"""The check of free disk space."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from pathlib import Path
from typing import NamedTuple

import pytest

from chromadb_compaction.disk import check_disk, reporting_full_disk
from chromadb_compaction.errors import ConfigurationError, DiskFullError


class Disk(NamedTuple):
    free: int


@pytest.fixture(autouse=True)
def small_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Disk(free=1000))


def test_a_disk_with_exactly_enough_space_passes(tmp_path: Path) -> None:
    check_disk(tmp_path, 1000, "the fold", next_step="buy a disk")


def test_the_error_states_the_action_both_sizes_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError) as raised:
        check_disk(tmp_path, 1001, "the fold", next_step="buy a disk")

    assert raised.value.message == "the fold may need 1,001 bytes of disk, 1,000 are free"
    assert raised.value.next_step == "buy a disk"


def test_the_caller_can_choose_the_class_of_the_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="1,000 are free; buy a disk"):
        check_disk(tmp_path, 1001, "the copy", next_step="buy a disk", error=ConfigurationError)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        sqlite3.OperationalError("database or disk is full"),
    ],
)
def test_an_error_of_a_full_disk_names_the_function_and_its_storage(error: Exception) -> None:
    full = r"disk of merge-batch-dev is full.*raise the ephemeral storage of merge"

    with pytest.raises(DiskFullError, match=full), reporting_full_disk("merge-batch-dev"):
        raise error


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "denied"), sqlite3.OperationalError("no such table")])
def test_any_other_error_stays_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, reporting_full_disk("merge-batch-dev"):
        raise error

    assert raised.value is error
