"""LangChain's own tests of vector stores, with its Chroma class over a bucket."""

from __future__ import annotations

import pytest
from langchain_chroma import Chroma
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests.vectorstores import VectorStoreIntegrationTests

from chromadb_compaction.client.chroma_client import Client

ALL = 25
"""The number of LangChain's tests."""


class TestChromaOverABucket(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, client: Client) -> VectorStore:
        return Chroma(collection_name="langchain", embedding_function=self.get_embeddings(), client=client)


def test_none_of_langchains_tests_is_left_out() -> None:
    assert sum(name.startswith("test_") for name in dir(TestChromaOverABucket)) == ALL
