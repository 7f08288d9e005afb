"""A collection's settings and metadata, from deltas to the published ChromaDB directory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import chromadb
import pytest
from chromadb.config import Settings as ChromaSettings

from chromadb_compaction.deltas.outcomes import unpack_outcomes
from chromadb_compaction.manifest import CollectionSnapshot, Manifest
from chromadb_compaction.messages import PublishedSnapshot
from chromadb_compaction.operations.pull import pull_snapshot
from chromadb_compaction.operations.verify import verify_snapshot
from chromadb_compaction.pending.reader import FreshReader
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer
from chromadb_compaction.steps.query import answer
from chromadb_compaction.steps.query_messages import CountAnswer, CountRequest, QueryAnswer, QueryRequest
from tests.builders import NOW, BuiltDelta, a_delta
from tests.fakes.services import Fakes
from tests.passes import compact

INDEX: dict[str, Any] = {"space": "cosine", "max_neighbors": 48, "ef_construction": 300, "ef_search": 250}
OPENAI: dict[str, Any] = {
    "type": "known",
    "name": "openai",
    "config": {"api_key_env_var": "KEY", "model_name": "small"},
}
ABOUT: dict[str, Any] = {"owner": "team a", "year": 2024, "share": 0.5, "open": True}


def stating(
    rows: dict[str, Sequence[float]] | None = None,
    *,
    second: int = 0,
    metadata: dict[str, Any] | None = None,
    function: dict[str, Any] | None = None,
    **index: Any,
) -> BuiltDelta:
    """Return a delta of format 2, written `second` seconds after the first."""
    configuration = {"hnsw": index or None, "embedding_function": function}
    stated = {"configuration": configuration, "metadata": metadata}
    return a_delta(rows, header={"format": 2, "collection": stated}, at=NOW - 100 + second)


def manifest(fakes: Fakes) -> Manifest:
    current = read_pointer(fakes.services)
    assert current is not None
    return read_manifest(fakes.services, current.pointer)


def described(fakes: Fakes) -> CollectionSnapshot:
    return manifest(fakes).collections["docs"]


def pulled(fakes: Fakes, parent: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Return the configuration, the metadata and the number of records of a copy, read with plain ChromaDB."""
    into = parent / manifest(fakes).snapshot_id
    pull_snapshot(fakes.services, None, into)
    settings = ChromaSettings(anonymized_telemetry=False)
    with closing(chromadb.PersistentClient(path=into / "docs", settings=settings)) as client:  # type: ignore[type-var]
        docs = client.get_collection("docs", embedding_function=None)
        return docs.configuration_json, dict(docs.metadata or {}), docs.count()


def reasons(fakes: Fakes, published: PublishedSnapshot) -> list[str]:
    outcomes = unpack_outcomes(fakes.objects.get(published.outcome).body)
    return [each.reason or "" for each in outcomes if each.status == "quarantined"]


def test_a_pulled_collection_has_the_settings_that_its_deltas_state(fakes: Fakes, tmp_path: Path) -> None:
    compact(fakes, stating({"a": [1, 0]}, metadata=ABOUT, function=OPENAI, **INDEX))

    configuration, metadata, records = pulled(fakes, tmp_path)

    assert {name: configuration["hnsw"][name] for name in INDEX} == INDEX
    assert configuration["embedding_function"] == OPENAI
    assert (metadata, records) == (ABOUT, 1)
    assert verify_snapshot(fakes.services, None, full=True).problems == []


def test_an_unknown_embedding_function_is_kept_and_the_collection_takes_more_records(
    fakes: Fakes, tmp_path: Path
) -> None:
    unknown = {"type": "known", "name": "of-our-own", "config": {"layers": [1, {"deep": None}]}}
    compact(fakes, stating({"a": [1, 0]}, function=unknown))
    compact(fakes, stating({"b": [1, 1]}, second=1))

    configuration, _, records = pulled(fakes, tmp_path)

    assert (configuration["embedding_function"], records) == (unknown, 2)


def test_metadata_that_older_chromadb_versions_used_as_settings_is_only_kept(fakes: Fakes, tmp_path: Path) -> None:
    old = {"hnsw:space": "ip", "hnsw:M": "many", "hnsw:construction_ef": -4}
    compact(fakes, stating({"a": [1, 0]}, metadata=old, space="cosine"))
    compact(fakes, stating({"b": [1, 1]}, second=1))

    configuration, metadata, records = pulled(fakes, tmp_path)

    assert (configuration["hnsw"]["space"], metadata, records) == ("cosine", old, 2)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("together", [True, False], ids=["together", "apart"])
def test_the_newest_delta_decides_what_may_change_in_any_order(
    fakes: Fakes, tmp_path: Path, order: tuple[int, ...], *, together: bool
) -> None:
    deltas = [
        stating({"a": [1, 0]}, metadata={"n": 0}, ef_search=10),
        stating(second=1, metadata={"n": 1}),
        stating(second=2, ef_search=30),
    ]
    arriving = [deltas[number] for number in order]
    if together:
        compact(fakes, *arriving)
    else:
        for delta in arriving:
            compact(fakes, delta)

    configuration, metadata, records = pulled(fakes, tmp_path)

    assert (configuration["hnsw"]["ef_search"], metadata, records) == (30, {"n": 1}, 1)


@pytest.mark.usefixtures("unpacked")
def test_settings_change_although_no_record_changes_and_an_empty_object_removes_the_metadata(
    fakes: Fakes, tmp_path: Path
) -> None:
    compact(fakes, stating({"a": [1, 0]}, metadata=ABOUT))
    before = described(fakes)

    assert compact(fakes, stating(second=1, metadata={}, ef_search=77)).published

    configuration, metadata, records = pulled(fakes, tmp_path)
    assert (configuration["hnsw"]["ef_search"], metadata, records) == (77, {}, 1)
    changed = {path for path, file in described(fakes).files.items() if before.files[path] != file}
    assert changed == {"chroma.sqlite3"}


def test_the_same_settings_again_publish_nothing(fakes: Fakes) -> None:
    delta = stating({"a": [1, 0]}, metadata=ABOUT, **INDEX)
    compact(fakes, delta)

    assert not compact(fakes, delta).published


@pytest.mark.parametrize(
    ("stated", "named"),
    [
        ({"space": "ip"}, "distance ip"),
        ({"max_neighbors": 16}, "max_neighbors 16"),
        ({"ef_construction": 100}, "ef_construction 100"),
        ({"function": {"name": "cohere", "config": {}}}, "embedding function cohere"),
        ({"function": {"name": "openai", "config": {"model_name": "large"}}}, "large"),
    ],
)
@pytest.mark.parametrize("rows", [None, {"b": [0, 1]}], ids=["no-rows", "rows"])
@pytest.mark.parametrize("together", [True, False], ids=["together", "apart"])
def test_a_delta_that_contradicts_the_shape_goes_to_quarantine(
    fakes: Fakes, stated: dict[str, Any], named: str, rows: dict[str, Sequence[float]] | None, *, together: bool
) -> None:
    first, second = stating({"a": [1, 0]}, function=OPENAI, **INDEX), stating(rows, second=1, **stated)
    if not together:
        compact(fakes, first)
    published = compact(fakes, second) if not together else compact(fakes, first, second)

    (reason,) = reasons(fakes, published)
    assert named in reason
    assert described(fakes).records == 1


def test_a_function_that_differs_only_in_environment_variables_is_the_same(fakes: Fakes) -> None:
    compact(fakes, stating({"a": [1, 0]}, function=OPENAI))
    other = {"name": "openai", "config": {"api_key_env_var": "OTHER", "model_name": "small", "new_parameter": 1}}

    assert reasons(fakes, compact(fakes, stating({"b": [1, 0]}, second=1, function=other))) == []


def test_a_header_of_format_1_that_contradicts_goes_to_quarantine_too(fakes: Fakes) -> None:
    compact(fakes, a_delta({"a": [1, 0]}, header={"space": "l2", "embedding_function": "wordllama"}))

    published = compact(
        fakes,
        a_delta({"b": [1, 0]}, header={"space": "cosine"}),
        a_delta({"c": [1, 0]}, header={"embedding_function": "default"}),
        a_delta({"d": [1, 0]}, header={"space": "l2", "embedding_function": "wordllama"}),
    )

    assert len(reasons(fakes, published)) == 2
    assert described(fakes).records == 2


def test_chromadbs_defaults_contradict_nothing(fakes: Fakes) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    stated = stating({"b": [1, 0]}, second=1, space="l2", max_neighbors=16, ef_construction=100, ef_search=100)

    assert reasons(fakes, compact(fakes, stated)) == []


def test_a_delta_without_rows_makes_an_empty_collection(fakes: Fakes, tmp_path: Path) -> None:
    compact(fakes, stating(metadata=ABOUT, function=OPENAI, **INDEX))

    configuration, metadata, records = pulled(fakes, tmp_path)
    assert {name: configuration["hnsw"][name] for name in INDEX} == INDEX
    assert (metadata, records) == (ABOUT, 0)
    reader = FreshReader()
    counted = answer(CountRequest(action="count", collection="docs"), fakes.services, reader=reader)
    assert isinstance(counted, CountAnswer)
    assert (counted.count, counted.dimension) == (0, None)
    request = QueryRequest(collection="docs", query_embeddings=[[1, 0]])
    found = answer(request, fakes.services, reader=reader)
    assert isinstance(found, QueryAnswer)
    assert found.ids == [[]]
    assert verify_snapshot(fakes.services, None, full=True).problems == []


@pytest.mark.parametrize("together", [True, False], ids=["together", "apart"])
def test_the_first_records_of_an_empty_collection_take_its_settings(
    fakes: Fakes, tmp_path: Path, *, together: bool
) -> None:
    deltas = [stating(metadata=ABOUT, **INDEX), a_delta({"a": [1, 0, 0]}), a_delta({"b": [1, 0]}, at=NOW + 1)]
    published = compact(fakes, *deltas) if together else [compact(fakes, delta) for delta in deltas][-1]

    configuration, metadata, records = pulled(fakes, tmp_path)
    assert {name: configuration["hnsw"][name] for name in INDEX} == INDEX
    assert (metadata, records, described(fakes).dimension) == (ABOUT, 1, 3)
    assert "2 dimensions" in reasons(fakes, published)[0]


def test_a_delta_whose_statement_alone_contradicts_an_empty_collection_does_not_stay_pending(fakes: Fakes) -> None:
    compact(fakes, stating(space="cosine"))

    assert "distance l2" in reasons(fakes, compact(fakes, a_delta({"a": [1]}, header={"space": "l2"})))[0]


def test_a_cosine_vector_without_a_length_in_a_new_collection_does_not_stay_pending(fakes: Fakes) -> None:
    published = compact(fakes, a_delta({"a": [3e38, 3e38]}, header={"space": "cosine"}))

    assert published.deltas_quarantined == 1


def test_the_index_is_built_and_rebuilt_with_the_stated_neighbours(fakes: Fakes, tmp_path: Path) -> None:
    compact(fakes, stating({str(row): [row, 1] for row in range(60)}, max_neighbors=32))
    compact(fakes, stating({str(row): [row, 2] for row in range(60)}, second=1))

    into = tmp_path / "pull"
    pull_snapshot(fakes.services, None, into)
    (header,) = (into / "docs").glob("*/header.bin")
    # hnswlib stores maxM_ after the version, six sizes, the greatest level and the entry point.
    assert int.from_bytes(header.read_bytes()[60:68], "little") == 32
