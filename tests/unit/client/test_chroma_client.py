"""`Client`: ChromaDB's client over a bucket."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chromadb
import pytest
from chromadb.api import ClientAPI
from chromadb.errors import ChromaError, InvalidArgumentError, NotFoundError

import chromadb_compaction
from chromadb_compaction.client.chroma_client import Client
from chromadb_compaction.errors import ConfigurationError
from tests.fakes.bucket_client import bucket_in_memory, client_of
from tests.passes import compact


def test_importing_the_package_does_not_import_chromadb() -> None:
    program = "import sys, chromadb_compaction; assert 'chromadb' not in sys.modules"

    subprocess.run([sys.executable, "-c", program], check=True)


def test_it_is_exported_as_a_chromadb_client() -> None:
    assert chromadb_compaction.Client is Client
    with client_of(bucket_in_memory()) as client:
        assert isinstance(client, ClientAPI)
        assert isinstance(client.create_collection("docs", embedding_function=None), chromadb.Collection)


def test_the_bucket_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMADB_BUCKET", raising=False)
    with pytest.raises(ConfigurationError):
        Client()
    with Client(bucket="a-bucket") as client:
        assert client.get_version() == chromadb.__version__


def test_closing_twice_does_nothing() -> None:
    with client_of(bucket_in_memory()) as client:
        client.close()
    client.close()


def test_settings_of_a_collection_are_kept() -> None:
    with client_of(bucket_in_memory()) as client:
        client.create_collection(
            "docs",
            embedding_function=None,
            metadata={"owner": "Ada"},
            configuration={"hnsw": {"space": "cosine", "ef_construction": 50, "max_neighbors": 8, "ef_search": 7}},
        )
        docs = client.get_collection("docs", embedding_function=None)
        docs.modify(metadata={"owner": "Grace"}, configuration={"hnsw": {"ef_search": 9}})

        docs = client.get_collection("docs", embedding_function=None)

    expected = {"space": "cosine", "ef_construction": 50, "max_neighbors": 8, "ef_search": 9}
    assert docs.metadata == {"owner": "Grace"}
    assert expected.items() <= docs.configuration_json["hnsw"].items()


def test_an_embedding_function_is_kept() -> None:
    with client_of(bucket_in_memory()) as client:
        client.create_collection("docs")

        docs = client.get_collection("docs", embedding_function=None)

    assert docs.configuration_json["embedding_function"]["name"] == "default"


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda client, docs: docs.modify(name="other"), "stored under its name"),
        (lambda client, docs: docs.fork("other"), "stored under its name"),
        (lambda client, docs: docs.search([]), "Use `query` or `get`"),
        (lambda client, docs: docs.get_indexing_status(), "status"),
        (lambda client, docs: client._admin_client.create_database("other"), "one bucket for each database"),
        (lambda client, docs: client._admin_client.create_tenant("other"), "a bucket is one database"),
        (lambda client, docs: client.create_collection("other", schema=chromadb.Schema()), "configuration"),
    ],
)
def test_what_a_bucket_cannot_do_is_refused_with_chromadbs_error_and_the_reason(
    call: Callable[[Client, chromadb.Collection], object], reason: str
) -> None:
    with client_of(bucket_in_memory()) as client:
        docs = client.create_collection("docs", embedding_function=None)
        with pytest.raises(ChromaError, match=reason):
            call(client, docs)


@pytest.mark.parametrize(
    "changed",
    [{"hnsw": {"max_neighbors": 99}}, {"spann": {"ef_search": 3}}, {"hnsw": {"space": "ip"}}],
)
def test_what_is_fixed_when_a_collection_is_made_cannot_be_changed(changed: Any) -> None:
    with client_of(bucket_in_memory()) as client:
        docs = client.create_collection("docs", embedding_function=None)
        with pytest.raises(InvalidArgumentError):
            docs.modify(configuration=changed)


def test_another_database_is_not_found() -> None:
    with client_of(bucket_in_memory()) as client:
        with pytest.raises(NotFoundError, match="a bucket is one database"):
            client.set_database("other")
        with pytest.raises(NotFoundError, match="a bucket has one tenant"):
            client.set_tenant("other")
        client.set_tenant("default_tenant")


def test_reset_needs_to_be_allowed() -> None:
    bucket = bucket_in_memory()
    with client_of(bucket) as client:
        client.create_collection("docs", embedding_function=None)
        with pytest.raises(ValueError, match="not allowed"):
            client.reset()
    with client_of(bucket, allow_reset=True) as client:
        client.reset()
        assert client.count_collections() == 0


def test_the_snapshot_alone_is_read_if_that_is_asked_for(tmp_path: Path) -> None:
    bucket = bucket_in_memory(chromadb_cache_dir=tmp_path)
    one: Any = [[1.0]]
    with client_of(bucket, read_level="snapshot") as client:
        docs = client.create_collection("docs", embedding_function=None)
        docs.add(ids=["a"], embeddings=one)
        before = docs.count(), docs.get()["ids"], docs.query(query_embeddings=one)["ids"]
        compact(bucket)
        docs.delete(ids=["a"])

        assert before == (0, [], [[]])
        assert docs.get()["ids"] == ["a"]


def test_a_collection_that_was_dropped_and_made_again_is_not_read_from_an_older_snapshot(tmp_path: Path) -> None:
    bucket = bucket_in_memory(chromadb_cache_dir=tmp_path)
    one: Any = [[1.0]]
    with client_of(bucket, read_level="snapshot") as client:
        old = client.create_collection("docs", embedding_function=None)
        old.add(ids=["a"], embeddings=one)
        compact(bucket)
        client.delete_collection("docs")
        new = client.create_collection("docs", embedding_function=None)

        assert new.count() == 0
        compact(bucket)
        new.add(ids=["b"], embeddings=one)
        compact(bucket)
        assert new.get()["ids"] == ["b"]
