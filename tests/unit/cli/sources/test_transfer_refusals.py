"""What a put will not go on with, what it refuses, and what it only tells."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromadb_compaction.chroma.client import open_directory
from chromadb_compaction.cli.sources import chroma_places, transfer
from chromadb_compaction.cli.sources.chroma_places import ChromaCollection, chroma_directory
from chromadb_compaction.cli.sources.files import RecordFiles
from chromadb_compaction.cli.sources.transfer import How, Transfer
from chromadb_compaction.errors import ConfigurationError, InvalidRequestError
from tests.fakes.services import Fakes
from tests.puts import (
    ALL,
    DELTAS,
    RECORDS,
    deltas_of,
    fakes_with_small_deltas,
    holding,
    journals,
    put,
    put_source,
    rows_of,
    stop,
    stop_source,
)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    return fakes_with_small_deltas(monkeypatch)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return holding(tmp_path / "records.jsonl", RECORDS)


CHANGES: dict[str, list[dict[str, Any]]] = {
    "an embedding": [{**RECORDS[0], "embedding": [9, 9]}, *RECORDS[1:]],
    "metadata": [RECORDS[0], {**RECORDS[1], "metadata": {"n": "1"}}, *RECORDS[2:]],
    "a document": [{**RECORDS[0], "document": "new"}, *RECORDS[1:]],
    "a delete": [{"id": "id-00", "op": "delete"}, *RECORDS[1:]],
    "a record gone": RECORDS[1:],
    "the order": [RECORDS[1], RECORDS[0], *RECORDS[2:]],
    "the rest gone": RECORDS[:3],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_source_whose_written_records_have_changed_is_refused(fakes: Fakes, source: Path, change: str) -> None:
    stop(fakes, source, stored=3)
    before = dict(fakes.objects.objects)
    holding(source, CHANGES[change])

    with pytest.raises(InvalidRequestError, match=r"has changed since this put was stopped: .*--restart"):
        put(fakes, source)

    assert fakes.objects.objects == before


def test_records_that_come_after_the_written_ones_may_change(fakes: Fakes, source: Path) -> None:
    stop(fakes, source, stored=3)
    holding(source, [*RECORDS[:30], {"id": "new", "embedding": [1, 2]}])

    put(fakes, source)

    assert rows_of(fakes) == [*ALL[:30], "new"]


def test_a_chroma_directory_whose_written_records_have_changed_is_refused_and_one_that_was_only_read_is_not(
    fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    with open_directory(theirs) as client:
        docs = client.create_collection("docs", embedding_function=None)
        docs.add(ids=ALL, embeddings=np.arange(80, dtype=np.float32).reshape(40, 2))
    monkeypatch.setattr(chroma_places, "PAGE_ROWS", 7)

    with chroma_directory(theirs, tmp_path) as place:
        stop_source(fakes, ChromaCollection(place, "docs", "docs"), tmp_path / "journals", stored=3)
    with open_directory(theirs) as client:
        client.get_collection("docs", embedding_function=None).query(query_embeddings=np.ones((1, 2), np.float32))
    with chroma_directory(theirs, tmp_path) as place:
        dry = put_source(fakes, ChromaCollection(place, "docs", "docs"), tmp_path / "journals", dry_run=True)
    with open_directory(theirs) as client:
        client.get_collection("docs", embedding_function=None).update(ids=["id-00"], metadatas=[{"n": -1}])

    assert dry.deltas_before == 2
    with (
        chroma_directory(theirs, tmp_path) as place,
        pytest.raises(InvalidRequestError, match=r"the collection docs of .* has changed since"),
    ):
        put_source(fakes, ChromaCollection(place, "docs", "docs"), tmp_path / "journals")


def test_a_restart_puts_everything_again_as_newer(fakes: Fakes, source: Path) -> None:
    stop(fakes, source, stored=3)
    first = set(deltas_of(fakes))
    holding(source, RECORDS[1:])

    restarted = put(fakes, source, restart=True)

    again = {name: rows for name, rows in deltas_of(fakes).items() if name not in first}
    assert [row for _, rows in sorted(again.items()) for row in rows] == ALL[1:]
    assert min(again) > max(first)
    assert restarted.records_before == 0


def test_deltas_that_are_gone_from_the_bucket_stop_it(fakes: Fakes, source: Path) -> None:
    stop(fakes, source, stored=4)
    del fakes.objects.objects[min(fakes.objects.objects)]

    with pytest.raises(InvalidRequestError, match=r"^1 delta that this put.* are not in the bucket.*--restart"):
        put(fakes, source)


def test_whoever_may_only_write_deltas_can_go_on_too(
    fakes: Fakes, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(_key: str) -> None:
        raise ConfigurationError("access denied")

    monkeypatch.setattr(fakes.objects, "head", deny)
    stop(fakes, source, stored=3)

    put(fakes, source)

    assert rows_of(fakes) == ALL


def test_two_of_the_same_put_do_not_run_at_once(fakes: Fakes, source: Path) -> None:
    how = How(source.parent / "journals")
    first = Transfer(RecordFiles([source], "docs"), fakes.services, how)

    with closing(first), pytest.raises(InvalidRequestError, match="under way already"):
        put(fakes, source)


def test_a_dry_run_checks_everything_and_leaves_nothing(fakes: Fakes, source: Path) -> None:
    dry = put(fakes, source, dry_run=True)

    assert (dry.records, len(dry.deltas)) == (40, DELTAS)
    assert fakes.objects.objects == {}
    assert not (source.parent / "journals").exists()


def test_a_dry_run_says_what_is_left_of_a_put_that_was_stopped(fakes: Fakes, source: Path) -> None:
    stop(fakes, source, stored=4)
    (journal,) = journals(source)
    before = (journal.read_bytes(), dict(fakes.objects.objects))

    dry = put(fakes, source, dry_run=True)

    assert (dry.deltas_before, len(dry.deltas)) == (3, DELTAS)
    assert dry.records == 40 - dry.records_before > 0
    assert (journal.read_bytes(), fakes.objects.objects) == before


def test_a_record_that_is_refused_is_named_and_once_mended_the_put_goes_on(fakes: Fakes, source: Path) -> None:
    holding(source, [*RECORDS[:30], {**RECORDS[30], "metadata": {"n": [1, "b"]}}, *RECORDS[31:]])

    with pytest.raises(InvalidRequestError, match=r"^records\.jsonl: record 31 \(id 'id-30'\): .*; \d deltas of") as no:
        put(fakes, source)
    holding(source, RECORDS)
    resumed = put(fakes, source)

    assert "of this call" not in str(no.value)
    assert rows_of(fakes) == ALL
    assert resumed.deltas_before > 0


def test_a_dimension_that_the_published_collection_has_not_is_refused_before_anything_is_written(
    fakes: Fakes, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_published_dimension", lambda _services, _collection: 3)

    with pytest.raises(InvalidRequestError, match="embeddings have 2 dimensions, but the collection has 3; nothing"):
        put(fakes, source)

    assert fakes.objects.objects == {}


def test_a_journal_that_cannot_be_kept_is_told_of(fakes: Fakes, source: Path) -> None:
    (source.parent / "journals").write_text("in the way", encoding="utf-8")

    with pytest.raises(ConfigurationError, match="set XDG_STATE_HOME"):
        put(fakes, source)
