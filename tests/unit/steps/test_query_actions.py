"""Get, peek, count, and a query limited to ids: ChromaDB's own answers from the published snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chromadb_compaction.errors import InvalidRequestError, NoSuchCollectionError
from chromadb_compaction.pending.reader import FreshReader
from chromadb_compaction.steps import query as query_step
from chromadb_compaction.steps.query import answer, query
from chromadb_compaction.steps.query_messages import Answer, CountAnswer, GetAnswer, QueryEvent
from tasks.handling import parse
from tests.builders import a_delta
from tests.fakes.services import Fakes, new_fakes
from tests.passes import compact

FRUIT = a_delta(
    {"apple": [1, 0], "pear": [0, 1], "plum": [5, 5]},
    collection="fruit",
    documents={"apple": "a red apple", "pear": "a green pear"},
    metadatas={"apple": {"n": 1, "tags": ["x", "y"]}, "pear": {"n": 2}},
    header={"format": 1, "space": "ip", "embedding_function": "letters"},
)


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Fakes:
    fakes = new_fakes(chromadb_cache_dir=tmp_path_factory.mktemp("cache"))
    compact(fakes, FRUIT, a_delta(deletes=["a"], collection="gone"))
    return fakes


@pytest.fixture(scope="module")
def reader() -> Iterator[FreshReader]:
    reader = FreshReader()
    yield reader
    reader.close()


@pytest.fixture
def ask(fakes: Fakes, reader: FreshReader) -> Any:
    """Return a function that answers an event."""

    def asked(**event: Any) -> Answer:
        return answer(parse(QueryEvent, {"collection": "fruit", **event}).root, fakes.services, reader=reader)

    return asked


def test_get_answers_with_the_fields_of_chromadb_and_its_defaults(ask: Any) -> None:
    found = ask(action="get", ids=["apple"])

    assert isinstance(found, GetAnswer)
    assert found.model_dump(exclude={"snapshot_id", "pending"}) == {
        "ids": ["apple"],
        "embeddings": None,
        "documents": ["a red apple"],
        "uris": None,
        "data": None,
        "metadatas": [{"n": 1, "tags": ["x", "y"]}],
        "included": ["metadatas", "documents"],
    }


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({}, {"apple", "pear", "plum"}),
        ({"ids": ["pear", "pear", "nothing"]}, {"pear"}),
        ({"where": {"n": {"$gte": 2}}}, {"pear"}),
        ({"where": {"$or": [{"n": 1}, {"n": 2}]}}, {"apple", "pear"}),
        ({"where": {"n": {"$in": [1, 7]}}}, {"apple"}),
        ({"where": {"tags": {"$contains": "x"}}}, {"apple"}),
        ({"where_document": {"$contains": "green"}}, {"pear"}),
        ({"where_document": {"$not_contains": "green"}, "where": {"n": {"$lt": 9}}}, {"apple"}),
        ({"where_document": {"$regex": "^a r"}}, {"apple"}),
        ({"ids": ["apple", "pear"], "where": {"n": 2}}, {"pear"}),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),
)
def test_get_takes_all_of_chromadbs_filters(ask: Any, filters: dict[str, Any], ids: set[str]) -> None:
    assert set(ask(action="get", **filters).ids) == ids


def test_get_is_paged_by_limit_and_offset(ask: Any) -> None:
    pages = [ask(action="get", limit=2, offset=offset, include=[]).ids for offset in (0, 2, 4)]

    assert [len(page) for page in pages] == [2, 1, 0]
    assert {id_ for page in pages for id_ in page} == {"apple", "pear", "plum"}


def test_get_includes_the_requested_fields(ask: Any) -> None:
    found = ask(action="get", ids=["plum"], include=["embeddings", "documents"])

    assert (found.embeddings, found.documents, found.metadatas) == ([[5.0, 5.0]], [None], None)


def test_peek_answers_the_first_records_with_all_fields(ask: Any) -> None:
    found = ask(action="peek", limit=2)

    assert len(found.ids) == len(found.embeddings) == len(found.documents) == len(found.metadatas) == 2


def test_count_answers_the_size_and_shape_of_the_collection(ask: Any) -> None:
    assert ask(action="count").model_dump(exclude={"snapshot_id", "pending"}) == {
        "count": 3,
        "dimension": 2,
        "space": "ip",
        "embedding_function": "letters",
    }


def test_a_collection_with_only_deletes_is_empty(ask: Any) -> None:
    assert ask(collection="gone", action="get", include=["embeddings", "documents"]).embeddings == []
    assert ask(collection="gone", action="peek").ids == []
    counted = ask(collection="gone", action="count")
    assert isinstance(counted, CountAnswer)
    assert (counted.count, counted.dimension) == (0, None)


def test_every_action_names_the_snapshot_of_its_answer(ask: Any) -> None:
    questions = ({"query_embeddings": [[1, 0]]}, {"action": "get"}, {"action": "peek"}, {"action": "count"})

    assert len({ask(**question).snapshot_id for question in questions}) == 1


@pytest.mark.parametrize("ids", [["apple", "plum"], ["apple", "nothing", "plum", "plum"]], ids=str)
def test_a_query_can_be_limited_to_ids_whether_they_exist_or_not(ask: Any, ids: list[str]) -> None:
    assert set(ask(query_embeddings=[[1, 0]], ids=ids).ids[0]) == {"apple", "plum"}


def test_a_query_limited_to_ids_that_do_not_exist_finds_nothing(ask: Any) -> None:
    assert ask(query_embeddings=[[1, 0], [0, 1]], ids=["nothing"]).ids == [[], []]


@pytest.mark.parametrize(
    "refused",
    [
        {"action": "get", "where": {"$and": []}},
        {"action": "get", "where_document": {}},
        {"action": "get", "where_document": {"$regex": "("}},
        {"action": "get", "offset": 2**32},
    ],
    ids=str,
)
def test_what_chromadb_refuses_is_an_invalid_request(ask: Any, refused: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="ChromaDB refuses"):
        ask(**refused)


@pytest.mark.parametrize(
    ("event", "complaint"),
    [
        ({"action": "delete"}, "action must be one of query, get, peek, count, prefetch"),
        ({"action": ["get"]}, "action must be one of"),
        ({"action": "get", "n_results": 1}, r"get\.n_results"),
        ({"action": "get", "include": ["distances"]}, r"get\.include\.0"),
        ({"action": "get", "limit": 0}, r"get\.limit"),
        ({"action": "get", "offset": -1}, r"get\.offset"),
        ({"action": "get", "ids": []}, r"get\.ids"),
        ({"action": "peek", "where": {"n": 1}}, r"peek\.where"),
        ({"action": "count", "limit": 1}, r"count\.limit"),
        ({}, "give either query_embeddings or query_texts"),
    ],
    ids=str,
)
def test_an_event_that_breaks_a_rule_is_refused(ask: Any, event: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidRequestError, match=complaint):
        ask(**event)


@pytest.mark.parametrize("action", ["get", "peek", "count"])
def test_every_action_reports_an_unknown_collection_with_the_known_ones(ask: Any, action: str) -> None:
    with pytest.raises(NoSuchCollectionError, match="it has: fruit, gone"):
        ask(collection="vegetables", action=action)


def test_an_answer_too_large_for_lambda_is_refused_with_a_next_step(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(query_step, "ANSWER_BYTES", 100)

    with pytest.raises(InvalidRequestError, match="ask for fewer records at once"):
        query(parse(QueryEvent, {"collection": "fruit", "action": "get"}), fakes.services)
    query_step._PROCESS_READER.close()
