"""The files of ChromaDB's HNSW index, read without ChromaDB: how many entries it has, and the vectors of live ids.

hnswlib never reclaims an entry: a deleted one stays in its files, and in its graph, until the index is built anew.
"""

from __future__ import annotations

import io
import mmap
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chromadb_compaction.manifest import Space

Vectors = NDArray[np.float32]

_HEADER = struct.Struct("<iQQQQQQ")


class _Header(NamedTuple):
    """hnswlib's header.bin, up to what is needed here; sizes and offsets in bytes."""

    version: int
    offset_level0: int
    capacity: int
    entries: int
    entry_size: int
    label_offset: int
    vector_offset: int


class _Plain(pickle.Unpickler):
    """Reads dictionaries, strings and numbers, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> object:
        raise pickle.UnpicklingError(f"an index's metadata holds {module}.{name}, not only plain values")


def entries(segment: Path) -> int:
    """Return how many entries the index has, dead ones included; none if it was never flushed."""
    header = segment / "header.bin"
    return _header(header).entries if header.exists() else 0


class _Mapped:
    """A file as bytes, in memory only where and while it is used."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        with path.open("r+b" if writable else "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)
        self.bytes = np.frombuffer(self._map, np.uint8)

    def release_pages(self) -> None:
        """Take what was touched out of this process's memory; the file keeps it."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


class StoredVectors:
    """The live vectors of an index. The files are mapped: they may be removed while this is in use.

    Cosine vectors are stored at length 1, and their lengths apart from them; so what is read back is rounded.
    """

    def __init__(self, segment: Path, dimension: int, space: Space, *, writable: bool = False) -> None:
        header = _header(segment / "header.bin")
        self._level0 = _Mapped(segment / "data_level0.bin", writable=writable)
        mapped = self._level0.bytes[: header.entries * header.entry_size]
        stored = mapped.reshape(header.entries, header.entry_size)
        # Views into every entry: vectors and labels stand between the links of the graph.
        self._vectors = stored[:, header.vector_offset : header.vector_offset + 4 * dimension].view("<f4")
        labels = stored[:, header.label_offset : header.label_offset + 8].copy().view("<u8").ravel()
        self._lengths = _Mapped(segment / "length.bin", writable=writable).bytes.view("<f4")[: header.entries]
        self._scaled = space == "cosine"
        place = {label: at for at, label in enumerate(labels.tolist())}
        metadata = _Plain(io.BytesIO((segment / "index_metadata.pickle").read_bytes())).load()
        self._place: dict[str, int] = {row_id: place[label] for row_id, label in metadata["id_to_label"].items()}

    def ids(self) -> list[str]:
        """Return the live ids, the oldest entry first."""
        return sorted(self._place, key=self._place.__getitem__)

    def read(self, ids: Sequence[str]) -> Vectors:
        """Return the vectors of live ids as they were given to ChromaDB, but for rounding; one row each."""
        vectors, lengths = self.stored(ids)
        return vectors if lengths is None else np.asarray(vectors * lengths[:, None])

    def stored(self, ids: Sequence[str]) -> tuple[Vectors, Vectors | None]:
        """Return the vectors of live ids as they are stored, one row each, and their lengths, if those are apart."""
        at = [self._place[row_id] for row_id in ids]
        found = np.ascontiguousarray(self._vectors[at], np.float32), self._lengths[at] if self._scaled else None
        self._level0.release_pages()
        return found

    def overwrite(self, ids: Sequence[str], vectors: Vectors, lengths: Vectors | None) -> None:
        """Store for live ids what `stored` returned for them; the graph stays. Needs `writable`."""
        at = [self._place[row_id] for row_id in ids]
        self._vectors[at] = vectors
        if lengths is not None:
            self._lengths[at] = lengths
        self._level0.release_pages()


def _header(path: Path) -> _Header:
    return _Header(*_HEADER.unpack(path.read_bytes()[: _HEADER.size]))
