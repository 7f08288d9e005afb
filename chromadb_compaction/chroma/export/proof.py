"""The proof that a record's document, metadata and URI are those that were merged: its fingerprint in the ledger.

ChromaDB has read some floats inexactly before it stored them. The exact ones are found by their fingerprint.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from chromadb_compaction.deltas.records import check_metadata
from chromadb_compaction.errors import CorruptDeltaError
from chromadb_compaction.rows.fingerprints import VECTOR_BYTES, fingerprint

FLOAT_STEPS = 2
"""ChromaDB's largest error when it reads a metadata float, in units in the last place; see FLOAT_TOLERANCE."""

MAX_GUESSES = 5**5
"""All neighbours of five floats in one record. More floats give too many combinations to try."""


class Texts(NamedTuple):
    """A record without its id and vector, as ChromaDB holds it."""

    document: str | None
    metadata: Mapping[str, Any] | None
    uri: str | None


class ProvenTexts(NamedTuple):
    """The result of a proof.

    Attributes:
        same: Whether the record is the one that was merged. None: its metadata has too many inexact floats to tell.
        metadata: The metadata as it was merged, in canonical JSON. If `same` is not true, as ChromaDB holds it.
    """

    same: bool | None
    metadata: str | None


def prove_texts(texts: Texts, expected: bytes) -> ProvenTexts:
    """Compare a record with the part of its fingerprint that follows the vector's."""
    try:
        canonical = check_metadata(texts.metadata)
    except CorruptDeltaError:
        return ProvenTexts(same=False, metadata=None)
    if _fingerprint(texts, canonical) == expected:
        return ProvenTexts(same=True, metadata=canonical)
    if canonical is None:
        return ProvenTexts(same=False, metadata=None)
    metadata = orjson.loads(canonical)
    floats = list(_find_floats(metadata))
    if (2 * FLOAT_STEPS + 1) ** len(floats) > MAX_GUESSES:
        return ProvenTexts(same=None, metadata=canonical)
    for guess in itertools.product(*(_neighbours(container[key]) for container, key in floats)):
        for (container, key), value in zip(floats, guess, strict=True):
            container[key] = value
        if _fingerprint(texts, exact := check_metadata(metadata)) == expected:
            return ProvenTexts(same=True, metadata=exact)
    return ProvenTexts(same=False, metadata=canonical)


def _fingerprint(texts: Texts, metadata: str | None) -> bytes:
    return fingerprint(b"", texts.document, metadata, texts.uri)[VECTOR_BYTES:]


def _find_floats(container: dict[str, Any] | list[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield every float's container and its key or index there."""
    for key, value in container.items() if isinstance(container, dict) else enumerate(container):
        if isinstance(value, float):
            yield container, key
        elif isinstance(value, list):
            yield from _find_floats(value)


def _neighbours(value: float) -> list[float]:
    found = [value]
    for direction in (math.inf, -math.inf):
        near = value
        for _ in range(FLOAT_STEPS):
            near = math.nextafter(near, direction)
            found.append(near)
    return [each for each in found if math.isfinite(each)]
