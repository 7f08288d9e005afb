"""The cache: no process sees half an entry, or shares one that another changes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chromadb_compaction.errors import ConfigurationError
from chromadb_compaction.manifest import StoredFile
from chromadb_compaction.snapshots.cache import FILES, Files, SnapshotCache, files_below

FIRST, SECOND = "0000000001-00000000", "0000000002-00000000"
CONTENT = {"chroma.sqlite3": b"database", "index/data_level0.bin": b"vectors"}


@pytest.fixture
def cache(tmp_path: Path) -> SnapshotCache:
    return SnapshotCache(tmp_path)


def described(content: dict[str, bytes] = CONTENT) -> Files:
    return {
        path: StoredFile(key=f"snapshot/{path}", bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
        for path, body in content.items()
    }


def fill(cache: SnapshotCache, snapshot_id: str = FIRST, content: dict[str, bytes] = CONTENT) -> None:
    with cache.scratch() as scratch:
        for path, body in content.items():
            target = scratch / "docs" / FILES / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)
        cache.keep(snapshot_id, "docs", described(content), scratch / "docs" / FILES)


def test_what_is_kept_is_held_and_can_be_taken_once(cache: SnapshotCache) -> None:
    fill(cache)
    assert cache.holds(FIRST, "docs", described())

    with cache.scratch() as scratch:
        directory = cache.take(FIRST, "docs", described(), scratch)
        assert directory is not None
        assert {path: file.read_bytes() for path, file in files_below(directory).items()} == CONTENT
        assert cache.take(FIRST, "docs", described(), scratch) is None
    assert not cache.holds(FIRST, "docs", described())


def test_an_empty_cache_holds_nothing(cache: SnapshotCache) -> None:
    assert not cache.holds(FIRST, "docs", described())
    cache.evict(keep=None)


def test_a_copy_of_other_files_is_a_miss(cache: SnapshotCache) -> None:
    fill(cache)

    assert not cache.holds(FIRST, "docs", described({**CONTENT, "chroma.sqlite3": b"another "}))


@pytest.mark.parametrize("damage", ["truncated", "removed", "marker"])
def test_a_damaged_copy_is_a_miss_and_is_replaced(cache: SnapshotCache, tmp_path: Path, damage: str) -> None:
    fill(cache)
    entry = tmp_path / "snapshots" / FIRST / "docs"
    if damage == "truncated":
        (entry / FILES / "chroma.sqlite3").write_bytes(b"data")
    elif damage == "removed":
        (entry / FILES / "chroma.sqlite3").unlink()
    else:
        (entry / "complete.json").write_bytes(b'{"chroma')
    assert not cache.holds(FIRST, "docs", described())

    fill(cache)

    assert cache.holds(FIRST, "docs", described())


def test_if_the_same_copy_is_kept_twice_the_first_one_stays(cache: SnapshotCache, tmp_path: Path) -> None:
    fill(cache)
    file = tmp_path / "snapshots" / FIRST / "docs" / FILES / "chroma.sqlite3"
    first = file.stat().st_ino

    fill(cache)

    assert file.stat().st_ino == first


def test_a_collection_that_did_not_change_moves_to_the_next_snapshot(cache: SnapshotCache) -> None:
    fill(cache)

    cache.move({"docs"}.__contains__, old=FIRST, new=SECOND)

    assert cache.holds(SECOND, "docs", described())
    assert not cache.holds(FIRST, "docs", described())


def test_moving_a_copy_that_does_not_exist_is_a_miss_and_not_an_error(cache: SnapshotCache) -> None:
    cache.move({"docs"}.__contains__, old=FIRST, new=SECOND)

    assert not cache.holds(SECOND, "docs", described())


def test_only_the_current_snapshot_stays(cache: SnapshotCache, tmp_path: Path) -> None:
    fill(cache, FIRST)
    fill(cache, SECOND)

    cache.evict(keep=SECOND)

    assert [entry.name for entry in (tmp_path / "snapshots").iterdir()] == [SECOND]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_scratch_directory_is_empty_and_gone_afterwards(cache: SnapshotCache) -> None:
    with cache.scratch() as scratch:
        assert list(scratch.iterdir()) == []
        (scratch / "half").write_bytes(b"")

    assert not scratch.exists()


def test_scratch_directories_in_use_are_left_alone(cache: SnapshotCache) -> None:
    with cache.scratch() as first, cache.scratch() as second:
        assert first.exists()
        assert second.exists()
        assert first != second


def test_copies_are_complete_even_if_others_keep_take_and_evict_at_the_same_time(tmp_path: Path) -> None:
    def work(number: int) -> None:
        cache = SnapshotCache(tmp_path)
        mine = (FIRST, SECOND)[number % 2]
        for _ in range(60):
            fill(cache, mine)
            with cache.scratch() as scratch:
                taken = cache.take(mine, "docs", described(), scratch)
                if taken is not None:
                    assert {path: file.read_bytes() for path, file in files_below(taken).items()} == CONTENT
            cache.evict(keep=mine)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))

    assert list((tmp_path / "scratch").iterdir()) == []


LEAVE_SCRATCH_BEHIND = """
import os, sys, pathlib
from chromadb_compaction.snapshots.cache import SnapshotCache
with SnapshotCache(pathlib.Path(sys.argv[1])).scratch() as scratch:
    (scratch / "half").write_bytes(b"of a snapshot")
    print(scratch, flush=True)
    sys.stdin.read()
    os._exit(9)
"""


def test_the_scratch_directory_of_a_dead_process_is_removed_but_not_of_a_live_one(
    cache: SnapshotCache, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LEAVE_SCRATCH_BEHIND, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        theirs = Path(process.stdout.readline().strip())
        with cache.scratch():
            assert (theirs / "half").exists()
        process.stdin.close()
        process.wait(10)

    with cache.scratch() as ours:
        assert [path for path in ours.parent.iterdir() if path.is_dir()] == [ours]


@pytest.mark.parametrize("mode", [0o777, 0o707])
def test_a_root_that_every_user_may_write_to_is_an_error(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)

    with pytest.raises(ConfigurationError, match="can be written to by every user; set CHROMADB_CACHE_DIR"):
        SnapshotCache(tmp_path).holds("id", "docs", {})


def test_a_root_of_another_user_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)

    with pytest.raises(ConfigurationError, match="belongs to another user"), SnapshotCache(tmp_path).scratch():
        pass


def test_a_root_that_its_group_may_write_to_becomes_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o775)

    with SnapshotCache(tmp_path).scratch() as scratch:
        assert tmp_path.stat().st_mode & 0o777 == 0o755
        assert scratch.stat().st_mode & 0o777 == 0o700
