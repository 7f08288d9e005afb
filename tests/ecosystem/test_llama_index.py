"""LlamaIndex's vector store over a collection of a bucket."""

from __future__ import annotations

import pytest
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    ExactMatchFilter,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.vector_stores.chroma import ChromaVectorStore

from chromadb_compaction.client.chroma_client import Client


@pytest.fixture
def store(client: Client) -> ChromaVectorStore:
    return ChromaVectorStore(chroma_collection=client.get_or_create_collection("llama"))


NODES = [
    TextNode(
        id_=f"node-{number}",
        text=f"text {number}",
        embedding=[1.0, number / 10, 0.0],
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"document-{number % 2}")},
        metadata={"author": "Ada" if number < 2 else "Grace", "year": 1840 + number},
    )
    for number in range(4)
]


def found(store: BasePydanticVectorStore, **query: object) -> list[str]:
    result = store.query(VectorStoreQuery(query_embedding=[1.0, 0.0, 0.0], **query))  # type: ignore[arg-type] # each key has its own type
    return result.ids or []


def test_it_is_a_vector_store() -> None:
    assert BasePydanticVectorStore.__name__ in [each.__name__ for each in ChromaVectorStore.__mro__]


def test_nodes_are_found_by_distance(store: ChromaVectorStore) -> None:
    assert store.add(list(NODES)) == [node.node_id for node in NODES]

    result = store.query(VectorStoreQuery(query_embedding=[1.0, 0.0, 0.0], similarity_top_k=2))

    assert result.ids == ["node-0", "node-1"]
    assert [node.get_content() for node in result.nodes or []] == ["text 0", "text 1"]
    assert result.similarities is not None
    assert result.similarities[0] > result.similarities[1]


def test_filters_select_nodes(store: ChromaVectorStore) -> None:
    store.add(list(NODES))

    by_author = MetadataFilters(filters=[ExactMatchFilter(key="author", value="Grace")])
    by_year = MetadataFilters(filters=[MetadataFilter(key="year", value=1841, operator=FilterOperator.GTE)])

    assert found(store, similarity_top_k=9, filters=by_author) == ["node-2", "node-3"]
    assert found(store, similarity_top_k=2, filters=by_year) == ["node-1", "node-2"]


def test_maximal_marginal_relevance_is_answered(store: ChromaVectorStore) -> None:
    store.add(list(NODES))

    assert len(found(store, similarity_top_k=2, mode=VectorStoreQueryMode.MMR)) == 2


def test_a_document_is_deleted_with_its_nodes(store: ChromaVectorStore) -> None:
    store.add(list(NODES))

    store.delete("document-0")

    assert [node.node_id for node in store.get_nodes(node_ids=None)] == ["node-1", "node-3"]


def test_nodes_are_deleted_by_id(store: ChromaVectorStore) -> None:
    store.add(list(NODES))

    store.delete_nodes(node_ids=["node-1"])

    assert [node.node_id for node in store.get_nodes(node_ids=["node-0", "node-1"])] == ["node-0"]


def test_clear_removes_every_node(store: ChromaVectorStore) -> None:
    store.add(list(NODES))

    store.clear()

    assert store.get_nodes(node_ids=None) == []
