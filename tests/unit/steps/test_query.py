"""Queries: correct answers from the published snapshot, also while others are published."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from chromadb_compaction.chroma.filter_bounds import MAX_TERMS, MAX_TEXT, MAX_VALUES
from chromadb_compaction.chroma.query import Filters
from chromadb_compaction.errors import (
    InvalidRequestError,
    NoSnapshotError,
    NoSuchCollectionError,
    SnapshotCorruptError,
)
from chromadb_compaction.layout import pointer_key
from chromadb_compaction.pending.collection import FreshCollection
from chromadb_compaction.pending.reader import FreshReader
from chromadb_compaction.snapshots import open_copies
from chromadb_compaction.snapshots.space import Space
from chromadb_compaction.steps import query as query_step
from chromadb_compaction.steps.query import answer
from chromadb_compaction.steps.query_messages import (
    MAX_IDS,
    MAX_QUESTIONS,
    MAX_RECORDS,
    MAX_RESULTS,
    GetRequest,
    QueryAnswer,
    QueryRequest,
)
from tests.builders import NOW, a_delta
from tests.fakes.services import Fakes
from tests.passes import compact


def ask(fakes: Fakes, reader: FreshReader, collection: str = "docs", **request: Any) -> QueryAnswer:
    asked = {"query_embeddings": [[1, 0]], **request} if "query_texts" not in request else request
    asked = {"read_level": "snapshot", **asked}
    answered = answer(QueryRequest(collection=collection, **asked), fakes.services, reader=reader)
    assert isinstance(answered, QueryAnswer)
    return answered


def private_copies(fakes: Fakes) -> list[Path]:
    scratch = Path(fakes.settings.chromadb_cache_dir) / "scratch"
    return [path for path in scratch.iterdir() if path.is_dir()]


def test_the_nearest_records_come_first_with_all_included_fields(fakes: Fakes, reader: FreshReader) -> None:
    published = compact(
        fakes,
        a_delta(
            {"far": [0, 2], "near": [1, 0]},
            documents={"near": "text"},
            metadatas={"near": {"n": 1}},
            uris={"near": "s3://near"},
        ),
    )

    found = ask(fakes, reader, include=["documents", "metadatas", "distances", "embeddings", "uris"])

    assert found == QueryAnswer(
        snapshot_id=str(published.snapshot_id),
        ids=[["near", "far"]],
        documents=[["text", None]],
        uris=[["s3://near", None]],
        metadatas=[[{"n": 1}, None]],
        distances=[[0.0, 5.0]],
        embeddings=[[[1.0, 0.0], [0.0, 2.0]]],
        included=["documents", "metadatas", "distances", "embeddings", "uris"],
    )


def test_an_answer_has_the_fields_of_chromadb_and_its_defaults(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))

    found = ask(fakes, reader).model_dump(mode="json")

    chroma = {"ids", "embeddings", "documents", "uris", "data", "metadatas", "distances", "included"}
    assert found.keys() == chroma | {"snapshot_id", "pending"}
    assert found["included"] == ["metadatas", "documents", "distances"]
    assert found["embeddings"] is found["uris"] is found["data"] is None


def test_each_question_has_its_own_list_of_at_most_n_results(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0], "b": [0, 1], "c": [9, 9]}))

    assert ask(fakes, reader, query_embeddings=[[1, 0], [0, 1]], n_results=1).ids == [["a"], ["b"]]


def test_filters_are_those_of_chromadb(fakes: Fakes, reader: FreshReader) -> None:
    compact(
        fakes,
        a_delta(
            {"a": [1, 0], "b": [0, 1]},
            documents={"a": "an apple", "b": "a pear"},
            metadatas={"a": {"n": 1}, "b": {"n": 2}},
        ),
    )

    assert ask(fakes, reader, where={"n": {"$gt": 1}}).ids == [["b"]]
    assert ask(fakes, reader, where_document={"$contains": "apple"}).ids == [["a"]]


def test_texts_are_embedded_with_the_collections_embedding_function(
    fakes: Fakes, reader: FreshReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    compact(fakes, a_delta({"a": [1, 0], "b": [0, 1]}, header={"format": 1, "embedding_function": "letters"}))
    asked: list[tuple[list[str], str]] = []

    def embed(texts: list[str], function: str, _config: object, *, questions: bool) -> list[list[float]]:
        assert questions
        asked.append((texts, function))
        return [[0.0, 1.0]]

    monkeypatch.setattr(query_step, "embed", embed)

    assert ask(fakes, reader, query_texts=["what?"], n_results=1).ids == [["b"]]
    assert asked == [(["what?"], "letters")]


def test_texts_need_a_collection_that_names_its_embedding_function(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))

    with pytest.raises(InvalidRequestError, match="query_embeddings of 2 dimensions"):
        ask(fakes, reader, query_texts=["what?"])


def test_a_wrong_dimension_is_reported_with_both_numbers(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))

    with pytest.raises(InvalidRequestError, match=r"3 dimensions.*'docs' has 2"):
        ask(fakes, reader, query_embeddings=[[1, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    "filters",
    [
        {"where": {"$what": 1}},
        {"where": {"n": {"$what": 1}}},
        {"where": {}},
        {"where_document": {"$contains": ""}},
        {"where_document": {"$regex": "("}},
    ],
    ids=str,
)
def test_a_filter_that_chromadb_refuses_is_an_invalid_request(
    fakes: Fakes, reader: FreshReader, filters: dict[str, Any]
) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))

    with pytest.raises(InvalidRequestError, match="ChromaDB refuses"):
        ask(fakes, reader, **filters)


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"query_embeddings": [[1, 0]], "query_texts": ["a"]},
        {"query_embeddings": []},
        {"query_texts": []},
        {"query_embeddings": [[float("nan")]]},
        {"query_embeddings": [["1"]]},
        {"query_embeddings": [[1]], "n_results": 0},
        {"query_embeddings": [[1]], "include": ["everything"]},
        {"query_embeddings": [[1]], "n_result": 1},
        {"query_embeddings": [[1]], "ids": []},
        {"query_embeddings": [[1]], "ids": ["a"] * (MAX_IDS + 1)},
        {"query_embeddings": [[1]], "n_results": MAX_RESULTS + 1},
        {"query_embeddings": [[1]] * (MAX_QUESTIONS + 1)},
        {"query_embeddings": [[1]] * 11, "n_results": MAX_RECORDS // 10},
        {"query_embeddings": [[1e39]]},
    ],
    ids=lambda payload: str(payload)[:80],
)
def test_a_request_that_breaks_a_rule_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        QueryRequest.model_validate({"collection": "docs", **payload})


def test_a_request_with_a_filter_that_is_too_large_is_refused() -> None:
    where = {"$or": [{"n": {"$gt": 5}}] * 20_000}

    with pytest.raises(InvalidRequestError, match="more than 256 terms; use"):
        QueryRequest.model_validate({"collection": "docs", "query_embeddings": [[1]], "where": where})
    with pytest.raises(InvalidRequestError, match="more than 256 terms; use"):
        GetRequest.model_validate({"action": "get", "collection": "docs", "where_document": where})


def test_the_largest_request_that_is_allowed_is_answered(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, metadatas={"a": {"n": 6}}, documents={"a": "text"}))
    values = list(range(MAX_VALUES))

    for filters in (
        {"where": {"$or": [{"n": {"$gt": 5}}] * (MAX_TERMS // 2 - 1)}},
        {"where": {"n": {"$in": values}}, "where_document": {"$contains": "t"}},
        {"ids": ["a", *map(str, values[1:])], "where": {"n": {"$in": values}}},
    ):
        assert ask(fakes, reader, n_results=MAX_RESULTS, **filters).ids == [["a"]]


def test_a_document_filter_of_the_longest_text_is_answered(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, documents={"a": "text"}))

    for text in ("a", "%", "\N{GRINNING FACE}"):
        assert ask(fakes, reader, where_document={"$contains": text * MAX_TEXT}).ids == [[]]
        assert ask(fakes, reader, where_document={"$not_contains": text * MAX_TEXT}).ids == [["a"]]


def test_a_regular_expression_that_is_too_large_when_compiled_is_refused(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, documents={"a": "text"}))

    with pytest.raises(InvalidRequestError, match="too large; repeat less"):
        ask(fakes, reader, where_document={"$regex": "(a{1000}){1000}"})


def test_a_distance_beyond_float32_is_none(fakes: Fakes, reader: FreshReader, monkeypatch: pytest.MonkeyPatch) -> None:
    # The rule for records makes every distance finite, but a snapshot may be older than the rule.
    compact(fakes, a_delta({"a": [1, 0], "b": [1, 1]}))
    far = {"ids": [["a", "b"]], "distances": [[float("inf"), 1.5]]}
    monkeypatch.setattr(FreshCollection, "query", lambda *_args, **_options: far)

    found = ask(fakes, reader, include=["distances"])

    assert found.distances == [[None, 1.5]]
    json.dumps(found.model_dump(mode="json"), allow_nan=False)


def test_an_answer_of_too_many_records_is_refused(
    fakes: Fakes, reader: FreshReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_step, "MAX_RECORDS", 2)
    compact(fakes, a_delta({"a": [1, 0], "b": [1, 0], "c": [1, 0]}))

    with pytest.raises(InvalidRequestError, match="more than 2 records; ask in parts"):
        answer(GetRequest(action="get", collection="docs"), fakes.services, reader=reader)
    part = answer(GetRequest(action="get", collection="docs", limit=2), fakes.services, reader=reader)
    assert part.model_dump()["ids"] == ["a", "b"]


def test_a_query_before_the_first_snapshot_fails(fakes: Fakes, reader: FreshReader) -> None:
    with pytest.raises(NoSnapshotError, match="compact"):
        ask(fakes, reader)


def test_an_unknown_collection_is_reported_with_the_known_ones(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}), a_delta({"a": [1]}, collection="others"))

    with pytest.raises(NoSuchCollectionError, match=r"'dogs'; it has: docs, others"):
        ask(fakes, reader, "dogs")


def test_a_collection_with_only_deletes_gives_empty_lists(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta(deletes=["a"]))

    found = ask(fakes, reader, query_embeddings=[[1, 0], [0, 1]], include=["documents"])

    assert (found.ids, found.documents, found.distances) == ([[], []], [[], []], None)


def test_a_collection_whose_records_were_all_deleted_gives_empty_lists(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    compact(fakes, a_delta(deletes=["a"], at=NOW + 1))

    assert ask(fakes, reader).ids == [[]]


def test_the_next_query_costs_one_conditional_get(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    ask(fakes, reader)
    fakes.objects.calls.clear()

    ask(fakes, reader)

    assert fakes.objects.calls == [("get_if_changed", pointer_key())]


@pytest.mark.usefixtures("unpacked")
def test_only_the_queried_collection_is_downloaded_without_its_ledger(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}), a_delta({"a": [1]}, collection="others"))
    fakes.objects.calls.clear()

    ask(fakes, reader)

    downloaded = {key for call, key in fakes.objects.calls if call == "download"}
    assert downloaded
    assert not any("/others/" in key or key.endswith("ledger.parquet") for key in downloaded)


def test_a_query_reads_the_snapshot_published_since_the_last_one(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    before = ask(fakes, reader)
    published = compact(fakes, a_delta({"b": [1, 0]}, deletes=["a"], at=NOW + 1))

    after = ask(fakes, reader)

    assert (before.ids, after.ids) == ([["a"]], [["b"]])
    assert after.snapshot_id == published.snapshot_id
    assert len(private_copies(fakes)) == 1


def test_a_collection_that_a_new_snapshot_did_not_change_stays_open(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    ask(fakes, reader)
    published = compact(fakes, a_delta({"a": [1]}, collection="others"))
    fakes.objects.calls.clear()

    found = ask(fakes, reader)

    assert found.snapshot_id == published.snapshot_id
    assert not any(call == "get_range" for call, _ in fakes.objects.calls)


def test_a_running_query_keeps_its_snapshot(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    with reader.reading(fakes.services, "docs", read_level="snapshot") as running:
        compact(fakes, a_delta({"b": [1, 0]}, deletes=["a"], at=NOW + 1))
        assert ask(fakes, reader).ids == [["b"]]

        found = running.query(np.asarray([[1, 0]], np.float32), n_results=1, filters=Filters(), include=[])
        assert found["ids"] == [["a"]]
        assert len(private_copies(fakes)) == 2
    assert len(private_copies(fakes)) == 1


def test_queries_during_many_swaps_never_fail_and_never_see_an_older_snapshot(
    fakes: Fakes, reader: FreshReader
) -> None:
    compact(fakes, a_delta({"0": [1, 0]}))
    done = threading.Event()

    def query_repeatedly() -> list[QueryAnswer]:
        answers = []
        while not done.is_set():
            answers.append(ask(fakes, reader))
        return answers

    with ThreadPoolExecutor(4) as pool:
        queries = [pool.submit(query_repeatedly) for _ in range(4)]
        try:
            for number in range(1, 6):
                compact(fakes, a_delta({str(number): [1, 0]}, deletes=[str(number - 1)], at=NOW + number))
        finally:
            done.set()
        answers = [future.result() for future in queries]

    for series in answers:
        seen = [str(one.snapshot_id) for one in series]
        assert seen == sorted(seen)
        # The first snapshot's only record is "0", the second's "1": every answer fits its own snapshot.
        assert all(one.ids == [[str(int(str(one.snapshot_id)[:10]) - 1)]] for one in series)
    assert len(private_copies(fakes)) <= 1


def test_a_query_whose_snapshot_is_pruned_reads_the_published_one(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))

    def prune(key: str) -> None:
        compact(fakes, a_delta({"b": [1, 0]}, deletes=["a"], at=NOW + 1))
        fakes.objects.delete([key])

    fakes.objects.run_before_next("get_range", prune)

    assert ask(fakes, reader).ids == [["b"]]


def test_a_published_snapshot_that_is_damaged_is_reported(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    damaged = next(key for key in fakes.objects.keys("snapshot/") if key.endswith("files.pack"))
    fakes.objects.delete([damaged])

    with pytest.raises(SnapshotCorruptError, match=damaged):
        ask(fakes, reader)
    assert private_copies(fakes) == []


def test_a_query_after_the_pointer_was_lost_says_so(fakes: Fakes, reader: FreshReader) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    ask(fakes, reader)
    fakes.objects.delete([pointer_key()])

    with pytest.raises(SnapshotCorruptError, match="is missing, though snapshot"):
        ask(fakes, reader)
    assert private_copies(fakes) == []


def test_other_collections_are_removed_from_a_full_disk(
    fakes: Fakes, reader: FreshReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    compact(fakes, a_delta({"a": [1, 0]}), a_delta({"x": [1, 0]}, collection="others"))
    ask(fakes, reader)

    size = sum(path.stat().st_size for path in private_copies(fakes)[0].rglob("*"))
    monkeypatch.setattr(open_copies, "available_space", lambda _: Space(disk=size // 2, memory=2**63))

    assert ask(fakes, reader, "others").ids == [["x"]]
    assert len(private_copies(fakes)) == 1
