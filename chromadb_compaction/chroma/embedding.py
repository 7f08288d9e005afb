"""Embedding functions by name: wordllama, which needs no network, and those of ChromaDB."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from chromadb_compaction.deltas.records import Vector
from chromadb_compaction.errors import ConfigurationError, InvalidRequestError

WORDLLAMA = "wordllama"

_Embedder = Callable[[list[str]], Vector]


def embed(texts: Sequence[str], function: str, config: Mapping[str, Any] | None = None) -> Vector:
    """Return a matrix with one float32 row per text. Wordllama's rows have 256 dimensions and length 1.

    `config` has the function's parameters, as ChromaDB stores them. None: its defaults.

    A function is loaded once per process. Raises InvalidRequestError if it is unknown, and ConfigurationError if its
    package, its model or its API key is missing.
    """
    if not texts:
        return np.empty((0, 0), dtype=np.float32)
    return _load(function, json.dumps(config, sort_keys=True))(list(texts))


@lru_cache(maxsize=4)
def _load(function: str, config: str) -> _Embedder:
    return _load_wordllama() if function == WORDLLAMA else _load_from_chromadb(function, json.loads(config))


def _load_wordllama() -> _Embedder:
    try:
        with _root_logger_restored():
            import wordllama
    except ImportError as error:
        raise ConfigurationError(
            "the package of the embedding function 'wordllama' is missing", next_step="pip install wordllama"
        ) from error
    # The package ships its model, but looks for it in a cache directory of the same layout.
    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)

    def embedder(texts: list[str]) -> Vector:
        return normalised(model.embed(texts))

    return embedder


@contextmanager
def _root_logger_restored() -> Iterator[None]:
    """Restore the root logger afterwards: importing wordllama makes it print every package's INFO lines."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def normalised(vectors: Vector) -> Vector:
    """Return the rows scaled to length 1. A row of zeros, the embedding of an empty text, stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths == 0, 1, lengths), dtype=np.float32)


def _load_from_chromadb(function: str, config: dict[str, Any] | None) -> _Embedder:
    from chromadb.utils.embedding_functions import known_embedding_functions

    if function not in known_embedding_functions:
        names = ", ".join(sorted({WORDLLAMA, *known_embedding_functions}))
        raise InvalidRequestError(
            f"the embedding function {function!r} is unknown", next_step=f"choose one of these: {names}"
        )
    with _load_errors_translated(function):
        known = known_embedding_functions[function]
        embed_texts = known.build_from_config(config) if config else known()

    def embedder(texts: list[str]) -> Vector:
        # The default function imports its package only when it is called.
        with _load_errors_translated(function):
            return np.asarray(embed_texts(texts), dtype=np.float32)

    return embedder


@contextmanager
def _load_errors_translated(function: str) -> Iterator[None]:
    try:
        yield
    except (ImportError, TypeError, ValueError) as error:
        raise ConfigurationError(f"the embedding function {function!r} cannot be loaded: {error}") from error
