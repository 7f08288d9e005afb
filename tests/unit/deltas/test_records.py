"""The rules for one row."""

from __future__ import annotations

import enum
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.deltas.limits import MAX_DIMENSION, MAX_METADATA_KEYS, MAX_METADATA_VALUES
from chromadb_compaction.deltas.records import (
    check_document,
    check_each,
    check_embedding,
    check_id,
    check_metadata,
    check_metadata_text,
    narrow_rows,
    row_error,
    shown,
)
from chromadb_compaction.errors import CorruptDeltaError


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"": 1}, "empty key"),
        ({"#a": 1}, "starts with '#'"),
        ({"$a": 1}, r"starts with '\$'"),
        ({"chroma:document": "x"}, "starts with 'chroma:'"),
        ({"chroma:other": "x"}, "starts with 'chroma:'"),
        ({1: "x"}, "key 1 is not a string"),
        ({"a": {"b": 1}}, "holds an object"),
        ({"a": []}, "empty list"),
        ({"a": [[1]]}, "a list with a list"),
        ({"a": [None]}, "a list with null"),
        ({"a": [1, "b"]}, "mixed types"),
        ({"a": [1, 2.5]}, "mixed types"),
        ({"a": [True, 1]}, "mixed types"),
        ({"a": math.nan}, "holds NaN"),
        ({"a": math.inf}, "holds infinity"),
        ({"a": [math.nan]}, "a list with NaN"),
        ({"a": 2**63}, "beyond 64 bits"),
        ({"a": [-(2**63) - 1]}, "beyond 64 bits"),
        ({"a": "\ud800"}, "lone surrogate"),
        ({"\ud800": 1}, "lone surrogate"),
        ({"a": (1, 2)}, "holds a tuple"),
        ({"": None}, "empty key"),
        ([1], "metadata is a list"),
        ("x", "metadata is a string"),
        (5, "metadata is a number"),
    ],
)
def test_metadata_that_chromadb_refuses_or_changes_is_an_error(metadata: object, reason: str) -> None:
    with pytest.raises(CorruptDeltaError, match=reason):
        check_metadata(metadata)


@pytest.mark.parametrize(
    ("metadata", "canonical"),
    [
        (None, None),
        ({}, None),
        ({"a": None}, None),
        ({"b": 1, "a": 1.0, "c": True}, '{"a":1.0,"b":1,"c":true}'),
        ({"a": -0.0, "b": [-0.0]}, '{"a":0.0,"b":[0.0]}'),
        ({"a": 2**63 - 1, "b": -(2**63)}, '{"a":9223372036854775807,"b":-9223372036854775808}'),
        ({"a": "", "b": "\0", "é": ["x"]}, '{"a":"","b":"\\u0000","é":["x"]}'),
        ({"a": np.float64(0.5)}, '{"a":0.5}'),
    ],
)
def test_metadata_has_one_canonical_form(metadata: object, canonical: str | None) -> None:
    assert check_metadata(metadata) == canonical


@given(st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.floats(), st.text(max_size=5)), max_size=4))
def test_canonical_metadata_is_not_changed_again(metadata: dict[str, Any]) -> None:
    try:
        canonical = check_metadata(metadata)
    except CorruptDeltaError:
        return
    assert canonical is None or check_metadata_text(canonical) == canonical


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not JSON"),
        ("hello", "is not JSON"),
        ("[1]", "metadata is a list"),
        ('"x"', "metadata is a string"),
        ('{"a":1,"a":2}', "has the key 'a' twice"),
        ('{"a":NaN}', "holds NaN"),
        ('{"a":-Infinity}', "holds infinity"),
        ('{"a":1e400}', "holds infinity"),
        ('{"a":123456789012345678901234567890}', "beyond 64 bits"),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"a":"\\ud800"}', "lone surrogate"),
        ('{"a":"\ud800"}', "lone surrogate"),
    ],
)
def test_metadata_text_that_is_not_a_flat_json_object_is_an_error(text: str, reason: str) -> None:
    with pytest.raises(CorruptDeltaError, match=reason):
        check_metadata_text(text)


@pytest.mark.parametrize("text", ["null", "{}", '{"a":null}'])
def test_metadata_text_may_be_empty(text: str) -> None:
    assert check_metadata_text(text) is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [(None, "missing"), ("", "empty"), (5, "id is a number"), (True, "id is a boolean"), ("\udfff", "surrogate")],
)
def test_an_invalid_id_is_an_error(value: object, reason: str) -> None:
    with pytest.raises(CorruptDeltaError, match=reason):
        check_id(value)


@pytest.mark.parametrize("value", ["a", "\0", "ü" * 100_000])
def test_any_other_id_is_accepted(value: str) -> None:
    assert check_id(value) == value


@pytest.mark.parametrize("value", ["", "\0", "text", None])
def test_any_string_is_a_document(value: str | None) -> None:
    assert check_document(value) == value


@pytest.mark.parametrize(("value", "reason"), [(5, "document is a number"), ("\ud800", "surrogate")])
def test_an_invalid_document_is_an_error(value: object, reason: str) -> None:
    with pytest.raises(CorruptDeltaError, match=reason):
        check_document(value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "empty"),
        ([1, math.nan], "holds NaN"),
        ([1, -math.inf], "holds infinity"),
        ([1, 1e39], "holds 1e\\+39, beyond the range of float32"),
        ([1, 10**400], "beyond the range of float32"),
        ([1, True], "holds a boolean"),
        ([1, "2"], "holds a string"),
        ([1, None], "holds null"),
        ([[1]], "holds a list"),
        ("12", "is a string"),
        (5, "is a number"),
        (None, "is null"),
        ({"a": 1}, "is an object"),
    ],
)
def test_an_invalid_embedding_is_an_error(value: object, reason: str) -> None:
    with pytest.raises(CorruptDeltaError, match=reason):
        check_embedding(value)


def test_an_embedding_becomes_float32() -> None:
    vector = check_embedding([1, 0.1, np.float32(0.5), np.int64(3)])

    assert vector.dtype == np.float32
    assert vector.tolist() == [1.0, float(np.float32(0.1)), 0.5, 3.0]


def test_a_zero_vector_is_accepted() -> None:
    assert check_embedding([0, 0]).tolist() == [0.0, 0.0]


def test_the_error_about_a_matrix_names_the_row() -> None:
    with pytest.raises(CorruptDeltaError, match=r"^row 7 \(id 'h'\): embedding holds infinity$"):
        narrow_rows(np.array([[1.0, 2.0], [math.inf, 1.0]]), "abcdefgh", [3, 7])


@pytest.mark.parametrize("vector", [[1e19, 0], [3e38, -3e38], [9e16] * MAX_DIMENSION])
def test_a_vector_whose_distances_overflow_float32_is_an_error(vector: list[float]) -> None:
    with pytest.raises(CorruptDeltaError, match="embedding is too long"):
        check_embedding(vector)
    with pytest.raises(CorruptDeltaError, match=r"^row 1 \(id 'b'\): embedding is too long"):
        narrow_rows(np.array([[0] * len(vector), vector]), ["a", "b"])


@given(
    st.integers(1, 40).flatmap(
        lambda size: st.tuples(*[st.lists(st.floats(-1e19, 1e19), min_size=size, max_size=size)] * 2)
    )
)
def test_accepted_vectors_have_finite_distances(pair: tuple[list[float], list[float]]) -> None:
    try:
        a, b = map(check_embedding, pair)
    except CorruptDeltaError:
        return
    distances = [((a - b) ** 2).sum(dtype=np.float32), (a * b).sum(dtype=np.float32), (a * a).sum(dtype=np.float32)]

    assert np.isfinite(distances).all()


@pytest.mark.parametrize("vector", [[1, 1], [0, 0], [9e18, 0]])
def test_ordinary_vectors_are_accepted(vector: list[float]) -> None:
    assert check_embedding(vector).tolist() == np.array(vector, dtype=np.float32).tolist()


def test_a_vector_of_too_many_dimensions_is_an_error() -> None:
    assert len(check_embedding([1] * MAX_DIMENSION)) == MAX_DIMENSION
    with pytest.raises(CorruptDeltaError, match="16385 dimensions, more than the limit"):
        check_embedding([1] * (MAX_DIMENSION + 1))
    with pytest.raises(CorruptDeltaError, match=r"^row 0 \(id 'a'\): .* more than the limit"):
        narrow_rows(np.ones((1, MAX_DIMENSION + 1)), ["a"])


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({f"k{key}": 1 for key in range(MAX_METADATA_KEYS + 1)}, "1001 keys, more than the limit"),
        ({"a": [1] * (MAX_METADATA_VALUES + 1)}, "10001 values, those in lists included"),
        ({"a": [1] * (MAX_METADATA_VALUES // 2), "b": [2] * (MAX_METADATA_VALUES // 2), "c": 3}, "10001 values"),
    ],
)
def test_too_much_metadata_is_an_error(metadata: dict[str, Any], reason: str) -> None:
    with pytest.raises(CorruptDeltaError, match=reason):
        check_metadata(metadata)


def test_metadata_within_the_limits_is_accepted() -> None:
    assert check_metadata({f"k{key}": 1 for key in range(MAX_METADATA_KEYS)})
    assert check_metadata({"a": [1] * MAX_METADATA_VALUES})
    assert check_metadata({"a": "x" * MAX_METADATA_VALUES * 2})


class Kind(str, enum.Enum):  # noqa: UP042 - it must be one whose str() is not its value
    """An enumeration of strings."""

    NOTE = "note"


class Level(enum.IntEnum):
    """An enumeration of integers."""

    HIGH = 2


@pytest.mark.parametrize("text", [Kind.NOTE, np.str_("note")])
def test_an_instance_of_a_subclass_of_str_is_the_string_it_holds(text: str) -> None:
    assert (check_id(text), type(check_id(text))) == ("note", str)
    assert (check_document(text), type(check_document(text))) == ("note", str)
    assert check_metadata({text: text, "list": [text, "b"]}) == '{"list":["note","b"],"note":"note"}'


def test_numbers_of_subclasses_keep_their_value() -> None:
    assert check_metadata({"a": Level.HIGH, "b": np.float64(0.5), "c": [Level.HIGH]}) == '{"a":2,"b":0.5,"c":[2]}'


@pytest.mark.parametrize("number", [np.int64(1), np.float32(1), np.True_])
def test_numbers_of_numpy_that_chromadb_refuses_are_an_error(number: object) -> None:
    with pytest.raises(CorruptDeltaError, match="metadata key 'a' holds a"):
        check_metadata({"a": number})


def test_the_error_about_a_column_names_row_and_id() -> None:
    with pytest.raises(CorruptDeltaError, match=r"^row 1 \(id 'b'\): document is a number, not a string$"):
        check_each(check_document, ["x", 5], ["a", "b"])


def test_a_row_without_id_is_named_by_its_number() -> None:
    assert str(row_error(3, None, "id is missing")) == "row 3: id is missing"


def test_a_long_id_is_cut_in_messages() -> None:
    assert shown("x" * 1000) == f"{'x' * 60!r}... (1000 characters)"
