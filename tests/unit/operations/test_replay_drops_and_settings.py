"""Rollback, replay and pull of drops and settings. Each snapshot has its own; a replay restores those of later ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chromadb_compaction.chroma.client import open_collection
from chromadb_compaction.manifest import Manifest
from chromadb_compaction.operations.pull import pull_snapshot
from chromadb_compaction.operations.rollback import RollbackRequest, rollback
from chromadb_compaction.operations.verify import verify_snapshot
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer
from tests.builders import NOW, BuiltDelta, a_delta, a_drop
from tests.fakes.services import Fakes
from tests.passes import compact

BEFORE, AFTER = a_delta({"a": [1, 0]}, at=NOW), a_delta({"b": [3, 0, 0]}, at=NOW + 20)
DROP = a_drop(at=NOW + 10)
LATE = a_delta({"late": [9, 9]}, at=NOW + 5)


def published(fakes: Fakes, *deltas: BuiltDelta) -> str:
    fakes.clock.tick(60)
    snapshot_id = compact(fakes, *deltas).snapshot_id
    assert snapshot_id is not None
    return snapshot_id


def roll_back(fakes: Fakes, target: str, *, replay: bool) -> None:
    held = fakes.leases.read(fakes.settings.lock_id)
    assert held is not None
    fakes.leases.release(fakes.settings.lock_id, held.owner)
    rollback(RollbackRequest(snapshot_id=target, operator="operator:me@here/1", replay=replay), fakes.services)


def current(fakes: Fakes) -> Manifest:
    found = read_pointer(fakes.services)
    assert found is not None
    return read_manifest(fakes.services, found.pointer)


def content(fakes: Fakes, copy: Path) -> dict[str, list[float]]:
    """Return the records of a pulled copy. {}: there is no such collection."""
    pull_snapshot(fakes.services, None, copy)
    assert verify_snapshot(fakes.services, None, full=True).problems == []
    if not (copy / "docs").exists():
        return {}
    with open_collection(copy / "docs", "docs") as collection:
        found: Any = collection.get(include=["embeddings"])
    return {id_: [float(x) for x in vector] for id_, vector in zip(found["ids"], found["embeddings"], strict=True)}


def test_a_rollback_to_before_a_drop_brings_the_rows_back(fakes: Fakes, tmp_path: Path) -> None:
    target = published(fakes, BEFORE)
    published(fakes, DROP)
    assert content(fakes, tmp_path / "dropped") == {}

    roll_back(fakes, target, replay=False)

    assert content(fakes, tmp_path / "back") == {"a": [1, 0]}
    assert current(fakes).dropped == {}


def test_after_a_rollback_to_before_a_drop_late_rows_count_until_it_is_merged_again(
    fakes: Fakes, tmp_path: Path
) -> None:
    target = published(fakes, BEFORE)
    published(fakes, DROP)
    roll_back(fakes, target, replay=False)

    published(fakes, LATE)
    assert content(fakes, tmp_path / "late") == {"a": [1, 0], "late": [9, 9]}

    published(fakes, DROP)
    assert content(fakes, tmp_path / "again") == {}


def test_a_rollback_to_after_a_drop_keeps_late_rows_out(fakes: Fakes, tmp_path: Path) -> None:
    published(fakes, BEFORE)
    target = published(fakes, DROP)
    published(fakes, AFTER)
    roll_back(fakes, target, replay=False)

    compact(fakes, LATE)

    assert content(fakes, tmp_path / "copy") == {}


@pytest.mark.parametrize("at_once", [True, False], ids=["one-snapshot", "a-snapshot-each"])
def test_a_replay_restores_the_drop_and_what_came_after_it(fakes: Fakes, tmp_path: Path, *, at_once: bool) -> None:
    target = published(fakes, BEFORE)
    for deltas in [[DROP, AFTER]] if at_once else [[DROP], [AFTER]]:
        published(fakes, *deltas)

    roll_back(fakes, target, replay=True)
    published(fakes, LATE)

    assert content(fakes, tmp_path / "copy") == {"b": [3, 0, 0]}
    assert list(current(fakes).dropped) == ["docs"]


def test_a_replay_finds_a_drop_on_a_branch_that_an_earlier_rollback_undid(fakes: Fakes, tmp_path: Path) -> None:
    target = published(fakes, BEFORE)
    published(fakes, DROP)
    roll_back(fakes, target, replay=False)
    published(fakes, a_delta({"c": [4, 4]}, at=NOW + 8))

    roll_back(fakes, target, replay=True)
    published(fakes, AFTER)

    assert content(fakes, tmp_path / "copy") == {"b": [3, 0, 0]}


def test_settings_follow_a_rollback_and_a_replay(fakes: Fakes, tmp_path: Path) -> None:
    def stating(at: float, rows: dict[str, list[float]] | None = None, **stated: Any) -> BuiltDelta:
        return a_delta(rows, header={"format": 2, "collection": stated}, at=at)

    index = {"hnsw": {"space": "cosine", "max_neighbors": 48}}
    first = stating(NOW, {"a": [1, 0]}, configuration=index, metadata={"n": 1})
    target = published(fakes, first)
    published(fakes, stating(NOW + 1, configuration={"hnsw": {"ef_search": 7}}, metadata={"n": 2}))

    def pulled(copy: str) -> tuple[Any, int, int, str]:
        content(fakes, tmp_path / copy)
        with open_collection(tmp_path / copy / "docs", "docs") as collection:
            found: Any = collection.configuration_json["hnsw"]
            return collection.metadata, found["ef_search"], found["max_neighbors"], found["space"]

    assert pulled("newer") == ({"n": 2}, 7, 48, "cosine")
    roll_back(fakes, target, replay=True)
    assert pulled("older") == ({"n": 1}, 100, 48, "cosine")
    published(fakes)
    assert pulled("replayed") == ({"n": 2}, 7, 48, "cosine")
