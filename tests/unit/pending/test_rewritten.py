"""Rewritten deltas: a reader sees nothing of other content under the name of a merged delta."""

from __future__ import annotations

from chromadb_compaction.chroma.query import Filters
from chromadb_compaction.pending.reader import FreshReader
from tests.builders import NOW, BuiltDelta, a_delta, a_uuid7
from tests.fakes.services import Fakes
from tests.passes import compact

NAME = a_uuid7(NOW)


def documents(fakes: Fakes) -> dict[str, str | None]:
    reader = FreshReader()
    with reader.reading(fakes.services, "docs") as docs:
        found = docs.get(Filters(), limit=None, offset=None, include=["documents"])
    reader.close()
    return dict(zip(found["ids"], found["documents"] or [], strict=True))


def written(**texts: str) -> BuiltDelta:
    return a_delta({row: [1, 0] for row in texts}, documents=texts, name=NAME)


def test_nothing_of_a_rewritten_delta_is_seen(fakes: Fakes) -> None:
    compact(fakes, written(a="first", b="first"))
    written(a="second", c="second").put_into(fakes.objects)

    assert documents(fakes) == {"a": "first", "b": "first"}


def test_a_merged_delta_that_is_pending_again_changes_nothing(fakes: Fakes) -> None:
    compact(fakes, written(a="first"))
    written(a="first").put_into(fakes.objects)
    a_delta({"b": [1, 0]}, documents={"b": "second"}, at=NOW + 1).put_into(fakes.objects)

    assert documents(fakes) == {"a": "first", "b": "second"}


def test_no_reader_asks_for_merged_deltas(fakes: Fakes) -> None:
    compact(fakes, written(a="first"))
    a_delta({"b": [1, 0]}, documents={"b": "second"}, at=NOW - 1).put_into(fakes.objects)
    fakes.objects.calls.clear()

    assert documents(fakes).keys() == {"a", "b"}
    assert not any(key.startswith("compacted/") for _, key in fakes.objects.calls)
