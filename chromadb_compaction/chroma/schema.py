"""ChromaDB's schema of a collection: which kinds of value each metadata key has held, and when the index is flushed.

ChromaDB writes it whenever it first sees a key hold a kind of value, and never takes anything out. Pure.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]
Kinds = Mapping[str, set[str]]
"""Per metadata key, the kinds of value it holds: string, int, float, bool; a list counts as what is in it."""

_KIND_OF = {str: "string", bool: "bool", int: "int", float: "float"}


def kind_of(value: object) -> str:
    """Return the kind of a metadata value, of a list its elements' (they are all of one kind)."""
    return _KIND_OF[type(value[0] if isinstance(value, list) else value)]


def hnsw_settings(schema: Schema) -> list[dict[str, Any]]:
    """Return both places that hold the index's settings. Raises LookupError or TypeError if it has another shape."""
    columns = schema["keys"]["#embedding"], schema["defaults"]
    return [column["float_list"]["vector_index"]["config"]["hnsw"] for column in columns]


def with_threshold(schema: Schema, operations: int) -> Schema:
    """Return the schema of a collection that flushes its index after that many operations."""
    changed = copy.deepcopy(schema)
    for settings in hnsw_settings(changed):
        settings["sync_threshold"] = operations
    return changed


def with_keys(schema: Schema, kinds: Kinds) -> Schema:
    """Return the schema of a collection that has held such values too; what it says of others stays."""
    changed = copy.deepcopy(schema)
    for key, held in kinds.items():
        known = changed["keys"].setdefault(key, {})
        for kind in held - known.keys():
            known[kind] = copy.deepcopy(changed["defaults"][kind])
    return changed
