"""Run the folds of several collections: `run_folds` decides which run in this process and which in worker processes.

A worker is a process, because two folds in threads take nearly twice as long as one. It is a plain subprocess that
writes JSON to a pipe, because Lambda has no /dev/shm for multiprocessing's pools. It runs this module as its program.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue

from chromadb_compaction.chroma.index_build import index_threads
from chromadb_compaction.chroma.loader import Progress
from chromadb_compaction.disk import reporting_full_disk
from chromadb_compaction.errors import CompactionError, SnapshotTooLargeError, error_named
from chromadb_compaction.fold.fold import FoldRequest, FoldResult, fold_collection, no_progress

PROCESS_BYTES = 4 * 1024 * 1024
"""Smaller runs fold faster than a process starts and imports ChromaDB, which takes 2 s."""

CORES_PER_FOLD = 2
"""ChromaDB builds the index on every core, and another thread writes the records. Measured on two cores: two folds at
once take as long as one after the other, and twice the memory."""

PROGRESS_SECONDS = 1.0
"""The seconds between calls of `progress` while a worker folds."""


GROUP = 16
"""The small collections that are folded within one mark: a mark for each would take as long as its fold."""

Done = TypeVar("Done")
FoldOutcome = FoldResult | SnapshotTooLargeError
"""The result of a fold, or the error of one that memory or disk cannot hold."""

Marked = Callable[[Sequence[FoldRequest]], AbstractContextManager[None]]
"""Returns the block in which the folds of these collections run."""


class FoldFailure(BaseModel):
    """An error as a worker reports it: its kind, message, next step and fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    message: str
    next_step: str | None
    fields: dict[str, JsonValue]


class FoldOutput(BaseModel):
    """The JSON that a worker writes to its standard output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: FoldResult | FoldFailure


def run_folds(
    requests: Sequence[FoldRequest],
    *,
    progress: Progress = no_progress,
    at_once: int = sys.maxsize,
    marked: Marked = lambda _: nullcontext(),
) -> list[FoldOutcome]:
    """Fold every collection, at most `at_once` at a time, and return the outcomes in the order of the requests.

    A fold that memory or disk cannot hold does not stop the others: its outcome is the error, its directory is removed.
    Large runs fold in workers, one worker per two cores. Each group of folds runs within `marked`. `progress` and
    `marked` are called from several threads; an exception from `progress` stops every fold.
    """

    def here(group: Sequence[FoldRequest]) -> list[FoldOutcome]:
        with marked(group):
            return [_outcome(fold_collection, request, progress) for request in group]

    def in_worker(request: FoldRequest) -> FoldOutcome:
        with marked([request]):
            return _outcome(fold_in_worker, request, progress)

    large = [request for request in requests if _run_bytes(request) >= PROCESS_BYTES]
    # The small ones fold in this process meanwhile, one after the other.
    processes = min(index_threads() // CORES_PER_FOLD, at_once - (len(large) < len(requests)))
    if processes < 2 or len(large) < 2:
        return [outcome for group in _groups(requests) for outcome in here(group)]
    with ThreadPoolExecutor(max_workers=processes) as pool:
        workers = {request.unit: pool.submit(in_worker, request) for request in large}
        small = [request for request in requests if request.unit not in workers]
        found = [outcome for group in _groups(small) for outcome in here(group)]
        outcomes = {request.unit: outcome for request, outcome in zip(small, found, strict=True)}
        outcomes |= {unit: future.result() for unit, future in workers.items()}
    return [outcomes[request.unit] for request in requests]


def _outcome(fold: Callable[..., FoldResult], request: FoldRequest, progress: Progress) -> FoldOutcome:
    outcome = not_stopping_others(lambda: fold(request, progress=progress), request.collection, progress)
    if isinstance(outcome, SnapshotTooLargeError):
        shutil.rmtree(request.directory, ignore_errors=True)
    return outcome


def not_stopping_others(work: Callable[[], Done], collection: str, progress: Progress) -> Done | SnapshotTooLargeError:
    """Return the result of the work on a collection, or the error if memory, disk or time do not suffice for it."""
    try:
        progress()  # there may be no time left to begin
        with reporting_full_disk(_function()):
            return work()
    except SnapshotTooLargeError as error:
        return error
    except MemoryError:
        message = f"{collection}: memory ran out in its fold"
        return SnapshotTooLargeError(message, next_step="raise the compactor's memory")


def _groups(requests: Sequence[FoldRequest]) -> Iterator[Sequence[FoldRequest]]:
    """Yield the requests in order: a large collection alone, and GROUP small ones together."""
    small: list[FoldRequest] = []
    for request in requests:
        is_large = _bytes_on_disk(request) >= PROCESS_BYTES
        small += [] if is_large else [request]
        if small and (is_large or len(small) == GROUP):
            yield small
            small = []
        if is_large:
            yield [request]
    if small:
        yield small


def fold_in_worker(request: FoldRequest, *, progress: Progress = no_progress) -> FoldResult:
    """Run `fold_collection` in a worker. Raises its errors, and SnapshotTooLargeError if the worker was killed."""
    # A Lambda handler finds the code through sys.path only, so the worker gets the same path.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "chromadb_compaction.fold.workers"]
    with subprocess.Popen(  # noqa: S603 - our own module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as child:
        output = _communicate(child, request.model_dump_json().encode(), progress)
    if child.returncode == -signal.SIGKILL:
        raise SnapshotTooLargeError(
            f"{request.collection}: the fold was killed, most likely because memory ran out",
            next_step="raise the compactor's memory",
        )
    if child.returncode != 0:
        raise CompactionError(
            f"{request.collection}: the fold's process ended with status {child.returncode}",
            next_step="read its traceback in the log",
        )
    outcome = FoldOutput.model_validate_json(output).outcome
    if isinstance(outcome, FoldFailure):
        raise error_named(outcome.kind, outcome.message, next_step=outcome.next_step, **outcome.fields)
    return outcome


def _communicate(child: subprocess.Popen[bytes], request: bytes, progress: Progress) -> bytes:
    unsent: bytes | None = request
    try:
        while True:
            try:
                return child.communicate(unsent, timeout=PROGRESS_SECONDS)[0]
            except subprocess.TimeoutExpired:
                unsent = None
                progress()
    finally:
        # The child still runs only if `progress` raised, and then its result is not wanted.
        child.kill()


def _function() -> str:
    return os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "the function")


def _bytes_on_disk(request: FoldRequest) -> int:
    base = request.directory.rglob("*") if request.directory.exists() else ()
    return _run_bytes(request) + sum(path.stat().st_size for path in base if path.is_file())


def _run_bytes(request: FoldRequest) -> int:
    # On the disk, because a file may have the places of row groups that were not downloaded.
    return sum(min(found.st_size, found.st_blocks * 512) for found in (path.stat() for path in request.runs))


def main() -> Literal[0]:
    """Fold the request on standard input and print the outcome. An unexpected error ends in a traceback."""
    outcome: FoldResult | FoldFailure
    try:
        with reporting_full_disk(_function()):
            outcome = fold_collection(FoldRequest.model_validate_json(sys.stdin.buffer.read()))
    except CompactionError as error:
        outcome = FoldFailure.model_validate(
            {"kind": error.kind, "message": error.message, "next_step": error.next_step, "fields": error.fields}
        )
    sys.stdout.write(FoldOutput(outcome=outcome).model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
