"""A collection in ChromaDB's form: its UUID, its model, and the settings that a call states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID, uuid5

from chromadb.api.types import Schema
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT
from chromadb.types import Collection as CollectionModel

from chromadb_compaction.client.chroma_api.chroma_errors import InvalidArgumentError
from chromadb_compaction.configuration import DEFAULT_INDEX, KeptSettings
from chromadb_compaction.pending.reader import CollectionDescription

_NAMESPACE: Final = UUID("6e1f3cf4-3a0e-5d5b-9a57-6d0b6b7b5c1e")
_FIXED: Final = {"resize_factor": 1.2, "sync_threshold": 1000}
"""Settings of ChromaDB's own process, which a bucket does not keep. These are its defaults."""

_LEGACY: Final = {
    "hnsw:space": "space",
    "hnsw:construction_ef": "ef_construction",
    "hnsw:M": "max_neighbors",
    "hnsw:search_ef": "ef_search",
    "hnsw:num_threads": "num_threads",
    "hnsw:batch_size": "batch_size",
    "hnsw:sync_threshold": "sync_threshold",
    "hnsw:resize_factor": "resize_factor",
}
"""The metadata that set the index before collections had a configuration."""


def collection_id(bucket: str, name: str, dropped_before: str | None) -> UUID:
    """Return the UUID of a collection. It is another one after the collection was dropped and made again."""
    return uuid5(_NAMESPACE, "\n".join((bucket, name, dropped_before or "")))


def database_id(bucket: str) -> UUID:
    """Return the UUID of the one database."""
    return uuid5(_NAMESPACE, bucket)


def model_of(name: str, description: CollectionDescription, identity: UUID) -> CollectionModel:
    """Return ChromaDB's model of a collection."""
    configuration = _configuration_json(description)
    return CollectionModel(
        id=identity,
        name=name,
        configuration_json=configuration,
        serialized_schema=_schema(configuration),
        metadata=dict(description.settings.metadata_value) or None,
        dimension=description.dimension,
        tenant=DEFAULT_TENANT,
        database=DEFAULT_DATABASE,
    )


def _configuration_json(description: CollectionDescription) -> dict[str, Any]:
    settings = description.settings
    index = settings.configuration(description.space).hnsw or DEFAULT_INDEX
    return {
        "hnsw": {**index.model_dump(exclude_none=True), **_FIXED},
        "spann": None,
        "embedding_function": _function(settings),
    }


def _function(settings: KeptSettings) -> dict[str, Any] | None:
    """Return the embedding function as ChromaDB stores it. By its name alone ChromaDB could not build it: None."""
    if settings.function is None or settings.function.config is None:
        return None
    return settings.function.model_dump()


def _schema(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return ChromaDB's default schema with this configuration."""
    schema: dict[str, Any] = Schema().serialize_to_json()
    index = dict(configuration["hnsw"])
    space = index.pop("space")
    for column in (schema["defaults"], schema["keys"]["#embedding"]):
        config = column["float_list"]["vector_index"]["config"]
        config.pop("spann", None)
        config.update(space=space, hnsw=index)
        if configuration["embedding_function"] is not None:
            config["embedding_function"] = configuration["embedding_function"]
        else:
            config.pop("embedding_function", None)
    return schema


def stated_on_create(
    configuration: Mapping[str, Any] | None, metadata: Mapping[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the configuration and the metadata that a new collection states, in the form of a delta's header.

    `configuration` is in ChromaDB's JSON. As in ChromaDB, metadata such as `hnsw:space` sets the index if it does not,
    and of a SPANN configuration only the distance is used.
    """
    if metadata is not None and not metadata:
        raise InvalidArgumentError("Validation error: metadata: Metadata cannot be empty")
    given, stated = dict(metadata or {}), dict(configuration or {})
    index = dict(stated.get("hnsw") or {})
    spann = stated.pop("spann", None)
    if index and spann:
        raise InvalidArgumentError("hnsw and spann cannot both be provided")
    if spann and "space" in spann:
        index = {"space": spann["space"]}
    if not index:
        index = {_LEGACY[key]: value for key, value in given.items() if key in _LEGACY}
        unknown = [key for key in given if key.startswith("hnsw:") and key not in _LEGACY]
        if unknown:
            raise InvalidArgumentError(f"Failed to parse hnsw parameters from segment metadata: {unknown[0]}")
    return {**stated, "hnsw": {key: value for key, value in index.items() if value is not None}}, given


def stated_on_modify(configuration: Mapping[str, Any], known: CollectionDescription) -> dict[str, Any]:
    """Return the configuration that `modify` states, in the form of a delta's header.

    `configuration` is in ChromaDB's JSON. Raises InvalidArgumentError if it changes what is fixed.
    """
    if configuration.get("spann"):
        raise InvalidArgumentError("Trying to update SPANN config but schema has HNSW")
    index, current = dict(configuration.get("hnsw") or {}), _configuration_json(known)
    fixed = [key for key in ("space", "ef_construction", "max_neighbors") if key in index]
    for key in fixed:
        if index.pop(key) != current["hnsw"][key]:
            raise InvalidArgumentError(f"{key} is fixed when a collection is made: it is {current['hnsw'][key]}")
    function = configuration.get("embedding_function")
    if function is not None and function != current["embedding_function"]:
        raise InvalidArgumentError("the embedding function is fixed when a collection is made")
    return {"hnsw": index}
