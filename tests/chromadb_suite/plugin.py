"""A pytest plugin: run ChromaDB's tests against a server, without those that `left_out.toml` lists with a reason."""

from __future__ import annotations

import fnmatch
import tomllib
from pathlib import Path
from typing import Any
from zlib import crc32

import chromadb.test.conftest as chromadb_conftest
import hypothesis.strategies as st
import numpy as np
import pytest
from chromadb.api import ClientAPI
from chromadb.api.types import Documents
from chromadb.test.property import strategies
from chromadb.utils.embedding_functions.onnx_mini_lm_l6_v2 import ONNXMiniLM_L6_V2
from hypothesis.stateful import consumes, rule

LEFT_OUT = Path(__file__).with_name("left_out.toml")


def _reset(client: ClientAPI) -> None:
    client.reset()


def _embed(_self: ONNXMiniLM_L6_V2, input: Documents) -> Any:  # noqa: A002 - ChromaDB's name
    """Return made-up embeddings. The texts of ChromaDB's tests mean nothing, and its model would be downloaded."""
    return [np.random.default_rng(crc32(text.encode())).random(384, dtype=np.float32) for text in input]


# Pytest reads ChromaDB's conftest after this module.
# Its hook renames tests through an attribute that pytest no longer has.
del chromadb_conftest.pytest_itemcollected
# It makes a database for each test. A bucket is one database, so it is emptied instead.
chromadb_conftest.create_isolated_database = _reset
setattr(ONNXMiniLM_L6_V2, "__call__", _embed)  # noqa: B010 - mypy knows that methods are fixed


def _without_renaming(machine: Any) -> Any:
    """Return the model of collections without new names, which a bucket refuses. All else of `modify` is tested."""

    class WithoutRenaming(machine):  # type: ignore[misc] # a class that is known at run time
        @rule(
            target=machine.collections,
            coll=consumes(machine.collections),
            new_metadata=strategies.collection_metadata,
            new_name=st.none(),
        )
        def modify_coll(self, coll: Any, new_metadata: Any, new_name: object) -> Any:
            return super().modify_coll(coll=coll, new_metadata=new_metadata, new_name=None)

    return WithoutRenaming


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that are left out. A pattern that matches no test of a file that runs whole is an error."""
    for module in {item.module for item in items if isinstance(item, pytest.Function)}:
        if hasattr(module, "CollectionStateMachine"):
            module.CollectionStateMachine = _without_renaming(module.CollectionStateMachine)
    root = Path(chromadb_conftest.__file__).parent
    names = {item: f"{item.path.relative_to(root).as_posix()}::{item.nodeid.partition('::')[2]}" for item in items}
    groups = tomllib.loads(LEFT_OUT.read_text(encoding="utf-8"))["group"]
    left_out: set[pytest.Item] = set()
    for pattern in (pattern for group in groups for pattern in group["tests"]):
        matching = {item for item, name in names.items() if fnmatch.fnmatchcase(name, pattern)}
        whole = any((root / pattern.partition("::")[0]).is_relative_to(argument) for argument in config.args)
        if whole and not matching:
            raise pytest.UsageError(f"{LEFT_OUT.name}: {pattern} matches no test; remove it")
        left_out |= matching
    config.hook.pytest_deselected(items=sorted(left_out, key=lambda item: item.nodeid))
    items[:] = [item for item in items if item not in left_out]
