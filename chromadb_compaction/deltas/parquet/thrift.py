"""Structs of Thrift's compact protocol, as Parquet stores its footer and the headers of its pages.

The small functions read footers too, so this module imports neither pyarrow nor numpy.
"""

from __future__ import annotations

from typing import Any

from chromadb_compaction.deltas.parquet.varints import varint, zigzag

_DEEPEST = 16
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 7, 8, 12
_BOOLEANS = (_TRUE, _FALSE)
_SIZES = {_TRUE: 1, _FALSE: 1, _BYTE: 1, _DOUBLE: 8}
_WHOLE_NUMBERS = (4, 5, 6)
_SEQUENCES = (9, 10)

Struct = dict[int, Any]
"""Field number -> value: an int, list or Struct. None for other types, which are not needed here."""


def read_struct(body: bytes, at: int, depth: int = 0) -> tuple[Struct, int]:
    """Read the struct at position `at`. Return it and the position after it.

    Raises IndexError at the end of the file, TypeError or ValueError for bytes that are not a struct. Thousands of
    files are sized, with a few hundred bytes each. So this is one loop, without calls for the usual numbers, those
    below 64.
    """
    if depth > _DEEPEST:
        raise TypeError("nested too deeply")
    fields: Struct = {}
    number = 0
    while head := body[at]:
        at += 1
        kind = head & 15
        if head >> 4:
            number += head >> 4
        else:
            number, at = zigzag(body, at)
        if kind in _WHOLE_NUMBERS:
            value = body[at]
            if value < 0x80:
                fields[number], at = (value >> 1) ^ -(value & 1), at + 1
            else:
                fields[number], at = zigzag(body, at)
        elif kind in _BOOLEANS:
            fields[number] = kind == _TRUE
        else:
            fields[number], at = _value(body, at, kind, depth)
    return fields, at + 1


def _value(body: bytes, at: int, kind: int, depth: int) -> tuple[object, int]:
    if kind in _WHOLE_NUMBERS:
        return zigzag(body, at)
    if kind == _BINARY:
        size, at = varint(body, at)
        return None, _after(body, at + size)
    if kind == _STRUCT:
        return read_struct(body, at, depth + 1)
    if kind in _SEQUENCES:
        return _sequence(body, at, depth)
    return None, _after(body, at + _SIZES[kind])  # Parquet's headers have no other kinds


def _sequence(body: bytes, at: int, depth: int) -> tuple[list[object], int]:
    head, at = body[at], at + 1
    count = head >> 4
    if count == 15:
        count, at = varint(body, at)
    items = []
    for _ in range(count):  # every item takes a byte, so a false count ends with the file
        item, at = _value(body, at, head & 15, depth)
        items.append(item)
    return items, at


def _after(body: bytes, at: int) -> int:
    if at > len(body):
        raise IndexError("beyond the end")
    return at
