"""Invalid rows: wrong types, values out of range, deep nesting, and lookalike letters."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pyarrow as pa

from tests.fuzz.bodies import DIMENSION, packed, parquet_of, some_rows

LOOKALIKES = str.maketrans({"a": "\N{CYRILLIC SMALL LETTER A}", "e": "\N{CYRILLIC SMALL LETTER IE}", "-": "\N{HYPHEN}"})
STRANGE_TEXT = (
    "",
    "\0",
    "a\0b",
    "\ud800",
    "\ufeffid",
    "\N{RIGHT-TO-LEFT OVERRIDE}di",
    "\N{ZERO WIDTH JOINER}",
    "e\N{COMBINING ACUTE ACCENT}",
    "\N{LATIN SMALL LETTER E WITH ACUTE}",
    "\uffff",
    "\U0010ffff",
    "'; DROP TABLE embeddings; --",
    "../../etc/passwd",
    "x" * 70_000,
)
STRANGE: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    2**63,
    -(2**63) - 1,
    10**400,
    float("nan"),
    float("inf"),
    1e39,
    [],
    {},
    [None],
    [[1.0]],
    ["1"],
    {"a": {"b": 1}},
    *STRANGE_TEXT,
)
METADATA_KEYS = ("", "#a", "$and", "chroma:document", "a.b", "\0", "\ud800", "ключ", "k" * 40_000)

Line = Callable[[Random], str]


def a_strange_value(chance: Random) -> str:
    """A good row with an invalid value in one field."""
    row = _good(chance)
    row[chance.choice(("id", "op", "embedding", "document", "metadata"))] = chance.choice(STRANGE)
    return json.dumps(row)


def a_strange_metadata(chance: Random) -> str:
    """Metadata with a strange key or value, as an object or as text."""
    value = {chance.choice((*METADATA_KEYS, "plain")): chance.choice(STRANGE)}
    return json.dumps(_good(chance) | {"metadata": chance.choice((value, json.dumps(value)))})


def a_strange_embedding(chance: Random) -> str:
    """A vector with a strange item, or of another length."""
    vector: list[Any] = [1.0] * chance.choice((0, 1, DIMENSION, DIMENSION + 1, 5000))
    if vector and chance.random() < 0.6:
        vector[chance.randrange(len(vector))] = chance.choice(STRANGE)
    return json.dumps(_good(chance) | {"embedding": vector})


def a_strange_name(chance: Random) -> str:
    """A field with a misspelt or lookalike name."""
    row = _good(chance)
    name = chance.choice(tuple(row))
    strange = (name.upper(), f"{name} ", name.translate(LOOKALIKES), f"{name}\0", "x" * 90_000)
    row[chance.choice(strange)] = row.pop(name)
    return json.dumps(row)


def a_deep_line(chance: Random) -> str:
    """Deeply nested brackets, closed or not."""
    depth = chance.choice((100, 2_000, 200_000))
    opened, closed = chance.choice((("[", "]"), ('{"a":', "}")))
    deep = opened * depth + "1" + closed * chance.choice((0, depth))
    return f'{{"id":"a","embedding":[1,2,3],"metadata":{deep}}}' if chance.random() < 0.7 else deep


def a_repeated_name(chance: Random) -> str:
    """The same name twice in one object."""
    return f'{{"id":"fuzz-1","id":"fuzz-{chance.randrange(9)}","embedding":[1,2,3]}}'


def not_a_row(chance: Random) -> str:
    """A line that is not a row."""
    return chance.choice(
        ("", "null", "[]", '"text"', "{", "}", "NaN", "1e999", "{'id':'a'}", "id,embedding\na,1", "\ufeff{}", "\0" * 9)
    )


LINES: tuple[Line, ...] = (
    a_strange_value,
    a_strange_value,
    a_strange_metadata,
    a_strange_embedding,
    a_strange_name,
    a_deep_line,
    a_repeated_name,
    not_a_row,
)


def json_lines(chance: Random) -> bytes:
    """A file of good lines and one strange line."""
    lines = [json.dumps(row) for row in some_rows(chance, chance.choice((0, 3)))]
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(LINES)(chance))
    return packed("\n".join(lines))


def parquet_of_strange_types(chance: Random) -> bytes:
    """Columns with a wrong or an equivalent type."""
    columns: dict[str, pa.Array[Any]] = {
        "id": pa.array(["fuzz-1", "fuzz-2"]),
        "embedding": pa.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], pa.list_(pa.float32())),
        "document": pa.array(["one", None]),
        "metadata": pa.array([None, '{"a": 1}']),
    }
    columns[chance.choice((*columns, "op", "extra"))] = chance.choice(_COLUMNS)
    return parquet_of(columns)


def parquet_of_strange_text(chance: Random) -> bytes:
    """Text columns with strange text."""
    texts = [text for text in STRANGE_TEXT if text != "\ud800"]
    columns = {
        "id": pa.array([chance.choice(["fuzz-3", *texts])]),
        "op": pa.array([chance.choice(["upsert", "upsert", "delete", "UPSERT", *texts])]),
        "embedding": pa.array([chance.choice([None, [1.0, 2.0, 3.0]])], pa.list_(pa.float32())),
        "metadata": pa.array([chance.choice(["{}", '{"a":' * 5000, '{"a":1e999}', '{"a":1,"a":2}', *texts])]),
    }
    return parquet_of(columns)


_COLUMNS: tuple[pa.Array[Any], ...] = (
    pa.array([1, 2]),
    pa.array([b"\xff\xfe", b"x"]),
    pa.array([None, None]),
    pa.array([{"a": 1}, None]),
    pa.array([[1, 2, 3], [4, 5, 6]], pa.list_(pa.int64())),
    pa.array([[1, 2, 3], [4, 5, None]], pa.large_list(pa.float64())),
    pa.array([[float("nan")] * 3, [1e300] * 3]),
    pa.array([["a"], ["b"]]),
    pa.array([[[1.0]], [[2.0]]]),
    pa.array([True, False]),
    pa.array(["upsert", "delete"]).dictionary_encode(),
    pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int32())),
    pa.array([1, 2], pa.timestamp("us")),
    pa.array(["a", "b"], pa.string_view()),
)


def _good(chance: Random) -> dict[str, Any]:
    vector = [float(chance.randrange(9)) for _ in range(DIMENSION)]
    return {"id": f"fuzz-{chance.randrange(500)}", "op": "upsert", "embedding": vector}
