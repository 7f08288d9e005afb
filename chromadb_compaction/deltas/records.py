"""The rules for one row: those of ChromaDB 1.5.9, and stricter ones where it would silently change data.

Every check returns the value in the form that is stored and fingerprinted, or raises CorruptDeltaError. That error does
not name the row: callers add it with row_error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from chromadb_compaction.deltas import strict_json
from chromadb_compaction.deltas.limits import (
    MAX_DIMENSION,
    MAX_METADATA_KEYS,
    MAX_METADATA_VALUES,
    MAX_SQUARED_LENGTH,
)
from chromadb_compaction.errors import CorruptDeltaError

Vector = NDArray[np.float32]
Matrix = NDArray[Any]
Checked = TypeVar("Checked")

COLUMNS = ("id", "op", "embedding", "document", "metadata", "uri")
UPSERT, DELETE = "upsert", "delete"
ROW_BYTES = 64
"""The memory that an empty row takes."""

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_NUMBERS = (int, float, np.integer, np.floating)
_SHOWN = 60
_JSON_TYPES = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}


def shown(text: str) -> str:
    """Return `text` quoted for a message, cut if it is long."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}... ({len(text)} characters)"


def row_error(row: int, row_id: object, reason: str, *, next_step: str | None = None) -> CorruptDeltaError:
    """Return the error for row number `row` (0-based): "row 17 (id 'doc-3'): embedding holds NaN"."""
    named = f" (id {shown(row_id)})" if isinstance(row_id, str) and row_id else ""
    return CorruptDeltaError(f"row {row}{named}: {reason}", next_step=next_step)


def check_names(names: Collection[str], kind: str) -> None:
    """Raise CorruptDeltaError for an unknown name: a misspelt one would lose data. `kind` is "column" or "name"."""
    unknown = next((name for name in names if name not in COLUMNS), None)
    if unknown is not None:
        raise CorruptDeltaError(f"the {kind} {shown(unknown)} is unknown", next_step=f"use only {', '.join(COLUMNS)}")


def check_op(op: object) -> bool:
    """Return whether the row is a delete. A row without op is an upsert."""
    if op not in (None, UPSERT, DELETE):
        raise CorruptDeltaError(f"op is {op!r}; it must be {UPSERT!r} or {DELETE!r}")
    return op == DELETE


def check_delete(row: Mapping[str, object]) -> None:
    """Raise CorruptDeltaError for a delete that has a value beside its id: it may have been meant as an upsert."""
    for name in COLUMNS:
        if name not in ("id", "op") and row.get(name) is not None:
            raise value_in_delete(name)


def value_in_delete(column: str) -> CorruptDeltaError:
    """Return the error for a delete that has a value in `column`."""
    return CorruptDeltaError(
        f"a delete carries nothing but its id, and this row has a value in {column}",
        next_step=f"leave {column} out, or write the row as an upsert",
    )


def check_id(value: object) -> str:
    """Return the id, a non-empty string that UTF-8 can encode."""
    if value is None:
        raise CorruptDeltaError("id is missing")
    if not isinstance(value, str):
        raise CorruptDeltaError(f"id is {_kind(value)}, not a string")
    if not value:
        raise CorruptDeltaError("id is empty")
    return _encodable(value, "id")


def check_document(value: object) -> str | None:
    """Return the document: any string, even an empty one, or None without a document."""
    return _check_text(value, "document")


def check_uri(value: object) -> str | None:
    """Return the URI: any string, as in ChromaDB. None is no URI."""
    return _check_text(value, "uri")


def check_metadata(value: object) -> str | None:
    """Return metadata as canonical JSON (keys sorted, no spaces), or None if it is empty.

    As in ChromaDB, a key with the value None is dropped, and -0.0 becomes 0.0. Bool, int and float keep their types.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise CorruptDeltaError(f"metadata is {_kind(value)}, not an object of keys and values")
    if len(value) > MAX_METADATA_KEYS:
        raise CorruptDeltaError(f"metadata has {len(value)} keys, more than the limit of {MAX_METADATA_KEYS}")
    checked = {_key(key): item for key, item in value.items()}
    kept = {key: _value(key, item) for key, item in checked.items() if item is not None}
    if not kept:
        return None
    text = orjson.dumps(kept, option=orjson.OPT_SORT_KEYS)
    if len(text) > MAX_METADATA_VALUES:  # only then can there be so many
        _check_value_count(kept)
    return text.decode()


def check_metadata_text(text: str | None) -> str | None:
    """Return canonical metadata from a string that holds a JSON object."""
    if text is None:
        return None
    try:
        value = strict_json.parse(_encodable(text, "metadata").encode())
    except ValueError as error:
        raise CorruptDeltaError(f"metadata {error}") from error
    return check_metadata(value)


def check_embedding(value: object) -> Vector:
    """Return a sequence of numbers as a float32 vector. NaN, infinity and numbers beyond float32 are errors."""
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise CorruptDeltaError(f"embedding is {_kind(value)}, not a list of numbers")
    if not value:
        raise CorruptDeltaError("embedding is empty")
    if len(value) > MAX_DIMENSION:
        raise _too_many_dimensions(len(value))
    if not all(issubclass(kind, _NUMBERS) and kind is not bool for kind in set(map(type, value))):
        strange = next(item for item in value if not isinstance(item, _NUMBERS) or isinstance(item, bool))
        raise CorruptDeltaError(f"embedding holds {_kind(strange)}, not only numbers")
    try:
        wide = np.array(value, dtype=np.float64)
    except OverflowError as error:
        raise CorruptDeltaError("embedding holds a number beyond the range of float32") from error
    return narrow(wide)


def narrow(wide: Matrix) -> Vector:
    """Return numbers of any width as float32: one vector, or a matrix with a vector in each row.

    Every number must be finite in float32, and no vector may be longer than the limits allow.
    """
    dimension = wide.shape[-1]
    if dimension > MAX_DIMENSION:
        raise _too_many_dimensions(dimension)
    with np.errstate(over="ignore"):
        vectors: Vector = np.ascontiguousarray(wide, dtype="<f4")
    largest = max(float(vectors.max(initial=0)), -float(vectors.min(initial=0)))  # NaN if any number is
    if largest * largest * dimension <= MAX_SQUARED_LENGTH:
        return vectors
    if not math.isfinite(largest):
        raise CorruptDeltaError(_not_finite(wide))
    if (np.einsum("...j,...j->...", vectors, vectors, dtype=np.float64) > MAX_SQUARED_LENGTH).any():
        raise CorruptDeltaError(
            "embedding is too long: its distances would overflow float32",
            next_step=f"scale the vectors down, to a length of at most {math.sqrt(MAX_SQUARED_LENGTH):.3g}",
        )
    return vectors


def narrow_rows(wide: Matrix, ids: Sequence[str], rows: Sequence[int] | None = None) -> Vector:
    """Return a matrix of numbers as float32. Errors name the row and its id. Vector i is row rows[i], by default i."""
    try:
        return narrow(wide)
    except CorruptDeltaError:
        for at, vector in enumerate(wide):
            try:
                narrow(vector)
            except CorruptDeltaError as error:
                row = at if rows is None else rows[at]
                raise row_error(row, ids[row], error.message, next_step=error.next_step) from error
        raise


def check_each(check: Callable[[Any], Checked], values: Iterable[object], ids: Sequence[object]) -> list[Checked]:
    """Return `check(value)` for the value of each row. Errors name the row and its id."""
    checked: list[Checked] = []
    for row, value in enumerate(values):
        try:
            checked.append(check(value))
        except CorruptDeltaError as error:
            raise row_error(row, ids[row], error.message, next_step=error.next_step) from error
    return checked


def _check_text(value: object, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise CorruptDeltaError(f"{name} is {_kind(value)}, not a string")
    return None if value is None else _encodable(value, name)


def _too_many_dimensions(found: int) -> CorruptDeltaError:
    return CorruptDeltaError(f"embedding has {found} dimensions, more than the limit of {MAX_DIMENSION}")


def count_values(metadata: Mapping[str, object]) -> int:
    """Return the number of values, those in lists included."""
    return sum(len(value) if isinstance(value, list) else 1 for value in metadata.values())


def _check_value_count(metadata: Mapping[str, object]) -> None:
    count = count_values(metadata)
    if count > MAX_METADATA_VALUES:
        raise CorruptDeltaError(
            f"metadata has {count} values, those in lists included, more than the limit of {MAX_METADATA_VALUES}",
            next_step="store long lists as JSON strings, or elsewhere",
        )


def _not_finite(wide: Matrix) -> str:
    if np.isnan(wide).any():
        return "embedding holds NaN"
    if np.isinf(wide).any():
        return "embedding holds infinity"
    return f"embedding holds {wide.flat[np.abs(wide).argmax()]:.6g}, beyond the range of float32"


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise CorruptDeltaError(f"metadata key {key!r} is not a string")
    if not key:
        raise CorruptDeltaError("metadata has an empty key, which ChromaDB refuses")
    if key[0] in "#$":
        raise _key_error(key, f"starts with {key[0]!r}, which ChromaDB refuses", "rename the key")
    if key.startswith("chroma:"):
        raise _key_error(key, "starts with 'chroma:', which ChromaDB reserves", "rename the key")
    return _encodable(key, "a metadata key")


def _value(key: str, value: object) -> object:
    if not isinstance(value, list):
        return _scalar(key, value)
    if not value:
        raise _key_error(key, "holds an empty list, which ChromaDB refuses", "leave the key out")
    items = [_scalar(key, item, within="a list with ") for item in value]
    if len({type(item) for item in items}) > 1:
        raise _key_error(key, "holds a list of mixed types; ChromaDB requires one type")
    return items


def _scalar(key: str, value: object, *, within: str = "") -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _encodable(value, "the value of metadata key", key)
    if isinstance(value, int):
        if not _INT64_MIN <= value <= _INT64_MAX:
            raise _key_error(key, f"holds {within}an integer beyond 64 bits", "store it as a string")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _key_error(key, f"holds {within}{_non_finite_name(value)}")
        return float(value) + 0.0  # -0.0 + 0.0 is 0.0
    allowed = "ChromaDB accepts strings, numbers, booleans and flat lists"
    raise _key_error(key, f"holds {within}{_kind(value)}; {allowed}", "store it as a JSON string")


def _key_error(key: str, problem: str, next_step: str | None = None) -> CorruptDeltaError:
    return CorruptDeltaError(f"metadata key {shown(key)} {problem}", next_step=next_step)


def _encodable(value: str, what: str, key: str | None = None) -> str:
    """Return the string. An instance of a subclass, such as an enumeration's, becomes the plain string it holds."""
    text = value if type(value) is str else str.__str__(value)
    if text.isascii():  # a flag of the string: no scan
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        named = what if key is None else f"{what} {shown(key)}"
        raise CorruptDeltaError(f"{named} holds a lone surrogate, which UTF-8 cannot encode") from error
    return text


def _non_finite_name(value: float) -> str:
    return "NaN" if math.isnan(value) else "infinity"


def _kind(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return _non_finite_name(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"the number {value:.17g}" if isinstance(value, float) else "a number"
    return _JSON_TYPES.get(type(value), f"a {type(value).__name__}")
