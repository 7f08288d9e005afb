"""Damage to bytes: flips, cuts, splices, and wrong counts, offsets and sizes in Parquet."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

HOSTILE = (0, 1, 127, 128, 255, 2**15, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**64 - 1)
"""Numbers at which counters, sizes and offsets overflow."""

Damage = Callable[[bytes, Random], bytes]


def flip(body: bytes, chance: Random) -> bytes:
    """Flip single bits of one to eight bytes."""
    changed = bytearray(body)
    for _ in range(chance.choice((1, 1, 2, 8))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def overwrite(body: bytes, chance: Random) -> bytes:
    """Overwrite a range with zeros, ones or noise."""
    at, size = chance.randrange(len(body)), chance.choice((1, 4, 16, 256))
    filling = chance.choice((bytes(size), b"\xff" * size, chance.randbytes(size)))
    return body[:at] + filling + body[at + size :]


def cut(body: bytes, chance: Random) -> bytes:
    """Remove the end, the beginning or the middle."""
    start, end = sorted((chance.randrange(len(body)), chance.randrange(len(body))))
    return chance.choice((body[:end], body[start:], body[:start] + body[end:]))


def repeat(body: bytes, chance: Random) -> bytes:
    """Repeat a range."""
    start, end = sorted((chance.randrange(len(body)), chance.randrange(len(body))))
    return body[:end] + body[start:]


def splice(body: bytes, other: bytes, chance: Random) -> bytes:
    """Join the beginning of one file and the end of another."""
    return body[: chance.randrange(len(body))] + other[chance.randrange(len(other)) :]


def change_footer_numbers(body: bytes, chance: Random) -> bytes:
    """Change numbers of the footer, and correct the length of the footer."""
    size = struct.unpack("<I", body[-8:-4])[0]
    data, footer = body[: -8 - size], body[-8 - size : -8]
    for _ in range(chance.choice((1, 1, 2, 4))):
        footer = _with_another_number(footer, chance)
    return data + footer + struct.pack("<I", len(footer)) + body[-4:]


def change_footer_length(body: bytes, chance: Random) -> bytes:
    """State a wrong length of the footer."""
    size = struct.unpack("<I", body[-8:-4])[0]
    stated = chance.choice((0, 1, size - 1, size + 1, len(body) - 8, len(body), 2**31 - 1, 2**31, 2**32 - 1))
    return body[:-8] + struct.pack("<I", stated) + body[-4:]


def change_page_header(body: bytes, chance: Random) -> bytes:
    """Change numbers in the header of a page: sizes, count of values, encodings."""
    shape = pq.read_metadata(pa.BufferReader(body))
    groups = [shape.row_group(number) for number in range(shape.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(shape.num_columns)]
    starts = [c.dictionary_page_offset or c.data_page_offset for c in columns] + [c.data_page_offset for c in columns]
    at = chance.choice(starts)
    end = min(at + 24, len(body))
    header = body[at:end]
    for _ in range(chance.choice((1, 1, 2))):
        changed = _with_another_number(header, chance)
        header = changed if len(changed) == len(header) or chance.random() < 0.3 else changed[: end - at]
    return body[:at] + header + body[end:]


ANYWHERE: dict[str, Damage] = {"flipped": flip, "overwritten": overwrite, "cut": cut, "repeated": repeat}
IN_PARQUET: dict[str, Damage] = {
    "footer-numbers": change_footer_numbers,
    "footer-length": change_footer_length,
    "page-numbers": change_page_header,
}


def _with_another_number(text: bytes, chance: Random) -> bytes:
    """Replace a byte, or a possible varint, by a hostile number in Thrift's zigzag encoding."""
    at = chance.randrange(len(text))
    end = at
    while end < len(text) - 1 and text[end] & 0x80:
        end += 1
    return text[:at] + _varint(chance.choice(HOSTILE) << chance.randrange(2)) + text[end + 1 :]


def _varint(number: int) -> bytes:
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
