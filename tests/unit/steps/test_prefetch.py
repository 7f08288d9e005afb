"""A prefetch opens published collections, so that the next query need not wait, and never raises for one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from chromadb_compaction.errors import ConfigurationError
from chromadb_compaction.pending.reader import FreshReader
from chromadb_compaction.settings import load_settings
from chromadb_compaction.steps.query import answer
from chromadb_compaction.steps.query_messages import (
    AnyRequest,
    CountRequest,
    PrefetchAnswer,
    PrefetchedCollection,
    PrefetchRequest,
)
from tests.builders import NOW, a_delta
from tests.fakes.services import Fakes, new_fakes
from tests.passes import compact


def with_names(tmp_path: Path, names: str) -> Fakes:
    return new_fakes(chromadb_cache_dir=tmp_path / "cache", query_prefetch_collections=names)


def prefetch(fakes: Fakes, reader: FreshReader, **event: object) -> PrefetchAnswer:
    request = PrefetchRequest.model_validate({"action": "prefetch", **event})
    found = answer(request, fakes.services, reader=reader)
    assert isinstance(found, PrefetchAnswer)
    return found


def fetched(answered: PrefetchAnswer) -> dict[str, bool]:
    """Return whether each collection was downloaded."""
    return {each.collection: each.bytes > 0 for each in answered.collections}


def transfers(fakes: Fakes, reader: FreshReader, request: AnyRequest) -> list[str]:
    """Return the objects of files that a request reads."""
    fakes.objects.calls.clear()
    answer(request, fakes.services, reader=reader)
    return [key for _, key in fakes.objects.calls if key.endswith((".pack", ".sqlite3", ".bin"))]


def test_the_next_query_of_a_prefetched_collection_downloads_nothing(tmp_path: Path, reader: FreshReader) -> None:
    fakes = with_names(tmp_path, "docs, more")
    published = compact(fakes, a_delta({"a": [1, 0]}), a_delta({"a": [1]}, collection="more"))

    found = prefetch(fakes, reader)

    assert found.snapshot_id == published.snapshot_id
    assert fetched(found) == {"docs": True, "more": True}
    assert transfers(fakes, reader, CountRequest(action="count", collection="docs", read_level="snapshot")) == []
    assert fetched(prefetch(fakes, reader)) == {"docs": False, "more": False}


def test_a_star_stands_for_the_collections_that_are_open(tmp_path: Path, reader: FreshReader) -> None:
    fakes = with_names(tmp_path, "*")
    compact(fakes, a_delta({"a": [1, 0]}), a_delta({"a": [1]}, collection="more"))
    assert prefetch(fakes, reader).collections == []
    answer(CountRequest(action="count", collection="more"), fakes.services, reader=reader)

    compact(fakes, a_delta({"b": [1, 0]}, at=NOW + 1), a_delta({"b": [1]}, collection="more", at=NOW + 1))

    assert fetched(prefetch(fakes, reader)) == {"more": True}


def test_a_collection_that_cannot_be_opened_does_not_stop_the_others(fakes: Fakes, reader: FreshReader) -> None:
    nothing = prefetch(fakes, reader, collections=["docs"])
    assert nothing.snapshot_id is None
    assert [each.error and each.error["kind"] for each in nothing.collections] == ["NoSnapshot"]
    compact(fakes, a_delta({"a": [1, 0]}))

    missing, docs = prefetch(fakes, reader, collections=["missing", "docs"]).collections

    assert missing.error is not None
    assert (missing.error["kind"], missing.bytes) == ("NoSuchCollection", 0)
    assert docs == PrefetchedCollection(collection="docs", bytes=docs.bytes, seconds=docs.seconds)


def test_without_the_setting_nothing_is_opened(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))

    assert prefetch(fakes, reader).collections == []


def test_a_wrong_name_in_the_setting_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="QUERY_PREFETCH_COLLECTIONS"):
        load_settings({"CHROMADB_BUCKET": "bucket", "QUERY_PREFETCH_COLLECTIONS": "docs,a"})
