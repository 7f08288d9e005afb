"""The settings and metadata of a ChromaDB collection, as a put states them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from chromadb_compaction.chroma.client import Collection, open_directory
from chromadb_compaction.cli.sources.chroma_collections import ChromaCollection
from chromadb_compaction.cli.sources.chroma_instances import chroma_directory
from chromadb_compaction.cli.sources.collection_settings import stated_collection
from chromadb_compaction.deltas.formats import Delta, read_delta
from chromadb_compaction.deltas.header import StatedCollection
from chromadb_compaction.errors import InvalidRequestError
from tests.fakes.services import Fakes, new_fakes
from tests.puts import KilledError, put_source

CONFIG = {"api_key_env_var": "KEY", "model_name": "m", "api_base": None}
FUNCTION = {"type": "known", "name": "openai", "config": CONFIG}
SLOW = {"ef_search": 7, "ef_construction": 200}


def open_docs(path: Path, scratch: Path, *, records: int = 2, **settings: Any) -> ChromaCollection:
    with open_directory(path) as client:
        made = client.create_collection("docs", **{"embedding_function": None, **settings})
        if records:
            made.add(ids=["a", "b"], embeddings=np.eye(2, dtype=np.float32))
    with chroma_directory(path, scratch) as instance:
        return ChromaCollection(instance, "docs", "docs")


def stated(**configuration: Any) -> StatedCollection:
    found = SimpleNamespace(configuration_json=configuration, metadata=None)
    return stated_collection(cast("Collection", found), "the collection docs", {})


def index_of(found: ChromaCollection) -> dict[str, Any]:
    assert found.stated is not None
    assert found.stated.configuration is not None
    assert found.stated.configuration.hnsw is not None
    return found.stated.configuration.hnsw.model_dump(exclude_none=True)


@pytest.mark.parametrize(
    ("settings", "index", "metadata"),
    [
        ({}, {}, None),
        ({"metadata": {"owner": "a", "hnsw:space": "ip"}}, {}, {"owner": "a"}),
        ({"metadata": {"hnsw:M": 40}}, {"max_neighbors": 40}, None),
        ({"configuration": {"hnsw": SLOW}}, SLOW, None),
        ({"configuration": {"hnsw": {"sync_threshold": 7000, "resize_factor": 2.0}}}, {}, None),
    ],
)
def test_what_differs_from_the_defaults_is_stated(
    tmp_path: Path, settings: dict[str, Any], index: dict[str, Any], metadata: dict[str, Any] | None
) -> None:
    found = open_docs(tmp_path / "chroma", tmp_path, **settings)

    assert index_of(found) == index
    assert found.stated is not None
    assert found.stated.metadata == metadata


def test_a_setting_that_only_the_segment_of_an_old_index_has_is_stated(tmp_path: Path) -> None:
    open_docs(tmp_path / "chroma", tmp_path)
    with closing(sqlite3.connect(tmp_path / "chroma" / "chroma.sqlite3")) as tables, tables:
        (segment,) = tables.execute("SELECT id FROM segments WHERE scope = 'VECTOR'").fetchone()
        tables.execute("INSERT INTO segment_metadata (segment_id, key, int_value) VALUES (?, 'hnsw:M', 40)", (segment,))

    with chroma_directory(tmp_path / "chroma", tmp_path) as instance:
        assert index_of(ChromaCollection(instance, "docs", "docs")) == {"max_neighbors": 40}


@pytest.mark.parametrize("settings", [{"metadata": {"hnsw:space": "ip"}}, {"configuration": {"hnsw": {"space": "ip"}}}])
def test_an_empty_collection_has_the_distance_of_its_configuration(tmp_path: Path, settings: dict[str, Any]) -> None:
    found = open_docs(tmp_path / "chroma", tmp_path, records=0, **settings)

    assert (found.space, found.needs_space, found.dimension) == ("ip", False, None)


def test_an_embedding_function_is_stated_whole() -> None:
    configuration = stated(embedding_function=FUNCTION).configuration

    assert configuration is not None
    assert configuration.embedding_function is not None
    assert configuration.embedding_function.model_dump() == FUNCTION


@pytest.mark.parametrize("function", [None, {"type": "legacy"}])
def test_a_function_without_a_name_is_not_stated(function: object) -> None:
    assert stated(embedding_function=function).function is None


def test_a_secret_is_named_and_not_shown() -> None:
    function = {**FUNCTION, "config": {"api_key": "hidden-value"}}

    with pytest.raises(InvalidRequestError, match=r"docs has something that deltas cannot keep: .*api_key") as caught:
        stated(embedding_function=function)

    assert "hidden-value" not in str(caught.value)


def test_a_put_states_the_collection_in_its_deltas(tmp_path: Path) -> None:
    fakes = new_fakes()
    found = open_docs(tmp_path / "chroma", tmp_path, metadata={"owner": "a"}, configuration={"hnsw": SLOW})

    with chroma_directory(tmp_path / "chroma", tmp_path) as instance:
        put_source(fakes, ChromaCollection(instance, "docs", "docs"), tmp_path / "journals")

    (delta,) = deltas(fakes)
    assert delta.header.collection == found.stated
    assert (delta.header.stated_space, delta.dimension) == ("l2", 2)


@pytest.fixture
def empty(tmp_path: Path) -> ChromaCollection:
    return open_docs(tmp_path / "chroma", tmp_path, records=0, metadata={"owner": "a", "hnsw:space": "ip"})


def test_an_empty_collection_becomes_a_delta_that_creates_it(tmp_path: Path, empty: ChromaCollection) -> None:
    fakes = new_fakes()
    with chroma_directory(tmp_path / "chroma", tmp_path) as instance:
        source = ChromaCollection(instance, "docs", "docs")
        assert len(put_source(fakes, source, tmp_path / "journals", dry_run=True).deltas) == 1
        assert fakes.objects.objects == {}
        put_source(fakes, source, tmp_path / "journals")

    (delta,) = deltas(fakes)
    assert (delta.table.num_rows, delta.header.stated_space, delta.header.collection) == (0, "ip", empty.stated)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.usefixtures("empty")
def test_a_stopped_put_of_an_empty_collection_writes_its_delta_once(tmp_path: Path, when: str) -> None:
    fakes = new_fakes()

    def kill(call: str, _key: str) -> None:
        if call == "put":
            raise KilledError

    with chroma_directory(tmp_path / "chroma", tmp_path) as instance:
        source = ChromaCollection(instance, "docs", "docs")
        setattr(fakes.objects, when, kill)
        with pytest.raises(KilledError):
            put_source(fakes, source, tmp_path / "journals")
        setattr(fakes.objects, when, lambda _call, _key: None)
        put_source(fakes, source, tmp_path / "journals")

    assert len(list(deltas(fakes))) == 1


def deltas(fakes: Fakes) -> Iterator[Delta]:
    for key, stored in fakes.objects.objects.items():
        yield read_delta(key, stored.body, now=4e9, max_bytes=10**6)
