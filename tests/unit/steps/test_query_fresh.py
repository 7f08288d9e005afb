"""Fresh queries: the answer joins the published snapshot with the pending deltas, and says what it comes from."""

from __future__ import annotations

from typing import Any

import pytest

from chromadb_compaction.errors import NoSnapshotError, NoSuchCollectionError
from chromadb_compaction.pending.reader import FreshReader
from chromadb_compaction.steps.query import answer
from chromadb_compaction.steps.query_messages import PendingAnswered, QueryEvent
from tests.builders import NOW, BuiltDelta, a_delta, a_drop
from tests.fakes.services import Fakes
from tests.passes import compact

ACTIONS = {
    "query": {"query_embeddings": [[1, 0]]},
    "get": {},
    "peek": {},
    "count": {},
}


def ask(fakes: Fakes, reader: FreshReader, action: str = "query", **request: Any) -> Any:
    event = {"action": action, "collection": "docs", **ACTIONS[action], **request}
    return answer(QueryEvent.model_validate(event).root, fakes.services, reader=reader)


def put(fakes: Fakes, *deltas: BuiltDelta) -> None:
    for delta in deltas:
        delta.put_into(fakes.objects)


@pytest.mark.parametrize("action", ACTIONS)
def test_an_answer_names_the_snapshot_and_the_pending_deltas(fakes: Fakes, reader: FreshReader, action: str) -> None:
    published = compact(fakes, a_delta({"a": [1, 0]}))
    put(fakes, a_delta({"b": [1, 1], "c": [2, 1]}, at=NOW + 1), a_delta({"c": [3, 1]}, at=NOW + 2))

    found = ask(fakes, reader, action)

    assert found.snapshot_id == published.snapshot_id
    assert found.pending == PendingAnswered(applied=2, left=0, rows=2, refresh_ms=found.pending.refresh_ms)


def test_a_record_can_be_queried_before_any_compaction(fakes: Fakes, reader: FreshReader) -> None:
    put(fakes, a_delta({"a": [1, 0]}, documents={"a": "text"}))

    found = ask(fakes, reader)

    assert (found.snapshot_id, found.ids, found.documents) == (None, [["a"]], [["text"]])


def test_pending_records_replace_and_delete_those_of_the_snapshot(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"kept": [1, 0], "replaced": [1, 0], "deleted": [1, 0]}))
    put(fakes, a_delta({"replaced": [0, 9]}, deletes=["deleted"], at=NOW + 1))

    assert ask(fakes, reader, n_results=5).ids == [["kept", "replaced"]]
    assert ask(fakes, reader, "count").count == 2


@pytest.mark.parametrize("action", ACTIONS)
def test_the_read_level_snapshot_leaves_pending_deltas_out(fakes: Fakes, reader: FreshReader, action: str) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    put(fakes, a_delta({"b": [1, 0]}, at=NOW + 1))
    fakes.objects.calls.clear()

    found = ask(fakes, reader, action, read_level="snapshot")

    assert found.pending is None
    assert getattr(found, "count", len(getattr(found, "ids", []))) == 1
    assert not any(key.startswith("delta/") for _, key in fakes.objects.calls)


def test_deltas_past_the_bound_are_counted(fakes: Fakes, reader: FreshReader) -> None:
    put(fakes, *[a_delta({str(n): [n, 0]}, at=NOW + n) for n in range(4)])
    bounded = fakes.services._replace(settings=fakes.settings.model_copy(update={"pending_deltas": 3}))

    event = QueryEvent.model_validate({"action": "count", "collection": "docs"})
    found = answer(event.root, bounded, reader=reader)

    assert found.pending is not None
    assert (found.pending.applied, found.pending.left) == (3, 1)
    assert found.model_dump()["count"] == 3


def test_a_dropped_collection_is_gone_at_once(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    put(fakes, a_drop(at=NOW + 1))

    with pytest.raises(NoSuchCollectionError, match="it has: docs"):
        ask(fakes, reader)


def test_nothing_published_and_nothing_pending_is_said(fakes: Fakes, reader: FreshReader) -> None:
    with pytest.raises(NoSuchCollectionError, match="nothing is published yet, and no pending delta makes it"):
        ask(fakes, reader)
    with pytest.raises(NoSnapshotError):
        ask(fakes, reader, read_level="snapshot")
