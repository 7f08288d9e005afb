"""Embedding functions by name."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

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
logging.getLogger("anybody").info("a line that nobody asked for")
"""


def test_embedding_does_not_turn_on_everybodys_log_lines() -> None:
    """In a process of its own, since a package does so once, when it is imported."""
    ended = subprocess.run([sys.executable, "-c", LOG_AFTER_EMBEDDING], capture_output=True, text=True, check=True)

    assert "nobody asked for" not in ended.stderr


def test_texts_of_like_meaning_are_near_each_other() -> None:
    shell, command, date = embed(["run a shell command", "start a program", "the day of the week"], "wordllama")

    assert shell @ command > shell @ date


def test_an_empty_text_embeds_to_zeros_not_to_nan() -> None:
    assert not embed([""], "wordllama").any()


def test_no_texts_embed_to_nothing() -> None:
    assert len(embed([], "wordllama")) == 0


def test_an_unknown_function_names_the_known_ones() -> None:
    with pytest.raises(InvalidRequestError, match=r"'nope' is unknown; known are .*openai.*wordllama"):
        embed(["x"], "nope")


def test_a_function_that_misses_its_package_only_when_it_is_called_says_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(ConfigurationError, match=r"'default' cannot be made here: .*onnxruntime"):
        embed(["x"], "default")


def test_a_function_whose_package_or_key_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMA_OPENAI_API_KEY", raising=False)

    with pytest.raises(ConfigurationError, match="'openai' cannot be made here: "):
        embed(["x"], "openai")
