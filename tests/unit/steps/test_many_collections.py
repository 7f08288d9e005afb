"""A pass over many collections: they share batches, keep apart in everything else, and fit into the messages."""

from __future__ import annotations

import pytest

from chromadb_compaction.layout import collection_of_key
from chromadb_compaction.manifest import Manifest
from chromadb_compaction.messages import BATCH_MANIFEST, LISTED_COLLECTIONS
from chromadb_compaction.rows.batch_run import BatchRun
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer
from tests.builders import NOW, BuiltDelta, a_delta, a_jsonl_delta
from tests.fakes.services import Fakes, new_fakes
from tests.passes import Pass, compact


@pytest.fixture
def fakes() -> Fakes:
    return new_fakes()


def prepare(fakes: Fakes, *deltas: BuiltDelta) -> Pass:
    for delta in deltas:
        delta.put_into(fakes.objects)
    return Pass(fakes).up_to_upload()


def published(fakes: Fakes) -> Manifest:
    pointer = read_pointer(fakes.services)
    assert pointer is not None
    return read_manifest(fakes.services, pointer.pointer)


def records(fakes: Fakes) -> dict[str, int]:
    return {name: each.records for name, each in published(fakes).collections.items()}


def test_collections_with_different_shapes_share_one_batch(fakes: Fakes) -> None:
    one = prepare(
        fakes,
        a_delta({"a": [1, 0], "b": [0, 1]}, collection="plane"),
        a_delta({"a": [1, 0, 0]}, collection="space", header={"format": 1, "space": "cosine"}),
        a_jsonl_delta([{"id": "c", "op": "delete"}], collection="tombstones"),
    )

    one.upload()

    assert [batch.collections for batch in one.listing.batches] == [3]
    assert records(fakes) == {"plane": 2, "space": 1, "tombstones": 0}
    assert published(fakes).collections["space"].space == "cosine"


def test_a_bad_delta_of_one_collection_does_not_touch_the_others(fakes: Fakes) -> None:
    bad = a_delta({"a": [float("nan")]}, collection="bad")
    one = prepare(fakes, bad, a_delta({"a": [1]}, collection="good"), a_delta({"b": [1]}, collection="last"))

    answer = one.upload()

    assert (one.runs[0].merged, one.runs[0].quarantined) == (2, 1)
    assert answer.deltas_quarantined == 1
    assert records(fakes) == {"good": 1, "last": 1}


def test_a_collection_for_which_the_disk_has_no_space_does_not_stop_the_next(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BatchRun, "has_space_for", lambda _run, table: table.num_rows < 3)
    large = a_delta({"b": [1], "c": [1], "d": [1]}, collection="full", at=NOW + 1)
    later = a_delta({"e": [1]}, collection="full", at=NOW + 2)

    one = prepare(fakes, a_delta({"a": [1]}, collection="full"), large, later, a_delta({"z": [1]}, collection="next"))
    one.upload()

    assert (one.runs[0].merged, one.runs[0].left) == (2, 2)
    assert records(fakes) == {"full": 1, "next": 1}


def test_a_collection_in_several_batches_is_folded_once(fakes: Fakes) -> None:
    fakes = new_fakes(compaction_batch_size=2)
    deltas = [
        a_delta({f"{name}-{n}": [n]}, collection=name, at=NOW + n) for name in ("one", "two", "three") for n in range(3)
    ]

    answer = prepare(fakes, *deltas).upload()

    assert records(fakes) == {"one": 3, "two": 3, "three": 3}
    assert [(each.collection, each.added) for each in answer.collections] == [("one", 3), ("three", 3), ("two", 3)]


def test_a_second_pass_changes_only_the_collections_that_it_touches(fakes: Fakes) -> None:
    compact(fakes, *[a_delta({"a": [1]}, collection=f"customer-{n}") for n in range(5)])
    before = published(fakes).collections

    compact(fakes, a_delta({"b": [2]}, collection="customer-3", at=NOW + 1))

    after = published(fakes).collections
    assert {name for name in after if after[name] != before[name]} == {"customer-3"}


def test_a_pass_over_more_collections_than_a_message_lists_adds_up_the_others(fakes: Fakes) -> None:
    many = LISTED_COLLECTIONS + 5
    deltas = [a_delta({str(row): [row] for row in range(1 + (n == 44))}, collection=f"c-{n:02d}") for n in range(many)]

    one = Pass(fakes)
    for delta in deltas:
        delta.put_into(fakes.objects)
    one.find()
    copied = one.download()
    one.merge()
    answer = one.upload()

    assert (len(copied.collections), copied.others) == (LISTED_COLLECTIONS, 5)
    assert len(answer.collections) == LISTED_COLLECTIONS
    assert answer.collections[-2].collection == "c-44"
    assert answer.collections[-1].collection == "(6 other collections)"
    assert sum(each.added for each in answer.collections) == many + 1
    assert len(records(fakes)) == many


def test_the_deltas_of_a_batch_are_ordered_by_collection(fakes: Fakes) -> None:
    for name in ("b-b", "a-a", "c-c"):
        for n in (2, 1):
            a_delta({"a": [n]}, collection=name, at=NOW + n).put_into(fakes.objects)

    listing = Pass(fakes).find()

    deltas = BATCH_MANIFEST.validate_json(fakes.objects.get(listing.batches[0].key).body)
    assert [collection_of_key(delta.key) for delta in deltas] == ["a-a", "a-a", "b-b", "b-b", "c-c", "c-c"]
