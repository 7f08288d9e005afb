"""The embedding function of a writer: how deltas state it, and the embeddings of documents that have none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from chromadb_compaction.chroma.embedding import embed
from chromadb_compaction.errors import InvalidRequestError

Embed = Callable[[list[str]], Any]
"""Returns one embedding for each text. An EmbeddingFunction of ChromaDB is one."""


def with_function(configuration: Mapping[str, Any] | None, function: str | Embed | None) -> Mapping[str, Any] | None:
    """Return the configuration with a function that is an object, in ChromaDB's own JSON.

    A function that has no name, which ChromaDB calls legacy, is not stated. Raises InvalidRequestError if the
    configuration states a function of its own.
    """
    if function is None or isinstance(function, str):
        return configuration
    if configuration and configuration.get("embedding_function") is not None:
        raise InvalidRequestError(
            "the configuration states an embedding function too", next_step="give it there or as embedding_function"
        )
    stated = _stated(function)
    return configuration if stated is None else {**(configuration or {}), "embedding_function": stated}


def embedder_of(configuration: Mapping[str, Any] | None, function: str | Embed | None) -> Embed | None:
    """Return the function that embeds documents. None if none is named."""
    if function is not None and not isinstance(function, str):
        return function
    stated = (configuration or {}).get("embedding_function") or {}
    name, config = function or stated.get("name"), stated.get("config")
    if name is None:
        return None
    # The program itself names the function and its parameters.
    return lambda texts: embed(texts, name, config, trusted=True)


def embedded(documents: Sequence[str | None] | None, embedder: Embed | None) -> Any:  # noqa: ANN401 - as upsert takes them
    """Return the embeddings of the documents. Raises InvalidRequestError if one is missing, or the function is."""
    if embedder is None:
        raise InvalidRequestError(
            "there are no embeddings, and the writer has no embedding function",
            next_step="give embeddings, or make the writer with embedding_function=",
        )
    texts = [text for text in documents or () if text is not None]
    if documents is None or len(texts) < len(documents):
        missing = 0 if documents is None else list(documents).index(None)
        raise InvalidRequestError(f"record {missing} (the first is 0) has neither an embedding nor a document")
    return embedder(texts) if texts else np.empty((0, 0), dtype=np.float32)


def _stated(function: Any) -> dict[str, Any] | None:  # noqa: ANN401 - ChromaDB is not imported here
    """Return what ChromaDB stores of the function. None for a legacy one."""
    if function.is_legacy() if hasattr(function, "is_legacy") else not hasattr(function, "get_config"):
        return None
    return {"type": "known", "name": function.name(), "config": function.get_config()}
