"""Embedding functions by name: wordllama's, which needs no network, and those that ChromaDB knows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np

from chromadb_compaction.deltas.records import Vector
from chromadb_compaction.errors import ConfigurationError, InvalidRequestError

WORDLLAMA = "wordllama"

_Embedder = Callable[[list[str]], Vector]


def embed(texts: Sequence[str], function: str) -> Vector:
    """Return one float32 vector a text, as the rows of a matrix; wordllama's have 256 dimensions and length 1.

    Raises InvalidRequestError for an unknown function, and ConfigurationError for one that cannot be made here:
    its package, its model or its API key is missing. Loading is paid once per process.
    """
    if not texts:
        return np.empty((0, 0), dtype=np.float32)
    return _load(function)(list(texts))


@lru_cache(maxsize=4)
def _load(function: str) -> _Embedder:
    return _load_wordllama() if function == WORDLLAMA else _load_from_chromadb(function)


def _load_wordllama() -> _Embedder:
    try:
        with _logging_left_alone():
            import wordllama
    except ImportError as error:
        raise ConfigurationError("the embedding function 'wordllama' needs its package: install wordllama") from error
    # The package ships its model, but looks for it in a cache directory of the same layout.
    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)

    def embedder(texts: list[str]) -> Vector:
        return normalised(model.embed(texts))

    return embedder


@contextmanager
def _logging_left_alone() -> Iterator[None]:
    """Undo what a package does to the root logger: wordllama has it print every INFO line of any other."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def normalised(vectors: Vector) -> Vector:
    """Return the rows scaled to length 1. A row of zeros, such as an empty text gives, stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths == 0, 1, lengths), dtype=np.float32)


def _load_from_chromadb(function: str) -> _Embedder:
    from chromadb.utils.embedding_functions import known_embedding_functions

    if function not in known_embedding_functions:
        known = ", ".join(sorted({WORDLLAMA, *known_embedding_functions}))
        raise InvalidRequestError(f"the embedding function {function!r} is unknown; known are {known}")
    with _made_here(function):
        made = known_embedding_functions[function]()

    def embedder(texts: list[str]) -> Vector:
        # The default function looks for its package only now.
        with _made_here(function):
            return np.asarray(made(texts), dtype=np.float32)

    return embedder


@contextmanager
def _made_here(function: str) -> Iterator[None]:
    try:
        yield
    except (ImportError, TypeError, ValueError) as error:
        raise ConfigurationError(f"the embedding function {function!r} cannot be made here: {error}") from error
