"""Numbers of variable length, as Thrift's compact protocol and Parquet's delta encodings store them."""

from __future__ import annotations


def varint(content: bytes, at: int) -> tuple[int, int]:
    """Return the unsigned number at position `at`, and the position after it.

    Raises ValueError for a number of more than ten bytes, and IndexError at the end of the content.
    """
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number has more than ten bytes")


def zigzag(content: bytes, at: int) -> tuple[int, int]:
    """Return the signed number at position `at`, and the position after it. Raises the errors of `varint`."""
    value, at = varint(content, at)
    return (value >> 1) ^ -(value & 1), at
