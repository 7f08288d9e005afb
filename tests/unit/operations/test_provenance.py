"""`why`: which delta wrote a record's current version, and since which snapshot."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from chromadb_compaction import layout
from chromadb_compaction.errors import NoSuchCollectionError
from chromadb_compaction.operations.provenance import Provenance, find_provenance
from tests.builders import NOW, BuiltDelta, a_delta, a_jsonl_delta
from tests.fakes.cloud import Cloud, a_cloud
from tests.passes import compact

OLDER = a_delta(upserts={"a": [1, 0], "b": [0, 1]}, at=NOW - 20)
NEWER = a_delta(upserts={"c": [1, 1]}, deletes={"b"}, at=NOW - 10)


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return a_cloud(chromadb_cache_dir=tmp_path / "cache")


def why(cloud: Cloud, record_id: str) -> Provenance:
    found = find_provenance(cloud.services, "docs", record_id)
    assert found is not None
    return found


def name_of(delta: BuiltDelta) -> str:
    return layout.delta_stem(delta.key)


def test_the_delta_its_row_its_time_and_its_first_snapshot_are_named(cloud: Cloud) -> None:
    first = compact(cloud, OLDER)
    compact(cloud, NEWER)

    found = why(cloud, "b"), why(cloud, "a")

    assert [each.delta for each in found] == [name_of(NEWER), name_of(OLDER)]
    assert [(each.deleted, each.row) for each in found] == [(True, 1), (False, 0)]
    assert [each.written_at for each in found] == [NOW - 10, NOW - 20]
    assert found[1].first_snapshot == first.snapshot_id


def test_nothing_but_the_ledger_is_downloaded(cloud: Cloud) -> None:
    compact(cloud, OLDER)
    cloud.objects.calls.clear()

    why(cloud, "a")

    assert [key.rpartition("/")[2] for call, key in cloud.objects.calls if call == "download"] == [layout.LEDGER_FILE]


def test_it_says_where_the_delta_is_now(cloud: Cloud) -> None:
    compact(cloud, OLDER)
    compacted = layout.compacted_key(OLDER.key)
    assert (why(cloud, "a").place, why(cloud, "a").key) == ("compacted", compacted)

    cloud.objects.delete([compacted])
    assert (why(cloud, "a").place, why(cloud, "a").key) == ("expired", None)

    OLDER.put_into(cloud.objects)
    assert (why(cloud, "a").place, why(cloud, "a").pending_deltas) == ("pending", 1)


def test_a_delta_in_json_lines_is_found_by_its_own_suffix(cloud: Cloud) -> None:
    delta = a_jsonl_delta([{"id": "a", "embedding": [1, 0]}], name=UUID(name_of(OLDER)))
    compact(cloud, delta)

    assert why(cloud, "a").key == layout.compacted_key(delta.key)


def test_when_the_snapshot_that_merged_it_is_pruned_the_oldest_known_one_bounds_it(cloud: Cloud) -> None:
    first = compact(cloud, OLDER)
    second = compact(cloud, NEWER)
    assert first.snapshot_id is not None
    cloud.objects.delete([layout.manifest_key(first.snapshot_id), layout.merged_deltas_key(first.snapshot_id)])

    found = why(cloud, "a")

    assert (found.first_snapshot, found.no_later_than) == (None, second.snapshot_id)


def test_an_id_that_was_never_seen_has_no_origin(cloud: Cloud) -> None:
    compact(cloud, OLDER)

    assert find_provenance(cloud.services, "docs", "z") is None


def test_a_collection_that_is_not_there_is_named_beside_those_that_are(cloud: Cloud) -> None:
    compact(cloud, OLDER)

    with pytest.raises(NoSuchCollectionError, match="it has: docs"):
        find_provenance(cloud.services, "nowhere", "a")
