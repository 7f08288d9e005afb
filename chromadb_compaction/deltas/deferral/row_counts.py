"""The rows and unpacked bytes of a pending delta: from the end of a Parquet file, or all of a JSON Lines file.

The small functions use it, so it imports neither pyarrow nor numpy. It judges nothing: MergeBatch does.
"""

from __future__ import annotations

import zlib
from typing import Final

from chromadb_compaction.deltas.deferral.rule import PendingSize
from chromadb_compaction.deltas.parquet.thrift import read_struct
from chromadb_compaction.errors import ObjectMissingError, PreconditionFailedError, UnreadableObjectError
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import ObjectStore

TAIL_BYTES: Final = 16 * 1024
"""The part of a Parquet file that is read first. A footer of DeltaWriter has 2 KB."""
LARGEST_FOOTER: Final = 1024 * 1024
_CHUNK_BYTES: Final = 64 * 1024
_MAGIC: Final = b"PAR1"
_GZIP: Final = 31
"""The window of zlib for a file with gzip's header."""


def count_rows(delta: ObjectInfo, objects: ObjectStore, *, most_bytes: int) -> PendingSize | None:
    """Return the size of one delta, with its rows.

    Return None if the rows cannot be counted: the object has gone or cannot be read, or its content makes no sense, or
    takes more than `most_bytes`. Raises TransientStorageError.
    """
    try:
        rows, unpacked = (
            _of_parquet(delta, objects)
            if delta.key.endswith(".parquet")
            else _of_lines(objects.get(delta.key).body, most_bytes)
        )
    except (ObjectMissingError, PreconditionFailedError, UnreadableObjectError):
        return None
    except (AttributeError, EOFError, IndexError, KeyError, TypeError, ValueError, zlib.error):
        return None
    return PendingSize(1, delta.bytes, delta.modified, rows, unpacked) if rows >= 0 <= unpacked else None


def _of_parquet(delta: ObjectInfo, objects: ObjectStore) -> tuple[int, int]:
    def read(start: int) -> bytes:
        return objects.get_range(delta.key, max(0, start), delta.bytes, etag=delta.etag)

    tail = read(delta.bytes - TAIL_BYTES)
    size = int.from_bytes(tail[-8:-4], "little") + 8
    if tail[-4:] != _MAGIC or size > LARGEST_FOOTER or size > delta.bytes:
        raise ValueError("not a Parquet file")
    if size > len(tail):
        tail = read(delta.bytes - size)
    footer = read_struct(tail, len(tail) - size)[0]
    return int(footer[3]), sum(int(group[2]) for group in footer.get(4, []))


def _of_lines(body: bytes, most_bytes: int) -> tuple[int, int]:
    """Return the lines and bytes of a gzip file. A header counts as a line."""
    lines = unpacked = 0
    while body:  # a gzip file may have several members
        member = zlib.decompressobj(_GZIP)
        while not member.eof:
            text = member.decompress(body, _CHUNK_BYTES)
            body = member.unconsumed_tail
            if not text and not body and not member.eof:
                raise EOFError("the file is cut off")
            lines, unpacked = lines + text.count(b"\n"), unpacked + len(text)
            if unpacked > most_bytes:
                raise ValueError("too large")
        body = member.unused_data
    return lines, unpacked
