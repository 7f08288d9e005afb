"""Filters that are too large are refused before ChromaDB sees them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.chroma.filter_bounds import (
    MAX_DEPTH,
    MAX_REGEX,
    MAX_TERMS,
    MAX_TEXT,
    MAX_VALUES,
    check_filter,
)
from chromadb_compaction.errors import InvalidRequestError

GREATER = {"n": {"$gt": 5}}


def nested(levels: int, operator: str = "$and") -> dict[str, Any]:
    """Return a filter of `levels` objects, one within the other."""
    where: dict[str, Any] = {"n": 1}
    for _ in range(levels - 1):
        where = {operator: [where]}
    return where


def lists_within_lists(levels: int) -> list[Any]:
    """Return an empty list in `levels` lists."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


ALLOWED: dict[str, Any] = {
    "terms": {"$or": [{"n": 1}] * (MAX_TERMS - 1)},
    "depth": nested(MAX_DEPTH),
    "values": {"n": {"$in": list(range(MAX_VALUES))}},
    "text": {"$contains": "a" * MAX_TEXT},
    "regex": {"$regex": "a" * MAX_REGEX},
}
REFUSED: dict[str, Any] = {
    "terms": {"$or": [{"n": 1}] * MAX_TERMS},
    "terms that end a process": {"$or": [GREATER] * 20_000},
    "terms of one object": {f"k{n}": n for n in range(MAX_TERMS + 1)},
    "depth": nested(MAX_DEPTH + 1),
    "depth that ends a recursion": nested(200_000),
    "depth of lists": {"$or": lists_within_lists(100_000)},
    "values": {"n": {"$in": list(range(MAX_VALUES + 1))}},
    "values of many lists": {"$or": [{"n": {"$nin": list(range(MAX_VALUES // 10))}}] * 11},
    "text": {"$contains": "a" * (MAX_TEXT + 1)},
    "text in a list": {"n": {"$in": ["a" * (MAX_TEXT + 1)]}},
    "name": {"a" * (MAX_TEXT + 1): 1},
    "regex": {"$regex": "a" * (MAX_REGEX + 1)},
    "negated regex": {"$not_regex": "a" * (MAX_REGEX + 1)},
}


@pytest.mark.parametrize("where", ALLOWED.values(), ids=ALLOWED)
def test_a_filter_within_the_bounds_is_returned_unchanged(where: dict[str, Any]) -> None:
    assert check_filter(where) is where


@pytest.mark.parametrize("where", REFUSED.values(), ids=REFUSED)
def test_a_filter_beyond_a_bound_is_refused_with_a_next_step(where: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="a filter has") as refused:
        check_filter(where)

    assert refused.value.next_step


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=30,
)


@given(JSON)
def test_a_small_value_passes_whatever_it_is(value: object) -> None:
    assert check_filter(value) is value
