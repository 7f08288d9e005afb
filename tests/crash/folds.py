"""A cache of folds. A fold depends only on its request and on the files that it names, so equal folds run once.

Thousands of runs need only a few dozen folds, each by the real ChromaDB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from chromadb_compaction.chroma.loader import Progress
from chromadb_compaction.errors import CompactionError
from chromadb_compaction.fold.fold import FoldRequest, FoldResult, fold_collection, no_progress
from chromadb_compaction.fold.reshaping import Reshaped, Source
from chromadb_compaction.rows.id_ranges import IdRange
from tests.crash.determinism import files_on, write_files


class _StoredFold(NamedTuple):
    result: FoldResult | CompactionError
    directory: dict[str, bytes]


class _StoredMove(NamedTuple):
    ledger: bytes
    moved: bytes
    base_sum: str


class FoldMemory:
    """The result and the directory of each distinct fold, and the moved rows of each distinct unit."""

    def __init__(self) -> None:
        self._known: dict[bytes, _StoredFold] = {}
        self._moves: dict[bytes, _StoredMove] = {}

    def __len__(self) -> int:
        return len(self._known)

    def fold(self, request: FoldRequest, *, progress: Progress = no_progress) -> FoldResult:
        """Fold, or restore an earlier result. A replacement of fold.fold_collection."""
        key = _key(request)
        if key not in self._known:
            self._known[key] = _folded(request, progress)
        stored = self._known[key]
        write_files(request.directory, stored.directory)
        if isinstance(stored.result, CompactionError):
            raise stored.result
        return stored.result

    def reshaping(self, right: Callable[..., Reshaped]) -> Callable[..., Reshaped]:
        """Return a replacement of `right`, which is reshaping.reshape, that restores earlier results."""

        def reshape(sources: Sequence[Source], ids: IdRange, *, into: Path, **options: object) -> Reshaped:
            digest = hashlib.blake2b(repr(ids).encode(), digest_size=16)
            for path, content in sorted(each for source in sources for each in files_on(source.directory).items()):
                digest.update(path.encode() + hashlib.blake2b(content).digest())
            key = digest.digest()
            if key not in self._moves:
                found = right(sources, ids, into=into, **options)
                self._moves[key] = _StoredMove(found.ledger.read_bytes(), found.moved.read_bytes(), found.base_sum)
            stored = self._moves[key]
            write_files(into, {"ledger.parquet": stored.ledger, "moved.parquet": stored.moved})
            return Reshaped(into / "ledger.parquet", into / "moved.parquet", stored.base_sum)

        return reshape


def _folded(request: FoldRequest, progress: Progress) -> _StoredFold:
    result: FoldResult | CompactionError
    try:
        result = fold_collection(request, progress=progress)
    except CompactionError as error:
        result = error
    return _StoredFold(result, files_on(request.directory))


def _key(request: FoldRequest) -> bytes:
    """Return a digest of the request, with the content of its files instead of their paths."""
    if request.next_ledger.parent != request.directory:
        raise NotImplementedError("the ledger is outside the directory")
    digest = hashlib.blake2b(digest_size=16)
    paths = {"directory", "next_ledger", "ledger", "runs", "moved"}
    digest.update(request.model_dump_json(exclude=paths).encode() + str(request.ledger is None).encode())
    for name, content in sorted(files_on(request.directory).items()):
        digest.update(name.encode() + hashlib.blake2b(content).digest())
    base = [each for each in (request.moved, request.moved and request.ledger) if each is not None]
    for path in [*request.runs, *base]:
        digest.update(hashlib.blake2b(path.read_bytes()).digest())
    return digest.digest()
