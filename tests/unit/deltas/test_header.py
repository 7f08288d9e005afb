"""The header of a delta: format 2 states the collection's configuration and metadata."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chromadb_compaction.configuration import LONGEST_SETTINGS
from chromadb_compaction.deltas.header import DeltaHeader, parse_header
from chromadb_compaction.errors import CorruptDeltaError

OPENAI = {"type": "known", "name": "openai", "config": {"api_key_env_var": "KEY", "model_name": "small", "n": None}}
CHROMADBS_OWN = {
    "hnsw": {
        "space": "cosine",
        "ef_construction": 300,
        "ef_search": 250,
        "max_neighbors": 48,
        "num_threads": 4,
        "batch_size": 100,
        "sync_threshold": 1000,
        "resize_factor": 1.2,
    },
    "spann": None,
    "embedding_function": OPENAI,
}


def header(**fields: Any) -> DeltaHeader:
    return parse_header(json.dumps({"format": 2, **fields}).encode())


def reason(**fields: Any) -> str:
    with pytest.raises(CorruptDeltaError) as caught:
        header(**fields)
    return str(caught.value)


def configured(**configuration: Any) -> dict[str, Any]:
    return {"collection": {"configuration": configuration}}


def test_chromadbs_own_configuration_is_read_whole() -> None:
    found = header(collection={"configuration": CHROMADBS_OWN, "metadata": {"owner": "a", "year": 2024}})

    assert found.collection is not None
    assert found.collection.model_dump()["configuration"] == CHROMADBS_OWN
    assert found.collection.metadata == {"owner": "a", "year": 2024}
    assert found.stated_space == "cosine"
    assert found.stated_function is not None
    assert found.stated_function.config == OPENAI["config"]


def test_a_header_of_format_1_states_space_and_function_by_name() -> None:
    found = header(format=1, space="ip", embedding_function="wordllama")

    assert found.stated_space == "ip"
    assert found.stated_function is not None
    assert (found.stated_function.name, found.stated_function.config) == ("wordllama", None)


@pytest.mark.parametrize("function", [None, {"type": "legacy"}, {"type": "unknown"}], ids=["none", "legacy", "unknown"])
def test_a_function_without_a_name_states_none(function: object) -> None:
    assert header(**configured(embedding_function=function)).stated_function is None


def test_metadata_keys_that_hold_none_are_dropped() -> None:
    found = header(collection={"metadata": {"a": 1, "b": None}})

    assert found.collection is not None
    assert found.collection.metadata == {"a": 1}


@pytest.mark.parametrize(
    "metadata",
    [{"a": [1, 2]}, {"a": {"b": 1}}, {"": 1}, {"a": 2**63}, {"chroma:x": 1}, {"a": float("nan")}, ["a"]],
    ids=["list", "object", "empty-key", "huge", "reserved", "nan", "no-object"],
)
def test_metadata_that_chromadb_cannot_store_is_an_error(metadata: object) -> None:
    assert "collection.metadata" in reason(collection={"metadata": metadata})


@pytest.mark.parametrize(
    "key", ["api_key", "API_KEY", "openai_api_key", "token", "client_secret", "password", "aws_access_key", "secret_x"]
)
def test_the_key_of_a_secret_is_an_error_at_any_depth(key: str) -> None:
    stated = configured(embedding_function={"name": "f", "config": {"session": [{key: "hidden-value"}]}})

    assert key in reason(**stated)
    assert "hidden-value" not in reason(**stated)


@pytest.mark.parametrize(
    "config", [{"api_key_env_var": "KEY"}, {"api_key": None}, {"max_tokens": 5}, {"tokenizer": "x"}]
)
def test_names_of_environment_variables_are_no_secrets(config: dict[str, Any]) -> None:
    assert header(**configured(embedding_function={"name": "f", "config": config})).stated_function is not None


@pytest.mark.parametrize(
    "hnsw", [{"max_neighbors": 1}, {"ef_construction": 0}, {"ef_search": 10**9}, {"space": "l1"}, {"unknown": 1}]
)
def test_index_settings_that_an_index_cannot_have_are_an_error(hnsw: dict[str, Any]) -> None:
    assert f"collection.configuration.hnsw.{next(iter(hnsw))}" in reason(**configured(hnsw=hnsw))


def test_settings_above_the_limit_are_an_error() -> None:
    assert f"more than {LONGEST_SETTINGS:,}" in reason(collection={"metadata": {"a": "x" * LONGEST_SETTINGS}})


def test_two_statements_of_one_fact_must_agree() -> None:
    assert "two distances" in reason(space="l2", **configured(hnsw={"space": "ip"}))
    assert "two embedding functions" in reason(embedding_function="other", **configured(embedding_function=OPENAI))


def test_a_collection_needs_format_2() -> None:
    assert "need format 2" in reason(format=1, collection={})
