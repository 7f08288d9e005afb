"""`why`: which delta wrote a record's current version, and since which snapshot."""

from __future__ import annotations

from uuid import UUID

import pytest

from chromadb_compaction import layout
from chromadb_compaction.errors import NoSuchCollectionError
from chromadb_compaction.operations.provenance import Provenance, find_provenance
from chromadb_compaction.times import iso_time
from tests.builders import NOW, BuiltDelta, a_delta, a_jsonl_delta
from tests.fakes.services import Fakes
from tests.passes import compact

OLDER = a_delta(upserts={"a": [1, 0], "b": [0, 1]}, at=NOW - 20)
NEWER = a_delta(upserts={"c": [1, 1]}, deletes={"b"}, at=NOW - 10)


def why(fakes: Fakes, record_id: str) -> Provenance:
    found = find_provenance(fakes.services, "docs", record_id)
    assert found is not None
    return found


def name_of(delta: BuiltDelta) -> str:
    return layout.delta_stem(delta.key)


def test_the_delta_its_row_its_time_and_its_first_snapshot_are_returned(fakes: Fakes) -> None:
    first = compact(fakes, OLDER)
    compact(fakes, NEWER)

    found = why(fakes, "b"), why(fakes, "a")

    assert [each.delta for each in found] == [name_of(NEWER), name_of(OLDER)]
    assert [(each.deleted, each.row) for each in found] == [(True, 1), (False, 0)]
    assert [each.written_at for each in found] == [NOW - 10, NOW - 20]
    assert found[1].first_snapshot == first.snapshot_id


def test_times_are_iso_8601_in_json(fakes: Fakes) -> None:
    compact(fakes, OLDER)

    shown = why(fakes, "a").model_dump(mode="json")

    assert (shown["written_at"], shown["first_published_at"]) == (iso_time(NOW - 20), iso_time(fakes.clock()))


@pytest.mark.usefixtures("unpacked")
def test_nothing_but_the_ledger_is_downloaded(fakes: Fakes) -> None:
    compact(fakes, OLDER)
    fakes.objects.calls.clear()

    why(fakes, "a")

    assert [key.rpartition("/")[2] for call, key in fakes.objects.calls if call == "download"] == [layout.LEDGER_FILE]


def test_the_current_key_of_the_delta_is_returned(fakes: Fakes) -> None:
    compact(fakes, OLDER)
    compacted = layout.compacted_key(OLDER.key)
    assert (why(fakes, "a").place, why(fakes, "a").key) == ("compacted", compacted)

    fakes.objects.delete([compacted])
    assert (why(fakes, "a").place, why(fakes, "a").key) == ("expired", None)

    OLDER.put_into(fakes.objects)
    assert (why(fakes, "a").place, why(fakes, "a").pending_deltas) == ("pending", 1)


def test_a_delta_in_json_lines_is_found_by_its_own_suffix(fakes: Fakes) -> None:
    delta = a_jsonl_delta([{"id": "a", "embedding": [1, 0]}], name=UUID(name_of(OLDER)))
    compact(fakes, delta)

    assert why(fakes, "a").key == layout.compacted_key(delta.key)


def test_if_the_snapshot_that_merged_it_is_pruned_the_oldest_known_one_is_returned(fakes: Fakes) -> None:
    first = compact(fakes, OLDER)
    second = compact(fakes, NEWER)
    assert first.snapshot_id is not None
    fakes.objects.delete([layout.manifest_key(first.snapshot_id), layout.merged_deltas_key(first.snapshot_id)])

    found = why(fakes, "a")

    assert (found.first_snapshot, found.no_later_than) == (None, second.snapshot_id)


def test_an_id_that_was_never_seen_has_no_origin(fakes: Fakes) -> None:
    compact(fakes, OLDER)

    assert find_provenance(fakes.services, "docs", "z") is None


def test_an_unknown_collection_is_an_error_that_lists_the_known_ones(fakes: Fakes) -> None:
    compact(fakes, OLDER)

    with pytest.raises(NoSuchCollectionError, match="it has: docs"):
        find_provenance(fakes.services, "nowhere", "a")
