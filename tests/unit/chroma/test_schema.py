"""The schema of a collection."""

from __future__ import annotations

from typing import Any

import pytest

from chromadb_compaction.chroma import schema
from chromadb_compaction.chroma.schema import with_keys


def test_a_schema_lists_new_keys_until_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MAX_KEYS", 3)
    before: dict[str, Any] = {"defaults": {"int": {"a": 1}, "string": {"b": 2}}, "keys": {"known": {"int": {}}}}

    after = with_keys(before, {"first": {"int"}, "second": {"string"}, "third": {"int"}, "known": {"string"}})

    assert after["keys"] == {
        "known": {"int": {}, "string": {"b": 2}},
        "first": {"int": {"a": 1}},
        "second": {"string": {"b": 2}},
    }
