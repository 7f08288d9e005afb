"""ChromaDB's schema of a collection: the kinds of value that each metadata key has held, and the flush threshold.

ChromaDB adds to the schema when a key first holds a kind of value, and removes nothing. These functions are pure.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

SQLITE_FILE: Final = "chroma.sqlite3"
"""The database of a ChromaDB directory."""

MAX_KEYS = 5_000
"""The most keys that a schema lists. More cost about 10 KB of memory each whenever ChromaDB opens the collection.

A key that is not listed has the schema's defaults, as every key that is listed has: filters find it just the same.
"""

Schema = dict[str, Any]
Kinds = Mapping[str, set[str]]
"""The kinds of value that each metadata key holds: string, int, float, bool. A list has the kind of its elements."""

_KIND_OF = {str: "string", bool: "bool", int: "int", float: "float"}


def kind_of(value: object) -> str:
    """Return the kind of a metadata value. A list has the kind of its elements, which are all of one kind."""
    return _KIND_OF[type(value[0] if isinstance(value, list) else value)]


def vector_indexes(schema: Schema) -> list[dict[str, Any]]:
    """Return both copies of the configuration of the index. Raises LookupError or TypeError for another shape."""
    columns = schema["keys"]["#embedding"], schema["defaults"]
    return [column["float_list"]["vector_index"]["config"] for column in columns]


def hnsw_settings(schema: Schema) -> list[dict[str, Any]]:
    """Return both copies of the index's settings. Raises LookupError or TypeError if the schema has another shape."""
    return [config["hnsw"] for config in vector_indexes(schema)]


def with_threshold(schema: Schema, operations: int) -> Schema:
    """Return the schema with a flush threshold of that many operations."""
    changed = copy.deepcopy(schema)
    for settings in hnsw_settings(changed):
        settings["sync_threshold"] = operations
    return changed


def with_keys(schema: Schema, kinds: Kinds) -> Schema:
    """Return the schema with these kinds of value added, until it lists MAX_KEYS keys."""
    changed = copy.deepcopy(schema)
    for key, held in kinds.items():
        if key not in changed["keys"] and len(changed["keys"]) >= MAX_KEYS:
            continue
        known = changed["keys"].setdefault(key, {})
        for kind in held - known.keys():
            known[kind] = copy.deepcopy(changed["defaults"][kind])
    return changed
