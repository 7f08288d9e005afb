"""Random filters with every operator of ChromaDB, most of which some record passes and another does not."""

from __future__ import annotations

import random
from typing import Any

from chromadb_compaction.chroma.query import Filters

KEYS = ("s", "n", "f", "flag", "list", "mixed", "nowhere")
TEXTS = ("", "x", "X", "xyz", "50%", "a_b", "日本", "nul\0", "1")
INTEGERS = (-5, 0, 1, 2, 3, 2**53 + 1, 2**63 - 1, -(2**63))
FLOATS = (-0.5, 0.0, 1.0, 1.5, 2.0, 1e300, 0.1)
WORDS = ("fox", "FOX", "Quick", "ü", "日本", "%", "_", "\\", "o", "", "lazy dog", "'", '"')
PATTERNS = ("fox", "^The", "(?i)QUICK", "b.own", "[0-9]+", "o{2}", "fox$", r"\bdog\b", "(", "日本.*です")
DOCUMENTS = (
    None,
    "",
    "The quick brown fox",
    "the QUICK brown fox jumps over the lazy dog",
    "Straße, Ärger und ŒUVRE",
    "日本語の文書です",
    "quick%_\\ \"quoted\" 'fox'",
    "42 foxes, foo",
)


class RandomFilters:
    """Filters and the metadata that they are about, from one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def metadata(self) -> dict[str, Any] | None:
        """Return metadata with values of every kind. `mixed` has another kind in each record."""
        pick = self._random
        if pick.random() < 0.1:
            return None
        values = {
            "s": pick.choice(TEXTS),
            "n": pick.choice(INTEGERS),
            "f": pick.choice(FLOATS),
            "flag": pick.random() < 0.5,
            "list": [pick.choice(kind) for kind in [pick.choice((TEXTS, INTEGERS, FLOATS))] for _ in range(3)],
            "mixed": pick.choice((*TEXTS, *INTEGERS, *FLOATS, True, False)),
        }
        return {key: value for key, value in values.items() if pick.random() < 0.7}

    def document(self) -> str | None:
        """Return a document, or None."""
        return self._random.choice(DOCUMENTS)

    def filters(self, ids: list[str]) -> Filters:
        """Return filters of ids, metadata and documents in any combination, with at least one of the last two."""
        pick = self._random
        where = self._where(3) if pick.random() < 0.75 else None
        document = self._where_document(2) if where is None or pick.random() < 0.3 else None
        wanted = pick.sample(ids, 9) if pick.random() < 0.15 else None
        return Filters(wanted, where, document)

    def _where(self, depth: int) -> dict[str, Any]:
        pick = self._random
        if depth and pick.random() < 0.35:
            return {pick.choice(("$and", "$or")): [self._where(depth - 1) for _ in range(pick.randint(2, 3))]}
        key, value = pick.choice(KEYS), pick.choice((*TEXTS, *INTEGERS, *FLOATS, True, False))
        operator = pick.choice(
            (None, "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$contains", "$not_contains")
        )
        if operator is None:
            return {key: value}
        if operator in {"$in", "$nin"}:
            kind = pick.choice((TEXTS, INTEGERS, FLOATS, (True, False)))
            return {key: {operator: [pick.choice(kind) for _ in range(pick.randint(1, 4))]}}
        if operator in {"$gt", "$gte", "$lt", "$lte"}:
            value = pick.choice((*INTEGERS, *FLOATS))
        return {key: {operator: value}}

    def _where_document(self, depth: int) -> dict[str, Any]:
        pick = self._random
        if depth and pick.random() < 0.3:
            return {pick.choice(("$and", "$or")): [self._where_document(depth - 1) for _ in range(2)]}
        if pick.random() < 0.4:
            return {pick.choice(("$regex", "$not_regex")): pick.choice(PATTERNS)}
        return {pick.choice(("$contains", "$not_contains")): pick.choice(WORDS)}
