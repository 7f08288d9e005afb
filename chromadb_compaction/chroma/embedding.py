"""Embedding functions by name: wordllama, which needs no network, and those of ChromaDB."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import JsonValue

from chromadb_compaction.configuration import is_of_machine
from chromadb_compaction.deltas.records import Vector, shown
from chromadb_compaction.errors import EmbeddingFunctionError, InvalidRequestError

WORDLLAMA = "wordllama"

_MODELS = ("model", "model_name")
_NUMBERS = ("dimension", "dimensions", "late_chunking", "normalize_embeddings", "normalized", "truncate", "truncation")
_WORDS = ("embedding_type", "encoding_format", "input_type", "task", "task_type")
_OWNERS = ("hkunlp", "sentence-transformers", "shibing624")
"""The owners of the models that ChromaDB's own functions load by default."""
_WORD = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
_MODEL_NAME = re.compile(r"([A-Za-z0-9][\w.-]{0,99}/)?[A-Za-z0-9][\w.-]{0,99}(:\d{1,9})?", re.ASCII)
"""A name, after the name of its owner if it has one, and with a version if it has one: no path, and no URL."""

_Embedder = Callable[[list[str]], Vector]


class _Embedders(NamedTuple):
    """The two ways of one function: some embed a question otherwise than a document."""

    documents: _Embedder
    questions: _Embedder


def embed(
    texts: Sequence[str],
    function: str,
    config: Mapping[str, JsonValue] | None = None,
    *,
    questions: bool = False,
    trusted: bool = False,
) -> Vector:
    """Return a matrix with one float32 row per text. Wordllama's rows have 256 dimensions and length 1.

    `config` has the function's parameters, as ChromaDB stores them. None: its defaults. It comes from a delta, which
    must not choose a server, a secret or a file here: see `checked_parameters`. `trusted` accepts all parameters, for
    a person who has named the function. `questions` says that the texts are questions, not documents.

    A function is loaded once per process. Raises InvalidRequestError if it is unknown, or if a parameter is not
    accepted, and EmbeddingFunctionError if its package, its model or its API key is missing.
    """
    if not texts:
        return np.empty((0, 0), dtype=np.float32)
    embedders = _load(function, json.dumps(config or {}, sort_keys=True), trusted)
    return (embedders.questions if questions else embedders.documents)(list(texts))


@lru_cache(maxsize=4)
def _load(function: str, config: str, trusted: bool) -> _Embedders:  # noqa: FBT001 - the cache takes it by position
    stored = json.loads(config)
    if function != WORDLLAMA:
        return _load_from_chromadb(function, stored, trusted=trusted)
    for name, value in stored.items():  # it takes no parameters, and would embed otherwise than they say
        raise _refused(function, name, value)
    return _load_wordllama()


def checked_parameters(
    function: str, stored: Mapping[str, JsonValue], *, defaults: Mapping[str, object]
) -> dict[str, Any]:
    """Return the parameters with which the function may be built here, without facts of another machine.

    `defaults` are the function's own values, which stand for those that are left out: for the name of the environment
    variable with the API key, too. A parameter that is null or empty, or that has its default, is always accepted. Of
    the others only a few are: the name of a model, and numbers and words that change the embedding alone. So no URL
    receives the operator's API key or texts, and no file or program is loaded. A model that is loaded into this process
    needs an owner of _OWNERS, or none.

    Raises InvalidRequestError that names the parameter.
    """
    is_service = "api_key_env_var" in defaults or function == "amazon_bedrock"
    chosen = {name: value for name, value in stored.items() if not is_of_machine(name)}
    for name, value in chosen.items():
        own = name in defaults and value == defaults[name]
        known = is_service or name not in _MODELS or _is_known_model(value)
        if not (own or value in (None, {}, [], "") or (known and _is_harmless(name, value))):
            raise _refused(function, name, value)
    return chosen


def _refused(function: str, name: str, value: JsonValue) -> InvalidRequestError:
    return InvalidRequestError(
        f"the embedding function {function!r} of the collection has the parameter {name} = {shown(json.dumps(value))},"
        " which is not accepted here",
        next_step="embed the text yourself, with that function, and ask with query_embeddings; the command"
        f" `query` does both with --embedding-function {function}",
    )


def _is_harmless(name: str, value: JsonValue) -> bool:
    """Return whether a parameter with this value changes the embedding alone."""
    if name == "query_config":
        return isinstance(value, dict) and all(_is_harmless(key, held) for key, held in value.items())
    if name in _MODELS:
        return isinstance(value, str) and _MODEL_NAME.fullmatch(value) is not None
    if isinstance(value, bool | int):
        return name in _NUMBERS
    return name in _WORDS and isinstance(value, str) and _WORD.fullmatch(value) is not None


def _is_known_model(value: JsonValue) -> bool:
    owner, slash, _ = str(value).partition("/")
    return not slash or owner in _OWNERS


def _load_wordllama() -> _Embedders:
    try:
        with _root_logger_restored():
            import wordllama
    except ImportError as error:
        raise EmbeddingFunctionError(
            "the package of the embedding function 'wordllama' is missing", next_step="pip install wordllama"
        ) from error
    # The package ships its model, but looks for it in a cache directory of the same layout.
    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)

    def embedder(texts: list[str]) -> Vector:
        return normalised(model.embed(texts))

    return _Embedders(embedder, embedder)


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


def _load_from_chromadb(function: str, config: dict[str, JsonValue], *, trusted: bool) -> _Embedders:
    with _load_errors_translated(function):
        from chromadb.utils.embedding_functions import known_embedding_functions

    if function not in known_embedding_functions:
        names = ", ".join(sorted({WORDLLAMA, *known_embedding_functions}))
        raise InvalidRequestError(
            f"the embedding function {function!r} is unknown", next_step=f"choose one of these: {names}"
        )
    known = known_embedding_functions[function]
    defaults = {each.name: each.default for each in signature(known).parameters.values() if each.default != each.empty}
    of_function = {name: value for name, value in config.items() if not is_of_machine(name)}
    chosen = of_function if trusted else checked_parameters(function, config, defaults=defaults)
    with _load_errors_translated(function):
        made = known.build_from_config({**defaults, **chosen}) if chosen else known()

    def translated(call: Callable[[list[str]], Any]) -> _Embedder:
        def embedder(texts: list[str]) -> Vector:
            # The default function imports its package only when it is called.
            with _load_errors_translated(function):
                return np.asarray(call(texts), dtype=np.float32)

        return embedder

    return _Embedders(translated(made), translated(made.embed_query))


@contextmanager
def _load_errors_translated(function: str) -> Iterator[None]:
    try:
        yield
    except (AssertionError, ImportError, LookupError, OSError, TypeError, ValueError) as error:
        # An OSError: the model is downloaded into the home directory, which a function cannot write.
        raise EmbeddingFunctionError(f"the embedding function {function!r} cannot be loaded: {error}") from error
