"""The examples of docs/reading.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from llama_index.core import MockEmbedding

import chromadb_compaction
from chromadb_compaction.client.chroma_client import Client

PAGE = (Path(__file__).parents[2] / "docs" / "reading.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("LangChain", {"embeddings": DeterministicFakeEmbedding(size=6)}),
        ("LlamaIndex", {"embed_model": MockEmbedding(embed_dim=6)}),
    ],
)
def test_an_example_finds_what_it_writes(
    section: str, names: dict[str, Any], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chromadb_compaction, "Client", lambda: client, raising=False)
    [example] = re.findall(rf"## {section}\n\n```python\n(.*?)```", PAGE, re.DOTALL)

    exec(compile(example, section, "exec"), names)

    [found] = names["found"]
    assert "backups run at night" in str(found)
