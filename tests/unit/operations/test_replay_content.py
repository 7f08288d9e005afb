"""The content of a collection after a rollback with replay and a compaction: all its deltas except those left out."""

from __future__ import annotations

from pathlib import Path

from chromadb_compaction.chroma.client import open_collection
from chromadb_compaction.operations.pull import pull_snapshot
from chromadb_compaction.operations.rollback import RollbackRequest, RolledBack, rollback
from tests.builders import NOW, BuiltDelta, a_delta
from tests.fakes.services import Fakes
from tests.passes import compact

OPERATOR = "operator:me@here/1"


def published(fakes: Fakes, *deltas: BuiltDelta) -> str:
    fakes.clock.tick(60)
    snapshot_id = compact(fakes, *deltas).snapshot_id
    assert snapshot_id is not None
    return snapshot_id


def replayed(fakes: Fakes, target: str, *, without: tuple[str, ...] = ()) -> RolledBack:
    held = fakes.leases.read(fakes.settings.lock_id)
    assert held is not None
    fakes.leases.release(fakes.settings.lock_id, held.owner)
    return rollback(
        RollbackRequest(snapshot_id=target, operator=OPERATOR, replay=True, without=without), fakes.services
    )


def content(fakes: Fakes, copy: Path) -> dict[str, list[float]]:
    pull_snapshot(fakes.services, None, copy)
    with open_collection(copy / "docs", "docs") as collection:
        found = collection.get(include=["embeddings"])
    assert found["embeddings"] is not None
    return {id_: [float(x) for x in vector] for id_, vector in zip(found["ids"], found["embeddings"], strict=True)}


def test_a_replay_and_a_compaction_restore_the_content(fakes: Fakes, tmp_path: Path) -> None:
    target = published(fakes, a_delta(upserts={"a": [1, 0], "b": [2, 0]}, at=NOW))
    published(fakes, a_delta(upserts={"c": [3, 0]}, deletes={"a"}, at=NOW + 1))
    published(fakes, a_delta(upserts={"a": [9, 9]}, at=NOW - 1))
    before = content(fakes, tmp_path / "before")

    replayed(fakes, target)
    assert content(fakes, tmp_path / "rolled-back") == {"a": [1, 0], "b": [2, 0]}
    published(fakes)

    assert content(fakes, tmp_path / "after") == before == {"b": [2, 0], "c": [3, 0]}


def test_a_row_that_only_the_delta_left_out_had_superseded_counts_again(fakes: Fakes, tmp_path: Path) -> None:
    target = published(fakes, a_delta(upserts={"b": [2, 0]}, at=NOW))
    excluded = a_delta(upserts={"a": [9, 9]}, at=NOW + 2)
    published(fakes, excluded)
    late = a_delta(upserts={"a": [1, 0]}, at=NOW + 1)
    published(fakes, late)

    done = replayed(fakes, target, without=(excluded.key,))
    published(fakes)

    assert late.key in done.replayed
    assert content(fakes, tmp_path / "after") == {"a": [1, 0], "b": [2, 0]}


def test_a_collection_that_the_target_does_not_have_comes_back(fakes: Fakes, tmp_path: Path) -> None:
    target = published(fakes, a_delta(upserts={"x": [1]}, collection="other", at=NOW))
    published(fakes, a_delta(upserts={"a": [1, 0]}, at=NOW + 1))

    replayed(fakes, target)
    published(fakes)

    assert content(fakes, tmp_path / "after") == {"a": [1, 0]}
