"""The embedding of a question on this machine, for a collection whose function the query function cannot run."""

from __future__ import annotations

from typing import Any

from chromadb_compaction.chroma.embedding import embed
from chromadb_compaction.configuration import FunctionConfiguration
from chromadb_compaction.errors import CompactionError, EmbeddingFunctionError
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer

OTHERWISE = (
    "install its package here; or name another function: --embedding-function NAME; or embed the text yourself:"
    " --embedding-file FILE"
)


def embed_with(name: str, text: str, collection: str, services: Services) -> list[float]:
    """Return the embedding by the function that the operator named.

    If the collection has that function, its parameters are used, whatever they are: the operator has named it.
    """
    stored = _stored_function(collection, services)
    config = stored.config if stored and stored.name == name else None
    return _numbers(embed([text], name, config, questions=True, trusted=True))


def embed_instead(text: str, collection: str, services: Services, cause: EmbeddingFunctionError) -> list[float]:
    """Return the embedding by the collection's function, which the query function cannot run because of `cause`.

    The rules for its parameters are those of the query function. Raises EmbeddingFunctionError if this machine cannot
    run it either.
    """
    stored = _stored_function(collection, services)
    if stored is None or stored.name is None:
        raise cause
    try:
        return _numbers(embed([text], stored.name, stored.config, questions=True))
    except CompactionError as error:
        message = f"the query function cannot embed the text ({cause.message}), nor can this machine: {error.message}"
        raise EmbeddingFunctionError(message, next_step=OTHERWISE) from error


def _stored_function(collection: str, services: Services) -> FunctionConfiguration | None:
    current = read_pointer(services)
    if current is None:
        return None
    published = read_manifest(services, current.pointer).collections.get(collection)
    return published.settings_with_function.function if published else None


def _numbers(vectors: Any) -> list[float]:  # noqa: ANN401 - an array of one row
    return [float(each) for each in vectors[0]]
