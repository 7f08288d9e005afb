"""Embedding functions by name."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from chromadb.utils import embedding_functions

from chromadb_compaction.chroma.embedding import embed
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


def test_a_function_is_loaded_with_its_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scaled:
        def __init__(self, scale: int = 1) -> None:
            self.scale = scale

        @staticmethod
        def build_from_config(config: dict[str, int]) -> Scaled:
            return Scaled(config["scale"])

        def __call__(self, texts: list[str]) -> list[list[int]]:
            return [[self.scale, len(text)] for text in texts]

    monkeypatch.setitem(embedding_functions.known_embedding_functions, "scaled", Scaled)

    assert embed(["text"], "scaled", {"scale": 5}).tolist() == [[5, 4]]
    assert embed(["text"], "scaled").tolist() == [[1, 4]]
