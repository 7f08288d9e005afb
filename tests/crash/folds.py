"""Folds that were done before. A fold is a function of its request and of the files that it names: same files in, an
outcome as good as the first out. So thousands of runs cost a few dozen folds, every one of them by the real ChromaDB.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from chromadb_compaction.chroma.loader import Progress
from chromadb_compaction.errors import CompactionError
from chromadb_compaction.fold.fold import FoldRequest, FoldResult, fold_collection, no_progress
from tests.crash.determinism import files_on, write_files


class _Outcome(NamedTuple):
    result: FoldResult | CompactionError
    directory: dict[str, bytes]


class FoldMemory:
    """What each distinct fold made of its directory."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Outcome] = {}

    def __len__(self) -> int:
        return len(self._known)

    def fold(self, request: FoldRequest, *, progress: Progress = no_progress) -> FoldResult:
        """Do what steps.fold does."""
        key = _key(request)
        if key not in self._known:
            self._known[key] = _folded(request, progress)
        outcome = self._known[key]
        write_files(request.directory, outcome.directory)
        if isinstance(outcome.result, CompactionError):
            raise outcome.result
        return outcome.result


def _folded(request: FoldRequest, progress: Progress) -> _Outcome:
    result: FoldResult | CompactionError
    try:
        result = fold_collection(request, progress=progress)
    except CompactionError as error:
        result = error
    return _Outcome(result, files_on(request.directory))


def _key(request: FoldRequest) -> bytes:
    """Return a digest of the request, with what its paths hold in place of the paths."""
    if request.next_ledger.parent != request.directory:
        raise NotImplementedError("a ledger outside of the directory")
    digest = hashlib.blake2b(digest_size=16)
    digest.update(
        repr((request.collection, request.dimension, request.space, request.base_sum, request.ledger is None)).encode()
    )
    for path, content in sorted(files_on(request.directory).items()):
        digest.update(path.encode() + hashlib.blake2b(content).digest())
    for run in request.runs:
        digest.update(hashlib.blake2b(run.read_bytes()).digest())
    return digest.digest()
