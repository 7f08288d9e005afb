"""The warning of a wrong clock."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.client.clock import TOLERATED_SECONDS, clock_warning
from chromadb_compaction.client.writer import DeltaWriter
from tests.fakes.objects import InMemoryObjectStore


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        (90.0, "1 min 30 s ahead of S3's, so its rows win over newer rows of other producers; correct the clock"),
        (-7500.0, "2 h 5 min behind S3's, so rows that other producers wrote before win over its rows"),
        (3700.0, "1 h 1 min ahead of S3's, so its deltas go to quarantine"),
    ],
)
def test_a_wrong_clock_is_named_with_its_effect(ahead: float, expected: str) -> None:
    assert expected in (clock_warning(ahead) or "")


@given(st.none() | st.floats(-TOLERATED_SECONDS, TOLERATED_SECONDS))
def test_a_clock_that_is_right_or_unknown_gives_no_warning(ahead: float | None) -> None:
    assert clock_warning(ahead) is None


@given(st.floats(TOLERATED_SECONDS + 1, 1e9), st.sampled_from([1, -1]))
def test_every_larger_difference_gives_one(difference: float, sign: int) -> None:
    assert clock_warning(sign * difference)


def test_a_writer_warns_once() -> None:
    objects = InMemoryObjectStore()
    objects.ahead = -3 * 3600.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        writer = DeltaWriter(bucket="a-bucket", objects=objects)
        for name in ("a", "b"):
            writer.upsert("docs", [name], [[1.0]])
            writer.flush()

    assert ["3 h 0 min behind S3's" in str(each.message) for each in caught] == [True]
    assert len(writer.written) == 2


def test_a_clock_that_becomes_wrong_later_is_noticed() -> None:
    objects = InMemoryObjectStore()
    writer = DeltaWriter(bucket="a-bucket", objects=objects)
    writer.upsert("docs", ["a"], [[1.0]])
    writer.flush()

    objects.ahead = 600.0
    writer.upsert("docs", ["b"], [[1.0]])
    with pytest.warns(RuntimeWarning, match="10 min 0 s ahead"):
        writer.flush()
