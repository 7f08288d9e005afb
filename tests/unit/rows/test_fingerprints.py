"""Fingerprints of rows, and their sum."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.rows.fingerprints import DELETED, FINGERPRINT_BYTES, fingerprint, hex128, row_sum, sum_rows

VECTOR = np.array([1, 2], dtype="<f4").tobytes()
STORED = "42f796cded228dc080ef1964ee5d73c31373d97b1be51e5bcb111b73737087e3"
STORED_WITH_URI = "42f796cded228dc080ef1964ee5d73c3e6c8d5e329246abf47449156b1b7a843"

rows = st.lists(st.tuples(st.text(min_size=1, max_size=5), st.binary(min_size=32, max_size=32)), max_size=10)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((VECTOR, "text", None), (VECTOR, None, None)),
        ((VECTOR, "", None), (VECTOR, None, None)),
        ((VECTOR, None, '{"a":1}'), (VECTOR, None, '{"a":1.0}')),
        ((VECTOR, None, '{"a":1}'), (VECTOR, None, None)),
        ((VECTOR, '"],["', None), (VECTOR, None, None)),
        ((VECTOR, None, None, ""), (VECTOR, None, None)),
        ((VECTOR, None, None, "a"), (VECTOR, "a", None)),
        ((VECTOR, None, None, "a"), (VECTOR, None, None, "b")),
        ((VECTOR, None, None), (VECTOR[:4], None, None)),
    ],
)
def test_different_contents_have_different_fingerprints(
    one: tuple[bytes, str | None, str | None, str | None], other: tuple[bytes, str | None, str | None, str | None]
) -> None:
    assert fingerprint(*one) != fingerprint(*other)


def test_a_fingerprint_is_a_stored_format_and_must_not_change() -> None:
    assert fingerprint(VECTOR, "text", '{"a":1}').hex() == STORED
    assert fingerprint(VECTOR, "text", '{"a":1}', "s3://a").hex() == STORED_WITH_URI


def test_the_fingerprint_of_a_delete_is_below_every_other() -> None:
    assert bytes(FINGERPRINT_BYTES) == DELETED < fingerprint(VECTOR, None, None)


@given(rows, st.randoms(use_true_random=False))
def test_the_sum_ignores_order(given_rows: list[tuple[str, bytes]], chance: random.Random) -> None:
    shuffled = list(given_rows)
    chance.shuffle(shuffled)

    assert sum_rows(shuffled) == sum_rows(given_rows)


@given(rows, rows)
def test_the_sum_of_two_parts_is_the_sum_of_the_whole(
    one: list[tuple[str, bytes]], other: list[tuple[str, bytes]]
) -> None:
    assert (sum_rows(one) + sum_rows(other)) % 2**128 == sum_rows(one + other)


def test_id_and_fingerprint_are_hashed_separately() -> None:
    assert row_sum("a", b"b" * 32) != row_sum("ab", b"b" * 31)


def test_sums_are_written_as_32_hexadecimal_digits() -> None:
    assert hex128(2**128 + 255) == "000000000000000000000000000000ff"
