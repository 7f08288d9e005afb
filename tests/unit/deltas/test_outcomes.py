"""The stored form of the outcomes of deltas."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from chromadb_compaction.deltas.outcomes import (
    DeltaOutcome,
    decode_outcomes,
    encode_outcomes,
    pack_outcomes,
    unpack_outcomes,
)

OUTCOMES = [
    DeltaOutcome(key="delta/docs/a.parquet", etag='"1"', bytes=10, status="merged", rows=3),
    DeltaOutcome(key="delta/docs/b.parquet", etag='"2"', bytes=11, status="quarantined", reason="holds NaN"),
    DeltaOutcome(key="delta/docs/c.parquet", etag='"3"', bytes=12, status="missing"),
]


def test_outcomes_round_trip_as_json_and_packed() -> None:
    assert decode_outcomes(encode_outcomes(OUTCOMES)) == OUTCOMES
    assert unpack_outcomes(pack_outcomes(OUTCOMES)) == OUTCOMES


def test_equal_outcomes_are_packed_to_equal_bytes() -> None:
    assert pack_outcomes(OUTCOMES) == pack_outcomes(list(OUTCOMES))


def test_an_unknown_status_is_an_error() -> None:
    with pytest.raises(ValidationError):
        decode_outcomes(b'[{"key":"k","etag":"e","bytes":1,"status":"lost"}]')
