"""Strict JSON parsing."""

from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.deltas.strict_json import parse

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=10,
)


@given(values, st.booleans())
def test_everything_that_json_writes_is_read_back(value: object, ensure_ascii: bool) -> None:  # noqa: FBT001 - Hypothesis draws it
    text = json.dumps(value, ensure_ascii=ensure_ascii)

    assert json.dumps(parse(text.encode())) == json.dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":1}',
        '{"a":{"b":1,"b":2}}',
        '{"a":"\\"","a":"x"}',
        '{"a":1,"\\u0061":2}',
        '{"\\u0061\\u0022\\u0022":1,"a\\"\\"":2}',
        '[{"":1,"":2}]',
    ],
)
def test_a_repeated_key_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="twice"):
        parse(text.encode())


def test_finding_the_repeated_key_among_many_takes_linear_time() -> None:
    keys = [f'"{number}":0' for number in range(100_000)]
    started = time.process_time()

    with pytest.raises(ValueError, match="'99999' twice"):
        parse(f"{{{','.join([*keys, keys[-1]])}}}".encode())

    assert time.process_time() - started < 5


@pytest.mark.parametrize("number", ["18446744073709551616", "-9223372036854775809", "1" + "0" * 100])
def test_a_huge_integer_stays_an_integer(number: str) -> None:
    assert parse(b'{"a":%s}' % number.encode()) == {"a": int(number)}


def test_a_huge_float_stays_a_float() -> None:
    value = parse(b"[1e300]")

    assert value == [1e300]


def test_nan_and_infinity_become_floats() -> None:
    value = parse(b"[NaN, Infinity]")

    assert isinstance(value, list)
    assert math.isnan(value[0])
    assert value[1] == math.inf


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[1,]", b"[" * 3000 + b"]" * 3000, b"[" + b"9" * 5000 + b"]"])
def test_everything_else_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"is not JSON|nested too deeply"):
        parse(text)
