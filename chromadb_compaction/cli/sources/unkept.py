"""Parts of a ChromaDB collection that deltas do not carry. They are named before anything is written, never dropped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from chromadb_compaction.chroma.client import Collection
from chromadb_compaction.errors import InvalidRequestError

_DEFAULTS: Final = {"ef_construction": 100, "max_neighbors": 16, "ef_search": 100}
_OLD_NAMES: Final = {
    "hnsw:construction_ef": "ef_construction",
    "hnsw:M": "max_neighbors",
    "hnsw:search_ef": "ef_search",
}
"""The names that they have in the metadata of ChromaDB before 1.0."""
_SECRET: Final = re.compile(r"(?i)(key|token|secret|password)(?!.*env)")


def check_all_is_kept(collection: Collection, name: str, segment: Mapping[str, Any]) -> None:
    """Raise InvalidRequestError if a delta cannot carry something of the collection.

    `name` is for people, and `segment` the metadata of its index.
    """
    configuration: Any = collection.configuration_json
    unkept = [
        *_index_settings(configuration.get("hnsw") or {}, {**(collection.metadata or {}), **segment}),
        *_metadata(collection.metadata or {}),
        *_function_settings(configuration.get("embedding_function") or {}),
    ]
    if unkept:
        raise InvalidRequestError(
            f"{name} has {', '.join(unkept)}, which deltas cannot keep",
            next_step="put other collections with -c NAME, and its records from a file if it can do without",
        )


def _index_settings(index: Mapping[str, Any], metadata: Mapping[str, Any]) -> Iterator[str]:
    old = {name: metadata[key] for key, name in _OLD_NAMES.items() if key in metadata}
    for name, default in _DEFAULTS.items():
        value = old.get(name, index.get(name, default))
        if value != default:
            yield f"the index setting {name}={value}"


def _metadata(metadata: Mapping[str, Any]) -> Iterator[str]:
    own = [key for key in metadata if not key.startswith("hnsw:")]
    if own:
        yield f"collection metadata ({', '.join(sorted(own))})"


def _function_settings(function: Mapping[str, Any]) -> Iterator[str]:
    settings = function.get("config") or {}
    if settings:
        shown = {key: "..." if _SECRET.search(key) else value for key, value in settings.items()}
        yield f"settings of its embedding function {function.get('name')} ({json.dumps(shown, default=str)[:300]})"
