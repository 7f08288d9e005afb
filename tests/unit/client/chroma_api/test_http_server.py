"""ChromaDB's server over a bucket, and the checks before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from chromadb_compaction.cli.common.http_guard import guarded
from chromadb_compaction.client.chroma_api.collection_store import CollectionStore
from chromadb_compaction.client.chroma_api.http_server import BucketServer
from tests.fakes.bucket_client import bucket_in_memory

DATABASE = "/api/v2/tenants/default_tenant/databases/default_database"
COLLECTIONS = f"{DATABASE}/collections"
TOKEN = "a-long-secret"


def a_server(token: str | None = None, **options: Any) -> TestClient:
    server = BucketServer(CollectionStore(bucket_in_memory().services), **options)
    return TestClient(guarded(server.app(), token), base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


@pytest.fixture
def http() -> Iterator[TestClient]:
    with a_server() as client:
        yield client


@pytest.fixture
def docs(http: TestClient) -> str:
    identity = http.post(COLLECTIONS, json={"name": "docs"}).json()["id"]
    url = f"{COLLECTIONS}/{identity}"
    assert http.post(f"{url}/add", json={"ids": ["a", "b"], "embeddings": [[1, 2], [3, 4]]}).status_code == 201
    return url


def test_the_ids_of_a_query_are_used(http: TestClient, docs: str) -> None:
    found = http.post(f"{docs}/query", json={"query_embeddings": [[1, 2]], "ids": ["b"]}).json()

    assert found["ids"] == [["b"]]
    assert found["include"] == ["metadatas", "documents", "distances"]


def test_embeddings_are_numbers_in_json(http: TestClient, docs: str) -> None:
    found = http.post(f"{docs}/get", json={"include": ["embeddings"]}).json()

    assert found["embeddings"] == [[1, 2], [3, 4]]
    assert found["documents"] is None


def test_a_collection_has_its_schema(http: TestClient, docs: str) -> None:
    (listed,) = http.get(COLLECTIONS).json()

    assert listed == http.get(f"{COLLECTIONS}/docs").json()
    assert listed == http.get(f"{COLLECTIONS}/by-id/{listed['id']}").json()
    assert listed["schema"]["keys"]["#embedding"]["float_list"]["vector_index"]["config"]["space"] == "l2"
    assert listed["dimension"] == 2


def test_an_embedding_function_need_not_be_known_here(http: TestClient) -> None:
    function = {"type": "known", "name": "a_function_of_another_program", "config": {"model": "m"}}
    body = {"name": "docs", "configuration": {"hnsw": {"space": "ip"}, "embedding_function": function}}

    made = http.post(COLLECTIONS, json=body).json()

    assert made["configuration_json"]["embedding_function"] == function
    assert made["configuration_json"]["hnsw"]["space"] == "ip"


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("add", {"ids": ["c"], "embeddings": [[1, 2, 3]]}, 400, "InvalidArgumentError"),
        ("query", {"query_embeddings": [[1, 2, 3]]}, 400, "InvalidArgumentError"),
        ("get", {"where": {"$foo": 1}}, 400, "InvalidArgumentError"),
        ("get", {"include": ["nothing"]}, 400, "InvalidArgumentError"),
        ("query", {"query_embeddings": [[1, 2]], "ids": ["missing"]}, 500, "InternalError"),
        ("search", {"searches": [{}]}, 501, "ChromaError"),
        ("fork", {"new_name": "other"}, 501, "ChromaError"),
    ],
)
def test_errors_have_chromadbs_status_and_name(
    http: TestClient, docs: str, *, path: str, body: dict[str, Any], status: int, error: str
) -> None:
    response = http.post(f"{docs}/{path}", json=body)

    assert (response.status_code, response.json()["error"]) == (status, error)


def test_a_missing_collection_is_404_and_a_second_one_409(http: TestClient, docs: str) -> None:
    missing = http.get(f"{COLLECTIONS}/missing")
    second = http.post(COLLECTIONS, json={"name": "docs"})

    assert (missing.status_code, missing.json()["error"]) == (404, "NotFoundError")
    assert (second.status_code, second.json()["error"]) == (409, "UniqueConstraintError")


def test_reset_is_refused_unless_it_is_allowed(http: TestClient, docs: str) -> None:
    assert http.post("/api/v2/reset").status_code == 400
    assert http.get(f"{DATABASE}/collections_count").json() == 1


def test_without_a_token_requests_of_web_pages_are_refused(http: TestClient) -> None:
    from_a_page = http.post(COLLECTIONS, json={"name": "docs"}, headers={"Origin": "https://page.example"})
    rebound = http.get(COLLECTIONS, headers={"Host": "page.example"})

    assert (from_a_page.status_code, rebound.status_code) == (403, 403)
    assert http.get(COLLECTIONS).json() == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer another"}, 401),
        ({"X-Chroma-Token": ""}, 401),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
        ({"X-Chroma-Token": TOKEN}, 200),
        ({"X-Chroma-Token": TOKEN, "Host": "chroma.internal"}, 200),
    ],
)
def test_with_a_token_every_request_must_carry_it(headers: dict[str, str], status: int) -> None:
    with a_server(TOKEN) as http:
        assert http.get(COLLECTIONS, headers=headers).status_code == status
        assert http.get("/docs", headers=headers).status_code == status


def test_a_health_check_needs_no_token() -> None:
    with a_server(TOKEN) as http:
        assert http.get("/api/v2/heartbeat").status_code == 200
        assert http.post("/api/v2/reset").status_code == 401
