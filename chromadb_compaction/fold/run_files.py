"""The runs of a pass as one function reads them: the list of their parts, and local files of those that it folds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.disk import MORE_COMPACTOR_DISK, check_disk
from chromadb_compaction.fold.distribution import FoldInput, FoldUnit
from chromadb_compaction.messages import MergedBatch
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.batch_run import RUN_PARTS, RunPart, split


def read_parts(runs: Sequence[MergedBatch], services: Services) -> list[list[RunPart]]:
    """Return the parts of each of these runs."""
    return in_threads(
        lambda merged: RUN_PARTS.validate_json(services.objects.get(merged.parts).body) if merged.parts else [],
        runs,
    )


def download_runs(
    request: FoldInput, units: Sequence[FoldUnit], services: Services, directory: Path
) -> dict[str, list[Path]]:
    """Download the runs with rows of `units`, and split them. Return each collection's, in the order of the batches.

    A run with rows of one collection is that collection's, so all of its parts are needed to split it. Raises
    SnapshotTooLargeError if the disk has not enough space.
    """
    directory.mkdir()
    ids = defaultdict(list)
    for unit in units:
        ids[unit.collection].append(unit.ids)
    needed = [
        (merged, merged.run, of_run, directory / f"{number:04d}")
        for number, (merged, of_run) in enumerate(zip(request.runs, request.parts, strict=True))
        if merged.run and any(part.sampled.rows_within(each) for part in of_run for each in ids[part.collection])
    ]
    # A run of several collections is split, which needs its size once more.
    size = sum(merged.bytes for merged, *_ in needed)
    size += max((merged.bytes for merged, *_ in needed if merged.collections > 1), default=0)
    check_disk(directory, size, "downloading the runs", next_step=MORE_COMPACTOR_DISK)
    in_threads(lambda each: services.objects.download(each[1], each[3].with_suffix(".parquet")), needed)
    local: dict[str, list[Path]] = defaultdict(list)
    # One after the other: each one's parts take its size again, until it is removed.
    for *_, of_run, run in needed:
        for collection, file in split(run.with_suffix(".parquet"), of_run, run).items():
            local[collection].append(file)
    return local
