"""The settings and metadata of a ChromaDB collection as its deltas state them, from where each release keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from pydantic import ValidationError

from chromadb_compaction.chroma.client import Collection
from chromadb_compaction.configuration import DEFAULT_INDEX, Space
from chromadb_compaction.deltas.header import StatedCollection
from chromadb_compaction.errors import InvalidRequestError

_OLD_NAMES: Final = {
    "ef_construction": "hnsw:construction_ef",
    "max_neighbors": "hnsw:M",
    "ef_search": "hnsw:search_ef",
}
"""The names that they have in the metadata of ChromaDB before 1.0."""
_OLD_PREFIX: Final = "hnsw:"


def configured_space(collection: Collection, segment: Mapping[str, Any]) -> Space | None:
    """Return the distance of a collection as it is configured. That of an old collection may be wrong."""
    configured = _setting(collection, segment, "space", "hnsw:space")
    return next((space for space in get_args(Space) if space == configured), None)


def _setting(collection: Collection, segment: Mapping[str, Any], name: str, old_name: str) -> Any:  # noqa: ANN401 - JSON
    # Not `configuration`: it constructs the embedding function, which may need a package or an API key.
    configuration: Any = collection.configuration_json
    index = {**(configuration.get("spann") or {}), **(configuration.get("hnsw") or {})}
    return {**(collection.metadata or {}), **segment}.get(old_name, index.get(name))


def stated_collection(collection: Collection, name: str, segment: Mapping[str, Any]) -> StatedCollection:
    """Return the configuration and metadata of a collection, without its distance and without ChromaDB's defaults.

    `name` is for people, and `segment` the metadata of its index. Raises InvalidRequestError if a delta cannot keep
    something of it.
    """
    settings = {key: _setting(collection, segment, key, old_name) for key, old_name in _OLD_NAMES.items()}
    function: Any = (collection.configuration_json or {}).get("embedding_function") or {}
    metadata = collection.metadata or {}
    try:
        return StatedCollection.model_validate(
            {
                "configuration": {
                    "hnsw": {key: each for key, each in settings.items() if each != getattr(DEFAULT_INDEX, key)},
                    "embedding_function": function if function.get("name") else None,
                },
                "metadata": {key: each for key, each in metadata.items() if not key.startswith(_OLD_PREFIX)} or None,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidRequestError(
            f"{name} has something that deltas cannot keep: {field}: {first['msg']}",
            next_step="put other collections with -c NAME, and its records from a file if it can do without",
        ) from error
