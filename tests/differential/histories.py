"""Hypothesis strategies for histories of a collection: folds that upsert, edit, delete and add again a few ids."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from chromadb_compaction.configuration import KeptSettings, Space
from tests.runs import a_run

IDS = ("a", "b", "c", "ü", "line\nbreak", "nul\0", "quote'\"", "日本", "g", "h", "i", "j")
KEYS = ("s", "n", "flag", "ünïcode", "nul\0", "list", 'quote"')
DOCUMENTS = (
    "",
    "ab",
    "The quick brown fox",
    "the QUICK brown fox jumps over the lazy dog",
    "Straße, Ärger und ŒUVRE",
    "日本語の文書です",
    "before\0after the nul",
    "quick%_\\ \"quoted\" 'fox'",
    "emoji 🦊🦊 fox",
    "de\u0301compose\u0301 ﬁ İstanbul",
)
DIMENSIONS = st.integers(2, 64)
SPACES: st.SearchStrategy[Space] = st.sampled_from(("l2", "cosine", "ip"))

# ChromaDB reads most floats back inexactly. It reads multiples of an eighth exactly, so filters can compare them.
_FLOATS = st.integers(-80, 80).map(lambda eighths: eighths / 8)
_INTEGERS = st.one_of(st.integers(-5, 5), st.sampled_from((2**63 - 1, -(2**63), 2**53 + 1)))
_TEXTS = st.one_of(
    st.sampled_from(("", "x", "y", "nul\0", "日本")), st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
)
_SCALARS = (_TEXTS, _INTEGERS, _FLOATS, st.booleans())
_VALUES = st.one_of(*_SCALARS, *(st.lists(kind, min_size=1, max_size=3) for kind in _SCALARS), st.none())
METADATA = st.one_of(
    st.none(),
    st.dictionaries(st.sampled_from(KEYS), _VALUES, max_size=4),
    # These floats read back within the tolerance of verification, so no filter compares them.
    st.fixed_dictionaries({"wild": st.floats(allow_nan=False, allow_infinity=False)}),
)


_URIS = st.sampled_from((None, None, "", "s3://pictures/a.png", "file:///tmp/ü 日本"))


class Upsert(NamedTuple):
    """One record. Vectors are numbered, so that a record is often rewritten with the same vector. Number 0 is zero."""

    vector: int
    document: str | None
    metadata: dict[str, Any] | None
    uri: str | None


Fold = dict[str, Upsert | None]
"""One fold's upsert of each id. None: delete the id."""

_UPSERTS = st.builds(Upsert, st.integers(0, 9), st.one_of(st.none(), st.sampled_from(DOCUMENTS)), METADATA, _URIS)
_FOLDS = st.dictionaries(st.sampled_from(IDS), st.one_of(_UPSERTS, _UPSERTS, st.none()), min_size=1, max_size=8)


class History(NamedTuple):
    """A collection's folds, oldest first, and the shape and settings of its index."""

    dimension: int
    space: Space
    folds: list[Fold]
    settings: KeptSettings = KeptSettings()

    def vector(self, number: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return the vector of that number."""
        vector = np.random.default_rng(number).standard_normal(self.dimension).astype(np.float32)
        return vector * np.float32(number > 0)

    def run(self, at: int) -> pa.Table:
        """Return the run of one fold."""
        upserts = {row_id: each for row_id, each in self.folds[at].items() if each is not None}
        return a_run(
            {row_id: self.vector(each.vector).tolist() for row_id, each in upserts.items()},
            deletes=self.folds[at].keys() - upserts.keys(),
            documents={row_id: each.document for row_id, each in upserts.items() if each.document is not None},
            metadatas={row_id: each.metadata for row_id, each in upserts.items() if each.metadata is not None},
            uris={row_id: each.uri for row_id, each in upserts.items() if each.uri is not None},
            delta=at + 1,
        )

    def live(self) -> dict[str, Upsert]:
        """Return the records that exist after the last fold."""
        latest = {row_id: each for fold in self.folds for row_id, each in fold.items()}
        return {row_id: each for row_id, each in latest.items() if each is not None}


_SETTINGS = st.sampled_from(
    (
        KeptSettings(),
        KeptSettings(max_neighbors=8, ef_construction=40),
        KeptSettings(max_neighbors=48, ef_construction=300),
    )
)
HISTORIES = st.builds(History, DIMENSIONS, SPACES, st.lists(_FOLDS, min_size=1, max_size=4), _SETTINGS)
