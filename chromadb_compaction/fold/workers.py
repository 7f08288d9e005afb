"""Folding several collections at once: large ones in processes of their own, one for every two cores.

Processes, since two folds in threads take nearly twice as long as one; plain ones that answer JSON over a pipe,
since Lambda has no /dev/shm for multiprocessing's pools. This module is also what such a process runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from chromadb_compaction.chroma.loader import Progress
from chromadb_compaction.errors import CompactionError, SnapshotTooLargeError, error_named
from chromadb_compaction.fold.fold import FoldRequest, FoldResult, fold_collection, no_progress

PROCESS_BYTES = 4 * 1024 * 1024
"""Runs smaller than this fold faster than a process starts and imports ChromaDB: 2 s."""

CORES_OF_A_FOLD = 2
"""One builds the index, the other writes the records. Measured on two cores: two folds at once take no less time
than one after the other, and twice the memory."""

PROGRESS_SECONDS = 1.0
"""How often `progress` is called while a process folds."""


class FoldFailure(BaseModel):
    """An error as a process reports it: its kind, message, next step and fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    message: str
    next_step: str | None
    fields: dict[str, JsonValue]


class FoldAnswer(BaseModel):
    """What a process writes to its standard output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: FoldResult | FoldFailure


def run_folds(
    requests: Sequence[FoldRequest], *, progress: Progress = no_progress, at_once: int = sys.maxsize
) -> list[FoldResult]:
    """Fold every collection, at most `at_once` at a time, and return the results in the order of the requests.

    `progress` must be safe to call from several threads; what it raises stops every fold.
    """
    large = [request for request in requests if _run_bytes(request) >= PROCESS_BYTES]
    # The others fold in this process meanwhile, one after the other.
    processes = min((os.cpu_count() or 1) // CORES_OF_A_FOLD, at_once - (len(large) < len(requests)))
    if processes < 2 or len(large) < 2:
        return [fold_collection(request, progress=progress) for request in requests]
    with ThreadPoolExecutor(max_workers=processes) as pool:
        folding = {request.collection: pool.submit(fold_in_worker, request, progress=progress) for request in large}
        here = {r.collection: fold_collection(r, progress=progress) for r in requests if r.collection not in folding}
        there = {collection: future.result() for collection, future in folding.items()}
    return [(here | there)[request.collection] for request in requests]


def fold_in_worker(request: FoldRequest, *, progress: Progress = no_progress) -> FoldResult:
    """Fold one collection in a process of its own. Raises what fold raises; SnapshotTooLargeError if it was killed."""
    # A Lambda's handler finds the code through sys.path alone; so shall the process.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "chromadb_compaction.fold.workers"]
    with subprocess.Popen(  # noqa: S603 - our own module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as child:
        answer = _answer(child, request.model_dump_json().encode(), progress)
    if child.returncode == -signal.SIGKILL:
        raise SnapshotTooLargeError(
            f"{request.collection}: the fold was killed, most likely for want of memory; raise the compactor's memory"
        )
    if child.returncode != 0:
        raise CompactionError(
            f"{request.collection}: the fold's process ended with status {child.returncode}; its log says why"
        )
    outcome = FoldAnswer.model_validate_json(answer).outcome
    if isinstance(outcome, FoldFailure):
        raise error_named(outcome.kind, outcome.message, next_step=outcome.next_step, **outcome.fields)
    return outcome


def _answer(child: subprocess.Popen[bytes], question: bytes, progress: Progress) -> bytes:
    unsent: bytes | None = question
    try:
        while True:
            try:
                return child.communicate(unsent, timeout=PROGRESS_SECONDS)[0]
            except subprocess.TimeoutExpired:
                unsent = None
                progress()
    finally:
        # Done already, unless `progress` raised: then the fold is of no use any more.
        child.kill()


def _run_bytes(request: FoldRequest) -> int:
    return sum(path.stat().st_size for path in request.runs)


def main() -> Literal[0]:
    """Fold the request on standard input and answer on standard output; an unexpected error ends in its traceback."""
    outcome: FoldResult | FoldFailure
    try:
        outcome = fold_collection(FoldRequest.model_validate_json(sys.stdin.buffer.read()))
    except CompactionError as error:
        outcome = FoldFailure.model_validate(
            {"kind": error.kind, "message": error.message, "next_step": error.next_step, "fields": error.fields}
        )
    sys.stdout.write(FoldAnswer(outcome=outcome).model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
