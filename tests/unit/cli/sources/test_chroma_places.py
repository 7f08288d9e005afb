"""Somebody's ChromaDB directory as a source of records."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest

from chromadb_compaction.chroma.client import open_directory
from chromadb_compaction.cli.sources import chroma_places
from chromadb_compaction.cli.sources.chroma_places import (
    ChromaCollection,
    ChromaDirectory,
    chroma_directory,
    chroma_server,
)
from chromadb_compaction.cli.sources.files import Rows
from chromadb_compaction.errors import ConfigurationError, InvalidRequestError

IDS = [f"id-{n}" for n in range(25)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Collections `one` (cosine) and `two` (25 records), and an empty one."""
    path = tmp_path_factory.mktemp("theirs") / "chroma"
    with open_directory(path) as client:
        cosine: Any = {"hnsw": {"space": "cosine"}}
        one = client.create_collection("one", embedding_function=None, configuration=cosine)
        one.add(ids=["a", "b"], embeddings=np.eye(2, dtype=np.float32), metadatas=[{"n": 1}, {"n": 2}])
        two = client.create_collection("two")
        vectors = np.arange(75, dtype=np.float32).reshape(25, 3)
        two.add(ids=IDS, embeddings=vectors, documents=[f"text {name}" for name in IDS])
        client.create_collection("empty", embedding_function=None)
    return path


@contextmanager
def opened(path: Path, scratch: Path) -> Iterator[ChromaDirectory]:
    with chroma_directory(path, scratch) as place:
        yield place


def rows_of(path: Path, scratch: Path, name: str) -> list[Rows]:
    with opened(path, scratch) as place:
        return [rows for rows in ChromaCollection(place, name, name).rows() if rows.ids]


def test_a_directory_is_read_whole_and_left_untouched(directory: Path, tmp_path: Path) -> None:
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in directory.rglob("*") if file.is_file()}

    (rows,) = rows_of(directory, tmp_path, "one")

    assert dict(zip(rows.ids, rows.metadatas, strict=True)) == {"a": {"n": 1}, "b": {"n": 2}}
    assert rows.embeddings.tolist() == [[1, 0], [0, 1]]
    after = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in directory.rglob("*") if file.is_file()}
    assert after == before
    assert list(tmp_path.glob("scratch/*")) == []


def test_a_collection_comes_in_pages_in_its_own_order(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chroma_places, "PAGE_ROWS", 10)

    pages = rows_of(directory, tmp_path, "two")

    assert [len(page.ids) for page in pages] == [10, 10, 5]
    assert [name for page in pages for name in page.ids] == IDS
    assert np.concatenate([page.embeddings for page in pages]).ravel().tolist() == list(range(75))
    assert pages[2].documents[4] == "text id-24"


def test_the_wider_the_vectors_the_shorter_the_pages(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chroma_places, "PAGE_VALUES", 20)

    assert [len(page.ids) for page in rows_of(directory, tmp_path, "two")] == [6, 6, 6, 6, 1]


def test_a_collections_distance_and_embedding_function_are_known(directory: Path, tmp_path: Path) -> None:
    with opened(directory, tmp_path) as place:
        one, two = (ChromaCollection(place, name, name) for name in ("one", "two"))

    assert (one.space, one.embedding_function) == ("cosine", None)
    assert (two.space, two.embedding_function) == ("l2", "default")


def test_the_sizes_of_what_is_read_add_up_to_the_whole(directory: Path, tmp_path: Path) -> None:
    with opened(directory, tmp_path) as place:
        source = ChromaCollection(place, "two", "ours")
        assert sum(rows.size for rows in source.rows()) == source.size


def test_an_empty_collection_has_no_rows(directory: Path, tmp_path: Path) -> None:
    assert rows_of(directory, tmp_path, "empty") == []


def test_all_collections_are_meant_unless_some_are_chosen(directory: Path, tmp_path: Path) -> None:
    with opened(directory, tmp_path) as place:
        assert place.names([]) == ["empty", "one", "two"]
        assert place.names(["two", "one"]) == ["one", "two"]
        with pytest.raises(InvalidRequestError, match="has no collection 'three'; it has: empty, one, two"):
            place.names(["one", "three"])


def test_a_directory_without_collections_is_told_of(tmp_path: Path) -> None:
    with open_directory(tmp_path / "bare"):
        pass
    with opened(tmp_path / "bare", tmp_path) as place, pytest.raises(InvalidRequestError, match=r"has no collection$"):
        place.names([])


def test_what_is_no_chroma_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"has no chroma\.sqlite3"), opened(tmp_path, tmp_path):
        pass


def test_what_chromadb_cannot_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "chroma.sqlite3").write_bytes(b"no database" * 1000)

    with opened(tmp_path / "broken", tmp_path) as place, pytest.raises(InvalidRequestError, match="cannot read"):
        place.names([])


def test_a_directory_that_another_program_writes_to_is_refused(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = tmp_path / "busy"
    shutil.copytree(directory, busy)
    copy_all = shutil.copytree

    def copied_while_written(*arguments: Any) -> Path:
        done: Path = copy_all(*arguments)
        (busy / "chroma.sqlite3-wal").write_bytes(b"more")
        return done

    monkeypatch.setattr(shutil, "copytree", copied_while_written)
    with pytest.raises(InvalidRequestError, match="another program writes to"), opened(busy, tmp_path):
        pass


def test_a_disk_without_room_for_the_copy_is_told_of(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10, 5, 5))

    with pytest.raises(ConfigurationError, match="set CHROMADB_CACHE_DIR"), opened(directory, tmp_path):
        pass


def test_records_that_chromadb_has_not_yet_flushed_are_read(tmp_path: Path) -> None:
    path = tmp_path / "unflushed"
    with open_directory(path) as client:
        docs = client.create_collection("docs", embedding_function=None)
        docs.add(ids=["a", "b"], embeddings=np.eye(2, dtype=np.float32))
        docs.delete(ids=["a"])
        docs.update(ids=["b"], embeddings=np.array([[3, 4]], dtype=np.float32))

    (rows,) = rows_of(path, tmp_path, "docs")

    assert (rows.ids, rows.embeddings.tolist()) == (["b"], [[3, 4]])


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("http://host", "http://host:8000/default_tenant/default_database"),
        ("https://host", "https://host:443/default_tenant/default_database"),
        ("http://host:9000/", "http://host:9000/default_tenant/default_database"),
    ],
)
def test_a_servers_url_needs_no_more_than_its_host(url: str, location: str) -> None:
    assert chroma_server(url, [], None).location == location


def test_a_servers_database_may_be_named_with_its_tenant() -> None:
    assert chroma_server("http://host", [], "theirs").location == "http://host:8000/default_tenant/theirs"
    assert chroma_server("http://host", [], "us/theirs").location == "http://host:8000/us/theirs"


@pytest.mark.parametrize("url", ["http://", "http://host:port", "http://host/api/v2", "http://host:8000?x=1"])
def test_what_is_no_servers_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="it looks like http://host:8000"):
        chroma_server(url, [], None)


def test_a_header_without_a_colon_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match='"Name: value"'):
        chroma_server("http://host", ["Authorization"], None)


def test_chromadb_keeps_the_order_in_which_records_came(tmp_path: Path) -> None:
    """On which a put that goes on relies: it would be refused otherwise."""
    path = tmp_path / "reordered"
    with open_directory(path) as client:
        docs = client.create_collection("docs", embedding_function=None)
        for name in ("c", "a", "b"):
            docs.add(ids=[name], embeddings=np.ones((1, 2), dtype=np.float32))
        docs.update(ids=["c"], metadatas=[{"n": 1}])
    first = rows_of(path, tmp_path, "docs")
    with chromadb_reader(path) as docs:
        docs.query(query_embeddings=np.ones((1, 2), dtype=np.float32), n_results=2)

    again = rows_of(path, tmp_path, "docs")

    assert first[0].ids == again[0].ids == ["c", "a", "b"]


@contextmanager
def chromadb_reader(path: Path) -> Iterator[chromadb.Collection]:
    with open_directory(path) as client:
        yield client.get_collection("docs", embedding_function=None)
