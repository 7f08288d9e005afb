"""The largest filters that the query function passes to ChromaDB.

ChromaDB turns a filter into one SQL statement by recursion. A filter of thousands of terms ends the process by a
signal, and more values than SQLite's 32,766 variables are an internal error. ChromaDB never sees either.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from chromadb_compaction.errors import InvalidRequestError

MAX_TERMS: Final = 256
"""Operators and comparisons of one filter, `$and` and `$or` included."""
MAX_DEPTH: Final = 32
"""Objects of one filter that lie within each other."""
MAX_VALUES: Final = 10_000
"""Values of all lists of one filter (`$in`, `$nin`) together."""
MAX_TEXT: Final = 10_000
"""Characters of one text. SQLite compares patterns of up to 50,000 bytes."""
MAX_REGEX: Final = 1_000
"""Characters of one regular expression."""

_LOGICAL = {"$and", "$or"}
_REGEX = {"$regex", "$not_regex"}


class _Term(NamedTuple):
    name: str
    value: object
    depth: int


def check_filter(where: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a filter unchanged, or raise InvalidRequestError if it is larger than one of the bounds above.

    The loop does not recurse, so no depth can end it. ChromaDB checks what the filter means.
    """
    values = 0
    for terms, term in enumerate(_terms(where), start=1):
        values += len(term.value) if isinstance(term.value, list) and term.name not in _LOGICAL else 0
        _require(terms <= MAX_TERMS, f"more than {MAX_TERMS} terms", "use $in for many values, or ask in parts")
        _require(term.depth <= MAX_DEPTH, f"more than {MAX_DEPTH} levels", "write $and and $or as one list")
        _require(values <= MAX_VALUES, f"more than {MAX_VALUES:,} values in its lists", "ask in parts")
        _check_texts(term)
    return where


def _terms(where: object) -> Iterator[_Term]:
    """Yield each name and value of the objects in `where`, which may lie in lists."""
    pending = [(where, 1)]
    while pending:
        value, depth = pending.pop()
        if isinstance(value, dict):
            for name, inner in value.items():
                yield _Term(str(name), inner, depth)
                pending.append((inner, depth + 1))
        elif isinstance(value, list):
            pending.extend((item, depth + isinstance(item, list)) for item in value if isinstance(item, dict | list))
            _require(depth <= MAX_DEPTH, f"more than {MAX_DEPTH} levels", "write $and and $or as one list")


def _check_texts(term: _Term) -> None:
    limit = MAX_REGEX if term.name in _REGEX else MAX_TEXT
    texts = [term.name, *(term.value if isinstance(term.value, list) else [term.value])]
    longest = max((len(text) for text in texts if isinstance(text, str)), default=0)
    _require(longest <= limit, f"a text of {longest:,} characters; the limit is {limit:,}", "search for less text")


def _require(holds: bool, has: str, next_step: str) -> None:  # noqa: FBT001 - it reads as a sentence
    if not holds:
        raise InvalidRequestError(f"a filter has {has}", next_step=next_step)
