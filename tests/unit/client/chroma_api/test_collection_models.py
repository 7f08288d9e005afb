"""A collection in ChromaDB's form."""

from __future__ import annotations

from typing import Any

import pytest
from chromadb.api.types import Schema

from chromadb_compaction.client.chroma_api.chroma_errors import InvalidArgumentError
from chromadb_compaction.client.chroma_api.collection_models import collection_id, stated_on_create
from tests.fakes.bucket_client import bucket_in_memory, client_of

DROP = "01890000-0000-7000-8000-000000000000"


def test_the_uuid_is_the_same_everywhere_until_the_collection_is_dropped() -> None:
    first = collection_id("bucket", "docs", None)

    assert first == collection_id("bucket", "docs", None)
    assert len({first, collection_id("bucket", "docs", DROP), collection_id("other", "docs", None)}) == 3


@pytest.mark.parametrize(
    ("configuration", "metadata", "index"),
    [
        (None, None, {}),
        ({"hnsw": {"space": "ip"}}, {"hnsw:space": "cosine"}, {"space": "ip"}),
        ({"hnsw": None}, {"hnsw:space": "cosine", "hnsw:M": 8, "n": 1}, {"space": "cosine", "max_neighbors": 8}),
        ({"spann": {"space": "cosine", "ef_search": 3}}, None, {"space": "cosine"}),
    ],
)
def test_the_index_is_that_of_the_configuration_or_else_of_the_metadata(
    configuration: dict[str, Any] | None, metadata: dict[str, Any] | None, index: dict[str, Any]
) -> None:
    stated, given = stated_on_create(configuration, metadata)

    assert stated["hnsw"] == index
    assert given == (metadata or {})


@pytest.mark.parametrize(
    ("configuration", "metadata"),
    [(None, {}), (None, {"hnsw:foo": 1}), ({"hnsw": {"space": "ip"}, "spann": {"space": "ip"}}, None)],
)
def test_what_chromadb_refuses_is_refused(
    configuration: dict[str, Any] | None, metadata: dict[str, Any] | None
) -> None:
    with pytest.raises(InvalidArgumentError):
        stated_on_create(configuration, metadata)


def test_the_schema_is_one_that_chromadb_reads() -> None:
    with client_of(bucket_in_memory()) as client:
        docs = client.create_collection("docs", embedding_function=None, configuration={"hnsw": {"space": "cosine"}})

    assert isinstance(docs.schema, Schema)
    config = docs.schema.keys["#embedding"].float_list
    assert config is not None
    assert config.vector_index is not None
    assert config.vector_index.config.space == "cosine"
