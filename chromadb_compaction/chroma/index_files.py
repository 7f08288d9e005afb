"""Read the files of ChromaDB's HNSW index without ChromaDB: the number of entries, and the vectors of live ids.

hnswlib never reclaims an entry: a deleted one stays in the files and in the graph until the index is rebuilt.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chromadb_compaction.configuration import Space

Vectors = NDArray[np.float32]

_HEADER = struct.Struct("<iQQQQQQ")
_CAPACITY_AT = struct.calcsize("<iQ")
"""The place of the capacity in header.bin, in bytes."""
LEAST_CAPACITY: Final = 100
"""The entries for which ChromaDB makes room in a new index. Its files are as large as if all were there."""


class _Header(NamedTuple):
    """The first fields of hnswlib's header.bin. Sizes and offsets are in bytes."""

    version: int
    offset_level0: int
    capacity: int
    entries: int
    entry_size: int
    label_offset: int
    vector_offset: int


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler that reads only dictionaries, strings and numbers, because any other class could run code."""

    def find_class(self, module: str, name: str) -> object:
        raise pickle.UnpicklingError(f"the index's metadata holds {module}.{name}, which is not a plain value")


def entries(segment: Path) -> int:
    """Return how many entries the index has, dead ones included. It is 0 if the index was never flushed."""
    header = segment / "header.bin"
    return _header(header).entries if header.exists() else 0


def trim_capacity(segment: Path) -> None:
    """Remove the room for entries that an index of less than LEAST_CAPACITY does not have. ChromaDB is not open.

    ChromaDB makes room again as soon as it adds an entry, as in any index that is full.
    """
    path = segment / "header.bin"
    header = _header(path) if path.exists() else None
    if header is None or not 0 < header.entries < header.capacity <= LEAST_CAPACITY:
        return
    with path.open("r+b") as file:
        file.seek(_CAPACITY_AT)
        file.write(struct.pack("<Q", header.entries))
    os.truncate(segment / "data_level0.bin", header.entries * header.entry_size)
    os.truncate(segment / "length.bin", header.entries * 4)


class _MappedFile:
    """A memory-mapped file as an array of bytes."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        with path.open("r+b" if writable else "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)
        self.bytes = np.frombuffer(self._map, np.uint8)

    def release_pages(self) -> None:
        """Release the pages that were read or written from this process's memory. The file keeps them."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


class StoredVectors:
    """The live vectors of an index. The files are mapped, so they may be removed while this object is in use.

    Cosine vectors are stored scaled to length 1, with their lengths in a file of their own. So they are read back
    rounded.
    """

    def __init__(self, segment: Path, dimension: int, space: Space, *, writable: bool = False) -> None:
        header = _header(segment / "header.bin")
        self._level0 = _MappedFile(segment / "data_level0.bin", writable=writable)
        mapped = self._level0.bytes[: header.entries * header.entry_size]
        stored = mapped.reshape(header.entries, header.entry_size)
        # Views into every entry, because vectors and labels lie between the links of the graph.
        self._vectors = stored[:, header.vector_offset : header.vector_offset + 4 * dimension].view("<f4")
        labels = stored[:, header.label_offset : header.label_offset + 8].copy().view("<u8").ravel()
        self._lengths = _MappedFile(segment / "length.bin", writable=writable).bytes.view("<f4")[: header.entries]
        self._scaled = space == "cosine"
        entry_of = {label: entry for entry, label in enumerate(labels.tolist())}
        metadata = _PlainUnpickler(io.BytesIO((segment / "index_metadata.pickle").read_bytes())).load()
        self._entry_of: dict[str, int] = {row_id: entry_of[label] for row_id, label in metadata["id_to_label"].items()}

    def ids(self) -> list[str]:
        """Return the live ids, the oldest entry first."""
        return sorted(self._entry_of, key=self._entry_of.__getitem__)

    def missing(self, ids: Sequence[str]) -> str | None:
        """Return the first of the ids that is not live in the index, None if all are."""
        return next((row_id for row_id in ids if row_id not in self._entry_of), None)

    def read(self, ids: Sequence[str]) -> Vectors:
        """Return the vectors of live ids as ChromaDB received them, except for rounding, one row each."""
        vectors, lengths = self.read_stored(ids)
        return vectors if lengths is None else np.asarray(vectors * lengths[:, None])

    def read_stored(self, ids: Sequence[str]) -> tuple[Vectors, Vectors | None]:
        """Return the vectors of live ids as the file holds them, one row each, and the lengths of cosine vectors."""
        at = [self._entry_of[row_id] for row_id in ids]
        found = np.ascontiguousarray(self._vectors[at], np.float32), self._lengths[at] if self._scaled else None
        self._level0.release_pages()
        return found

    def overwrite(self, ids: Sequence[str], vectors: Vectors, lengths: Vectors | None) -> None:
        """Store what `read_stored` returned for live ids of another index. Needs `writable`. The graph is unchanged."""
        at = [self._entry_of[row_id] for row_id in ids]
        self._vectors[at] = vectors
        if lengths is not None:
            self._lengths[at] = lengths
        self._level0.release_pages()


def _header(path: Path) -> _Header:
    return _Header(*_HEADER.unpack(path.read_bytes()[: _HEADER.size]))
