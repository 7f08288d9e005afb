"""The errors of a put, its restart and its dry run."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromadb_compaction.chroma.client import open_directory
from chromadb_compaction.cli.sources import chroma_collections
from chromadb_compaction.cli.sources.chroma_collections import ChromaCollection
from chromadb_compaction.cli.sources.chroma_instances import chroma_directory
from chromadb_compaction.cli.sources.files import RecordFiles
from chromadb_compaction.cli.sources.transfer import PutOptions, Transfer
from chromadb_compaction.cli.sources.transfers import check_all, written_deltas_reported
from chromadb_compaction.errors import ConfigurationError, InvalidRequestError
from tests.fakes.published import point_to, put_snapshot
from tests.fakes.services import Fakes
from tests.puts import (
    ALL,
    DELTAS,
    RECORDS,
    deltas_of,
    holding,
    journals,
    put,
    put_source,
    rows_of,
    stop,
    stop_source,
)

CHANGES: dict[str, list[dict[str, Any]]] = {
    "an embedding": [{**RECORDS[0], "embedding": [9, 9]}, *RECORDS[1:]],
    "metadata": [RECORDS[0], {**RECORDS[1], "metadata": {"n": "1"}}, *RECORDS[2:]],
    "a document": [{**RECORDS[0], "document": "new"}, *RECORDS[1:]],
    "a delete": [{"id": "id-00", "op": "delete"}, *RECORDS[1:]],
    "a missing record": RECORDS[1:],
    "the order": [RECORDS[1], RECORDS[0], *RECORDS[2:]],
    "a shorter source": RECORDS[:3],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_source_whose_written_records_have_changed_is_an_error(fakes: Fakes, source: Path, change: str) -> None:
    stop(fakes, source, stored=3)
    before = dict(fakes.objects.objects)
    holding(source, CHANGES[change])

    with pytest.raises(InvalidRequestError, match=r"has changed since this put was stopped: .*--restart"):
        put(fakes, source)

    assert fakes.objects.objects == before


def test_records_after_the_written_ones_may_change(fakes: Fakes, source: Path) -> None:
    stop(fakes, source, stored=3)
    holding(source, [*RECORDS[:30], {"id": "new", "embedding": [1, 2]}])

    put(fakes, source)

    assert rows_of(fakes) == [*ALL[:30], "new"]


def test_a_chroma_directory_counts_as_changed_after_a_write_but_not_after_a_query(
    fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = tmp_path / "original"
    with open_directory(original) as client:
        docs = client.create_collection("docs", embedding_function=None)
        docs.add(ids=ALL, embeddings=np.arange(80, dtype=np.float32).reshape(40, 2))
    monkeypatch.setattr(chroma_collections, "PAGE_ROWS", 7)

    with chroma_directory(original, tmp_path) as instance:
        stop_source(fakes, ChromaCollection(instance, "docs", "docs"), tmp_path / "journals", stored=3)
    with open_directory(original) as client:
        client.get_collection("docs", embedding_function=None).query(query_embeddings=np.ones((1, 2), np.float32))
    with chroma_directory(original, tmp_path) as instance:
        dry = put_source(fakes, ChromaCollection(instance, "docs", "docs"), tmp_path / "journals", dry_run=True)
    with open_directory(original) as client:
        client.get_collection("docs", embedding_function=None).update(ids=["id-00"], metadatas=[{"n": -1}])

    assert dry.deltas_before == 3
    with (
        chroma_directory(original, tmp_path) as instance,
        pytest.raises(InvalidRequestError, match=r"the collection docs of .* has changed since"),
    ):
        put_source(fakes, ChromaCollection(instance, "docs", "docs"), tmp_path / "journals")


def test_a_restart_writes_everything_again_with_newer_versions(fakes: Fakes, source: Path) -> None:
    stop(fakes, source, stored=3)
    first = set(deltas_of(fakes))
    holding(source, RECORDS[1:])

    restarted = put(fakes, source, restart=True)

    again = {name: rows for name, rows in deltas_of(fakes).items() if name not in first}
    assert [row for _, rows in sorted(again.items()) for row in rows] == ALL[1:]
    assert min(again) > max(first)
    assert restarted.records_before == 0


def test_deltas_missing_from_the_bucket_are_an_error(fakes: Fakes, source: Path) -> None:
    stop(fakes, source, stored=4)
    del fakes.objects.objects[min(fakes.objects.objects)]

    with pytest.raises(InvalidRequestError, match=r"^1 delta that this put.* are not in the bucket.*--restart"):
        put(fakes, source)


def test_a_put_continues_with_credentials_that_may_only_write(
    fakes: Fakes, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(_key: str) -> None:
        raise ConfigurationError("access denied")

    monkeypatch.setattr(fakes.objects, "head", deny)
    stop(fakes, source, stored=3)

    put(fakes, source)

    assert rows_of(fakes) == ALL


def test_the_same_put_does_not_run_twice_at_once(fakes: Fakes, source: Path) -> None:
    options = PutOptions(source.parent / "journals")
    first = Transfer(RecordFiles([source], "docs"), fakes.services, options)

    with closing(first), pytest.raises(InvalidRequestError, match="already running"):
        put(fakes, source)


def test_a_dry_run_checks_everything_and_writes_nothing(fakes: Fakes, source: Path) -> None:
    dry = put(fakes, source, dry_run=True)

    assert (dry.records, len(dry.deltas)) == (40, DELTAS)
    assert fakes.objects.objects == {}
    assert not (source.parent / "journals").exists()


def test_a_dry_run_counts_the_rest_of_a_stopped_put(fakes: Fakes, source: Path) -> None:
    stop(fakes, source, stored=4)
    (journal,) = journals(source)
    before = (journal.read_bytes(), dict(fakes.objects.objects))

    dry = put(fakes, source, dry_run=True)

    assert (dry.deltas_before, len(dry.deltas)) == (4, DELTAS)
    assert dry.records == 40 - dry.records_before > 0
    assert (journal.read_bytes(), fakes.objects.objects) == before


def test_the_error_about_a_record_names_it_and_the_put_continues_once_it_is_fixed(fakes: Fakes, source: Path) -> None:
    holding(source, [*RECORDS[:30], {**RECORDS[30], "metadata": {"n": [1, "b"]}}, *RECORDS[31:]])

    with pytest.raises(
        InvalidRequestError, match=r"^records\.jsonl: record 31 \(id 'id-30'\): .*; these stay written: docs \(9 deltas"
    ) as caught:
        put(fakes, source)
    holding(source, RECORDS)
    resumed = put(fakes, source)

    assert "of this call" not in str(caught.value)
    assert rows_of(fakes) == ALL
    assert resumed.deltas_before > 0


def test_another_dimension_than_the_published_one_is_an_error_before_anything_is_written(
    fakes: Fakes, source: Path
) -> None:
    publish(fakes, dimension=3)

    with pytest.raises(InvalidRequestError, match=r"2 dimensions, but the published collection docs has 3; nothing"):
        put(fakes, source)

    assert fakes.objects.keys("delta/") == set()


def publish(fakes: Fakes, **described: Any) -> None:
    put_snapshot(fakes, 1, **described)
    point_to(fakes, 1)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"space": "l2"}, "the distance l2, but the published collection docs has cosine"),
        ({"embedding_function": "default"}, "function default, but the published collection docs has wordllama"),
    ],
)
def test_a_shape_that_contradicts_the_published_one_is_an_error_before_anything_is_written(
    fakes: Fakes, source: Path, options: dict[str, Any], problem: str
) -> None:
    publish(fakes, space="cosine", embedding_function="wordllama")

    with pytest.raises(InvalidRequestError, match=problem):
        put(fakes, source, **options)

    assert fakes.objects.keys("delta/") == set()


def test_a_function_that_the_published_collection_will_not_store_is_a_warning(fakes: Fakes, source: Path) -> None:
    publish(fakes)

    done = put(fakes, source, embedding_function="default")

    assert done.warnings == ["the published collection docs names no embedding function, and will not store default"]


def test_sources_of_one_collection_that_contradict_each_other_are_an_error_before_anything_is_written(
    fakes: Fakes, source: Path, tmp_path: Path
) -> None:
    other = holding(tmp_path / "other.jsonl", [{"id": "a", "embedding": [1, 2, 3]}])
    options = PutOptions(tmp_path / "journals")
    with ExitStack() as stack:
        both = [
            stack.enter_context(closing(Transfer(RecordFiles([path], "docs"), fakes.services, options)))
            for path in (source, other)
        ]
        with pytest.raises(InvalidRequestError, match=r"3 dimensions, but records.jsonl has 2; nothing was written"):
            check_all(both)


def test_an_error_in_a_later_source_names_what_the_earlier_ones_have_written(
    fakes: Fakes, source: Path, tmp_path: Path
) -> None:
    broken = holding(tmp_path / "broken.jsonl", [{"id": "", "embedding": [1, 2]}])
    options = PutOptions(tmp_path / "journals")
    with ExitStack() as stack:
        transfers = [
            stack.enter_context(closing(Transfer(RecordFiles([path], name), fakes.services, options)))
            for path, name in ((source, "good"), (broken, "bad"))
        ]
        with (
            pytest.raises(
                InvalidRequestError, match=r"these stay written: good \(14 deltas with 40 records\), and the"
            ),
            written_deltas_reported(transfers),
        ):
            deque(chain.from_iterable(one.run() for one in transfers))


def test_a_journal_that_cannot_be_opened_is_an_error(fakes: Fakes, source: Path) -> None:
    (source.parent / "journals").write_text("a file", encoding="utf-8")

    with pytest.raises(ConfigurationError, match="set XDG_STATE_HOME"):
        put(fakes, source)
