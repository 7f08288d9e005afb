"""ChromaDB directories and servers, and their collections as sources of records."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings

from chromadb_compaction.chroma.client import open_directory
from chromadb_compaction.cli.sources import chroma_collections
from chromadb_compaction.cli.sources.chroma_collections import ChromaCollection
from chromadb_compaction.cli.sources.chroma_instances import ChromaDirectory, chroma_directory, chroma_server
from chromadb_compaction.cli.sources.records import Records
from chromadb_compaction.errors import ConfigurationError, InvalidRequestError

IDS = [f"id-{n}" for n in range(25)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Collections `one` (cosine) and `two` (25 records), and an empty one."""
    path = tmp_path_factory.mktemp("directory") / "chroma"
    with open_directory(path) as client:
        cosine: Any = {"hnsw": {"space": "cosine"}}
        one: Any = client.create_collection("one", embedding_function=None, configuration=cosine)
        vectors = np.eye(2, dtype=np.float32)
        one.add(ids=["a", "b"], embeddings=vectors, metadatas=[{"n": 1}, {"n": 2}], uris=["s3://a", None])
        two = client.create_collection("two")
        vectors = np.arange(75, dtype=np.float32).reshape(25, 3)
        two.add(ids=IDS, embeddings=vectors, documents=[f"text {name}" for name in IDS])
        client.create_collection("empty", embedding_function=None)
    return path


@contextmanager
def copy_of(path: Path, scratch: Path) -> Iterator[ChromaDirectory]:
    with chroma_directory(path, scratch) as instance:
        yield instance


def records_of(path: Path, scratch: Path, name: str) -> list[Records]:
    with copy_of(path, scratch) as instance:
        return [records for records in ChromaCollection(instance, name, name).read() if records.ids]


def test_a_directory_is_read_completely_and_not_changed(directory: Path, tmp_path: Path) -> None:
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in directory.rglob("*") if file.is_file()}

    (records,) = records_of(directory, tmp_path, "one")

    assert dict(zip(records.ids, records.metadatas, strict=True)) == {"a": {"n": 1}, "b": {"n": 2}}
    assert dict(zip(records.ids, records.uris, strict=True)) == {"a": "s3://a", "b": None}
    assert records.embeddings.tolist() == [[1, 0], [0, 1]]
    after = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in directory.rglob("*") if file.is_file()}
    assert after == before
    assert list(tmp_path.glob("scratch/*")) == []


def test_a_collection_is_read_in_pages_in_its_own_order(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chroma_collections, "PAGE_ROWS", 10)

    pages = records_of(directory, tmp_path, "two")

    assert [len(page.ids) for page in pages] == [10, 10, 5]
    assert [name for page in pages for name in page.ids] == IDS
    assert np.concatenate([page.embeddings for page in pages]).ravel().tolist() == list(range(75))
    assert pages[2].documents[4] == "text id-24"


def test_wide_vectors_make_short_pages(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chroma_collections, "PAGE_VALUES", 20)

    assert [len(page.ids) for page in records_of(directory, tmp_path, "two")] == [6, 6, 6, 6, 1]


def test_the_distance_and_the_embedding_function_of_a_collection_are_known(directory: Path, tmp_path: Path) -> None:
    with copy_of(directory, tmp_path) as instance:
        one, two = (ChromaCollection(instance, name, name) for name in ("one", "two"))

    assert (one.space, one.embedding_function) == ("cosine", None)
    assert (two.space, two.embedding_function) == ("l2", "default")


def test_the_sizes_of_the_pages_add_up_to_the_size_of_the_source(directory: Path, tmp_path: Path) -> None:
    with copy_of(directory, tmp_path) as instance:
        source = ChromaCollection(instance, "two", "notes")
        assert sum(records.size for records in source.read()) == source.size


def test_an_empty_collection_has_no_records(directory: Path, tmp_path: Path) -> None:
    assert records_of(directory, tmp_path, "empty") == []


@pytest.fixture
def databases(tmp_path: Path) -> Path:
    """A directory with a collection in the default database, in acme/prod, and none in acme/empty."""
    path = tmp_path / "databases"
    admin = chromadb.AdminClient(Settings(is_persistent=True, persist_directory=str(path), anonymized_telemetry=False))
    admin.create_tenant("acme")
    admin.create_database("prod", "acme")
    admin.create_database("empty", "acme")
    for tenant, database in (("default_tenant", "default_database"), ("acme", "prod")):
        with open_directory(path, tenant=tenant, database=database) as client:
            client.create_collection(f"docs-of-{tenant}", embedding_function=None)
    return path


def test_the_other_databases_of_a_directory_that_have_collections_are_named(databases: Path, tmp_path: Path) -> None:
    with copy_of(databases, tmp_path) as instance:
        assert instance.names([]) == ["docs-of-default_tenant"]
        assert instance.other_databases() == ["acme/prod"]


def test_a_database_of_a_directory_can_be_chosen(databases: Path, tmp_path: Path) -> None:
    with chroma_directory(databases, tmp_path, "acme/prod") as instance:
        assert instance.names([]) == ["docs-of-acme"]
        assert instance.location == f"{databases}/acme/prod"
        assert instance.other_databases() == ["default_tenant/default_database"]


def test_a_database_without_collections_is_an_error_that_names_others(databases: Path, tmp_path: Path) -> None:
    with (
        chroma_directory(databases, tmp_path, "acme/empty") as instance,
        pytest.raises(InvalidRequestError, match=r"no collection; .*--database acme/prod or default_tenant/"),
    ):
        instance.names([])


def test_a_database_that_does_not_exist_is_an_error(databases: Path, tmp_path: Path) -> None:
    with (
        chroma_directory(databases, tmp_path, "acme/none") as instance,
        pytest.raises(InvalidRequestError, match=r"cannot read .*acme/none"),
    ):
        instance.names([])


def test_the_copy_is_in_a_directory_of_this_user_alone(directory: Path, tmp_path: Path) -> None:
    with copy_of(directory, tmp_path / "cache") as instance:
        assert instance.spool is not None
        modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "cache", *instance.spool.parents[:2])}
        assert modes == {0o700}


def test_without_wanted_names_all_collections_are_returned(directory: Path, tmp_path: Path) -> None:
    with copy_of(directory, tmp_path) as instance:
        assert instance.names([]) == ["empty", "one", "two"]
        assert instance.names(["two", "one"]) == ["one", "two"]
        with pytest.raises(InvalidRequestError, match="has no collection 'three'; it has: empty, one, two"):
            instance.names(["one", "three"])


def test_a_directory_without_collections_is_an_error(tmp_path: Path) -> None:
    with open_directory(tmp_path / "empty"):
        pass
    with (
        copy_of(tmp_path / "empty", tmp_path) as instance,
        pytest.raises(InvalidRequestError, match=r"has no collection$"),
    ):
        instance.names([])


def test_a_directory_without_chromadb_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"has no chroma\.sqlite3"), copy_of(tmp_path, tmp_path):
        pass


def test_a_directory_that_chromadb_cannot_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "chroma.sqlite3").write_bytes(b"no database" * 1000)

    with copy_of(tmp_path / "broken", tmp_path) as instance, pytest.raises(InvalidRequestError, match="cannot read"):
        instance.names([])


def test_a_directory_that_another_program_writes_to_is_an_error(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = tmp_path / "busy"
    shutil.copytree(directory, busy)
    real_copytree = shutil.copytree

    def copy_during_a_write(*arguments: Any) -> Path:
        copied: Path = real_copytree(*arguments)
        (busy / "chroma.sqlite3-wal").write_bytes(b"more")
        return copied

    monkeypatch.setattr(shutil, "copytree", copy_during_a_write)
    with pytest.raises(InvalidRequestError, match="another program writes to"), copy_of(busy, tmp_path):
        pass


def test_a_disk_without_space_for_the_copy_is_an_error(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10, 5, 5))

    with pytest.raises(ConfigurationError, match="set CHROMADB_CACHE_DIR"), copy_of(directory, tmp_path):
        pass


def test_records_that_chromadb_has_not_flushed_are_read(tmp_path: Path) -> None:
    path = tmp_path / "unflushed"
    with open_directory(path) as client:
        docs = client.create_collection("docs", embedding_function=None)
        docs.add(ids=["a", "b"], embeddings=np.eye(2, dtype=np.float32))
        docs.delete(ids=["a"])
        docs.update(ids=["b"], embeddings=np.array([[3, 4]], dtype=np.float32))

    (records,) = records_of(path, tmp_path, "docs")

    assert (records.ids, records.embeddings.tolist()) == (["b"], [[3, 4]])


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("http://host", "http://host:8000/default_tenant/default_database"),
        ("https://host", "https://host:443/default_tenant/default_database"),
        ("http://host:9000/", "http://host:9000/default_tenant/default_database"),
    ],
)
def test_the_url_of_a_server_needs_only_its_host(url: str, location: str) -> None:
    assert chroma_server(url, [], None).location == location


def test_the_database_of_a_server_may_be_named_with_its_tenant() -> None:
    assert chroma_server("http://host", [], "notes").location == "http://host:8000/default_tenant/notes"
    assert chroma_server("http://host", [], "us/notes").location == "http://host:8000/us/notes"


@pytest.mark.parametrize("url", ["http://", "http://host:port", "http://host/api/v2", "http://host:8000?x=1"])
def test_a_malformed_server_url_is_an_error(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="it looks like http://host:8000"):
        chroma_server(url, [], None)


def test_a_header_without_a_colon_is_an_error() -> None:
    with pytest.raises(InvalidRequestError, match='"Name: value"'):
        chroma_server("http://host", ["Authorization"], None)


def test_chromadb_keeps_the_order_in_which_records_were_added(tmp_path: Path) -> None:
    """A put that continues relies on it: in another order the records would count as changed."""
    path = tmp_path / "reordered"
    with open_directory(path) as client:
        docs = client.create_collection("docs", embedding_function=None)
        for name in ("c", "a", "b"):
            docs.add(ids=[name], embeddings=np.ones((1, 2), dtype=np.float32))
        docs.update(ids=["c"], metadatas=[{"n": 1}])
    first = records_of(path, tmp_path, "docs")
    with open_docs(path) as docs:
        docs.query(query_embeddings=np.ones((1, 2), dtype=np.float32), n_results=2)

    again = records_of(path, tmp_path, "docs")

    assert first[0].ids == again[0].ids == ["c", "a", "b"]


@contextmanager
def open_docs(path: Path) -> Iterator[chromadb.Collection]:
    with open_directory(path) as client:
        yield client.get_collection("docs", embedding_function=None)
