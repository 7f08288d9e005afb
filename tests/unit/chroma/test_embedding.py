"""Embedding functions by name."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from chromadb.utils import embedding_functions
from hypothesis import given, settings
from hypothesis import strategies as st

from chromadb_compaction.chroma.embedding import checked_parameters, embed
from chromadb_compaction.errors import ConfigurationError, InvalidRequestError


def test_wordllama_embeds_offline_into_256_dimensions_of_length_one() -> None:
    vectors = embed(["run a shell command", "parse a date"], "wordllama")

    assert vectors.shape == (2, 256)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)


LOG_AFTER_EMBEDDING = """
import logging
from chromadb_compaction.chroma.embedding import embed
embed(["a text"], "wordllama")
logging.getLogger("another package").info("an unwanted line")
"""


def test_embedding_does_not_turn_on_the_log_lines_of_other_packages() -> None:
    """Use a new process, because wordllama configures logging once, when it is imported."""
    ended = subprocess.run([sys.executable, "-c", LOG_AFTER_EMBEDDING], capture_output=True, text=True, check=True)

    assert "an unwanted line" not in ended.stderr


def test_texts_of_similar_meaning_are_near_each_other() -> None:
    shell, command, date = embed(["run a shell command", "start a program", "the day of the week"], "wordllama")

    assert shell @ command > shell @ date


def test_an_empty_text_embeds_to_zeros_not_to_nan() -> None:
    assert not embed([""], "wordllama").any()


def test_an_empty_list_of_texts_gives_no_vectors() -> None:
    assert len(embed([], "wordllama")) == 0


def test_the_error_about_an_unknown_function_names_the_known_ones() -> None:
    with pytest.raises(InvalidRequestError, match=r"'nope' is unknown; choose one of these: .*openai.*wordllama"):
        embed(["x"], "nope")


def test_a_package_that_is_imported_only_at_the_first_call_is_reported_as_missing_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(ConfigurationError, match=r"'default' cannot be loaded: .*onnxruntime"):
        embed(["x"], "default")


def test_a_missing_package_or_api_key_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMA_OPENAI_API_KEY", raising=False)

    with pytest.raises(ConfigurationError, match="'openai' cannot be loaded: "):
        embed(["x"], "openai")


class Service:
    """An embedding function with an API key, which records how it is built."""

    def __init__(self, dimensions: int = 1, api_base: str | None = None, api_key_env_var: str = "OWN_KEY") -> None:
        self.built = dimensions, api_base, api_key_env_var

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> Service:
        return Service(config["dimensions"], config["api_base"], config["api_key_env_var"])

    def __call__(self, texts: list[str]) -> list[list[int]]:
        assert self.built[1:] == (None, "OWN_KEY")
        return [[self.built[0], len(text)] for text in texts]

    def embed_query(self, texts: list[str]) -> list[list[int]]:
        return [[-1, len(text)] for text in texts]


@pytest.fixture
def _service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(embedding_functions.known_embedding_functions, "service", Service)


@pytest.mark.usefixtures("_service")
def test_a_function_is_loaded_with_its_parameters() -> None:
    assert embed(["text"], "service", {"dimensions": 5, "api_base": None}).tolist() == [[5, 4]]
    assert embed(["text"], "service").tolist() == [[1, 4]]


@pytest.mark.usefixtures("_service")
def test_a_question_is_embedded_as_the_function_embeds_questions() -> None:
    assert embed(["what?"], "service", questions=True).tolist() == [[-1, 5]]


@pytest.mark.usefixtures("_service")
def test_a_stored_name_of_an_environment_variable_is_not_used() -> None:
    assert embed(["text"], "service", {"dimensions": 3, "api_key_env_var": "AWS_SECRET_ACCESS_KEY"}).tolist() == [
        [3, 4]
    ]


@pytest.mark.usefixtures("_service")
def test_a_stored_url_is_an_error_that_names_the_parameter_and_the_remedy() -> None:
    with pytest.raises(InvalidRequestError, match=r"'service' .* parameter api_base = .*evil.*query_embeddings"):
        embed(["text"], "service", {"api_base": "https://evil.example"})


def defaults_of(function: str) -> dict[str, Any]:
    own = inspect.signature(embedding_functions.known_embedding_functions[function]).parameters.values()
    return {each.name: each.default for each in own if each.default is not each.empty}


OPENAI = {
    "api_key_env_var": "OPENAI_API_KEY",
    "model_name": "text-embedding-3-small",
    "organization_id": None,
    "api_base": None,
    "api_type": None,
    "api_version": None,
    "deployment_id": None,
    "default_headers": None,
    "dimensions": 256,
}


@pytest.mark.parametrize(
    ("function", "stored"),
    [
        ("openai", OPENAI),
        ("sentence_transformer", {"model_name": "all-MiniLM-L6-v2", "device": "cuda:0", "kwargs": {}}),
        ("sentence_transformer", {"model_name": "sentence-transformers/all-mpnet-base-v2"}),
        ("huggingface", {"model_name": "BAAI/bge-small-en-v1.5", "api_key_env_var": "HF"}),
        ("jina", {"model_name": "jina-embeddings-v3", "task": "retrieval.passage", "query_config": {"task": "x"}}),
        ("amazon_bedrock", {"model_name": "cohere.embed-v4:0", "session_args": {}, "kwargs": {}}),
        ("google_gemini", {"model_name": "models/text-embedding-004", "dimension": 768, "vertexai": None}),
        ("ollama", {"url": "http://localhost:11434", "model_name": "chroma/all-minilm-l6-v2-f32", "timeout": 60}),
        ("onnx_mini_lm_l6_v2", {"preferred_providers": ["CUDAExecutionProvider"]}),
        ("open_clip", {"model_name": "ViT-B-32", "checkpoint": "laion2b_s34b_b79k", "device": "cuda"}),
    ],
)
def test_the_usual_parameters_of_a_function_are_accepted(function: str, stored: dict[str, Any]) -> None:
    expected = {name: value for name, value in stored.items() if name not in MACHINE}

    assert checked_parameters(function, stored, defaults=defaults_of(function)) == expected


@pytest.mark.parametrize(
    ("function", "stored", "name"),
    [
        ("openai", {**OPENAI, "api_base": "https://evil.example"}, "api_base"),
        ("openai", {**OPENAI, "organization_id": "org-1"}, "organization_id"),
        ("openai", {**OPENAI, "default_headers": {"a": "b"}}, "default_headers"),
        ("openai", {**OPENAI, "model_name": "https://evil.example/model"}, "model_name"),
        ("sentence_transformer", {"model_name": "evil/model"}, "model_name"),
        ("sentence_transformer", {"model_name": "/tmp/model"}, "model_name"),
        ("sentence_transformer", {"model_name": "../model"}, "model_name"),
        ("sentence_transformer", {"model_name": "sentence-transformers/../model"}, "model_name"),
        ("sentence_transformer", {"kwargs": {"trust_remote_code": True}}, "kwargs"),
        ("open_clip", {"model_name": "hf-hub:evil/model"}, "model_name"),
        ("open_clip", {"model_name": "local-dir:model"}, "model_name"),
        ("open_clip", {"checkpoint": "model.pt"}, "checkpoint"),
        ("amazon_bedrock", {"session_args": {"profile_name": "admin"}}, "session_args"),
        ("huggingface_server", {"url": "https://evil.example"}, "url"),
        ("google_vertex", {"region": "evil.example/x#"}, "region"),
        ("cloudflare_workers_ai", {"account_id": "x"}, "account_id"),
        ("jina", {"query_config": {"url": "x"}}, "query_config"),
        ("jina", {"query_config": {"task": "http://x"}}, "query_config"),
    ],
)
def test_a_parameter_that_reaches_out_is_an_error_that_names_it(
    function: str, stored: dict[str, Any], name: str
) -> None:
    with pytest.raises(InvalidRequestError, match=rf"parameter {name} = .*query_embeddings"):
        checked_parameters(function, stored, defaults=defaults_of(function))


def test_wordllama_takes_no_parameters() -> None:
    with pytest.raises(InvalidRequestError, match="parameter dimension = "):
        embed(["x"], "wordllama", {"dimension": 64})


NAMES = sorted({name for each in embedding_functions.known_embedding_functions for name in defaults_of(each)})
MACHINE = {"api_key_env_var", "device", "preferred_providers"}
texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["https://evil.example", "//x", "/etc", "../x", "a/b/c", "evil/model", "plain-name", "AWS_SECRET"]),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), texts),
    lambda held: st.one_of(st.lists(held, max_size=2), st.dictionaries(texts, held, max_size=2)),
    max_leaves=4,
)
names = st.one_of(
    st.sampled_from(
        [*NAMES, "url", "model", "query_config", "task", "kwargs", "session_args", "cache_dir", "language"]
    ),
    st.text(max_size=8),
)


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from strings(item)


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(embedding_functions.known_embedding_functions)), st.dictionaries(names, values, max_size=3)
)
def test_no_accepted_parameter_holds_a_place_or_a_secret(function: str, stored: dict[str, Any]) -> None:
    defaults = defaults_of(function)
    try:
        accepted = checked_parameters(function, stored, defaults=defaults)
    except InvalidRequestError:
        return

    assert not accepted.keys() & MACHINE
    changed = {name: value for name, value in accepted.items() if value and value != defaults.get(name)}
    for name, value in changed.items():
        assert re.search("url|base|endpoint|host|env|path|dir|kwargs|header|organi|key|account|args", name) is None
        assert all(re.search(r"^[/.]|//|\.\./|\s|\\|[?#@%]", text) is None for text in strings(value))
