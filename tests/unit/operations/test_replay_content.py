"""After a rollback with replay and a compaction a collection holds what its deltas say, without those left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from chromadb_compaction.chroma.client import open_collection
from chromadb_compaction.operations.pull import pull_snapshot
from chromadb_compaction.operations.rollback import RollbackRequest, RolledBack, rollback
from tests.builders import NOW, BuiltDelta, a_delta
from tests.fakes.cloud import Cloud, a_cloud
from tests.passes import compact

OPERATOR = "operator:me@here/1"


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return a_cloud(chromadb_cache_dir=tmp_path / "cache")


def published(cloud: Cloud, *deltas: BuiltDelta) -> str:
    cloud.clock.tick(60)
    snapshot_id = compact(cloud, *deltas).snapshot_id
    assert snapshot_id is not None
    return snapshot_id


def replayed(cloud: Cloud, target: str, *, without: tuple[str, ...] = ()) -> RolledBack:
    held = cloud.leases.read(cloud.settings.lock_id)
    assert held is not None
    cloud.leases.release(cloud.settings.lock_id, held.owner)
    return rollback(
        RollbackRequest(snapshot_id=target, operator=OPERATOR, replay=True, without=without), cloud.services
    )


def content(cloud: Cloud, copy: Path) -> dict[str, list[float]]:
    pull_snapshot(cloud.services, None, copy)
    with open_collection(copy / "docs", "docs") as collection:
        found = collection.get(include=["embeddings"])
    assert found["embeddings"] is not None
    return {id_: [float(x) for x in vector] for id_, vector in zip(found["ids"], found["embeddings"], strict=True)}


def test_a_replay_and_a_compaction_restore_the_content(cloud: Cloud, tmp_path: Path) -> None:
    target = published(cloud, a_delta(upserts={"a": [1, 0], "b": [2, 0]}, at=NOW))
    published(cloud, a_delta(upserts={"c": [3, 0]}, deletes={"a"}, at=NOW + 1))
    published(cloud, a_delta(upserts={"a": [9, 9]}, at=NOW - 1))
    before = content(cloud, tmp_path / "before")

    replayed(cloud, target)
    assert content(cloud, tmp_path / "rolled-back") == {"a": [1, 0], "b": [2, 0]}
    published(cloud)

    assert content(cloud, tmp_path / "after") == before == {"b": [2, 0], "c": [3, 0]}


def test_a_row_that_only_the_bad_delta_had_superseded_counts_again(cloud: Cloud, tmp_path: Path) -> None:
    target = published(cloud, a_delta(upserts={"b": [2, 0]}, at=NOW))
    bad = a_delta(upserts={"a": [9, 9]}, at=NOW + 2)
    published(cloud, bad)
    late = a_delta(upserts={"a": [1, 0]}, at=NOW + 1)
    published(cloud, late)

    done = replayed(cloud, target, without=(bad.key,))
    published(cloud)

    assert late.key in done.replayed
    assert content(cloud, tmp_path / "after") == {"a": [1, 0], "b": [2, 0]}


def test_a_collection_that_the_target_does_not_have_comes_back(cloud: Cloud, tmp_path: Path) -> None:
    target = published(cloud, a_delta(upserts={"x": [1]}, collection="other", at=NOW))
    published(cloud, a_delta(upserts={"a": [1, 0]}, at=NOW + 1))

    replayed(cloud, target)
    published(cloud)

    assert content(cloud, tmp_path / "after") == {"a": [1, 0]}
