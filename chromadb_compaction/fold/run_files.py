"""The runs of a pass as one function reads them: the list of their parts, and local files of what it folds."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from chromadb_compaction.concurrency import THREADS, ahead, in_threads
from chromadb_compaction.disk import MORE_COMPACTOR_DISK, check_disk
from chromadb_compaction.errors import SnapshotCorruptError
from chromadb_compaction.fold.distribution import FoldInput
from chromadb_compaction.fold.units import FoldUnit
from chromadb_compaction.messages import MergedBatch
from chromadb_compaction.ports import ObjectStore, Services
from chromadb_compaction.rows.batch_run import RUN_PARTS, RunPart, RunPiece, split
from chromadb_compaction.rows.id_ranges import IdRange
from chromadb_compaction.settings import MEBIBYTE

REQUEST_BYTES: Final = 8 * MEBIBYTE
"""The most bytes of one request, unless a row is larger."""
GAP_BYTES: Final = MEBIBYTE // 2
"""The most bytes between two pieces that are read with them, because another request takes longer."""
BYTES_AT_ONCE: Final = 64 * MEBIBYTE
"""The bytes of requests in memory at once."""


def read_parts(runs: Sequence[MergedBatch], services: Services) -> list[list[RunPart]]:
    """Return the parts of each of these runs."""
    return in_threads(
        lambda merged: RUN_PARTS.validate_json(services.objects.get(merged.parts).body) if merged.parts else [],
        runs,
    )


def download_runs(
    request: FoldInput, units: Sequence[FoldUnit], services: Services, directory: Path
) -> dict[str, list[Path]]:
    """Download what the runs have for `units`. Return the files of each collection, in the order of the batches.

    A file has the places of the whole run of its collection, but only those row groups that may have ids of `units`;
    the rest is empty and takes no disk. A run that an earlier version has written is downloaded whole.

    Raises SnapshotTooLargeError if the disk has not enough space, and SnapshotCorruptError if what was read is not what
    MergeBatch has stored.
    """
    directory.mkdir()
    ids: dict[str, list[IdRange]] = defaultdict(list)
    for unit in units:
        ids[unit.collection].append(unit.ids)
    local: dict[str, list[Path]] = defaultdict(list)
    extents: list[_Extent] = []
    for number, (merged, of_run) in enumerate(zip(request.runs, request.parts, strict=True)):
        if merged.run is None:
            continue
        path = directory / f"{number:04d}"
        if any(part.rows and not part.pieces for part in of_run):
            if any(part.sampled.rows_within(each) for part in of_run for each in ids.get(part.collection, ())):
                for collection, file in _download_whole(merged.run, merged, of_run, path, services.objects).items():
                    local[collection].append(file)
            continue
        for position, part in enumerate(of_run):
            found = list(_extents(merged.run, part, ids, Path(f"{path}-{position}.parquet")))
            local[part.collection] += [found[0].target] if found else []
            extents += found
    size = sum(each.piece.bytes for each in extents)
    check_disk(directory, size, "downloading the runs", next_step=MORE_COMPACTOR_DISK)
    for files in local.values():
        for file in files:
            file.touch()
    list(
        ahead(
            lambda together: _fetch(services.objects, together),
            _requests(extents),
            weigh=lambda together: together[-1].end - together[0].start,
            most=BYTES_AT_ONCE,
            threads=THREADS,
        )
    )
    return local


class _Extent(NamedTuple):
    """A piece of a run.

    Attributes:
        key: The key of the run's object.
        start: The place of the piece in the object.
        piece: The piece.
        target: The local file.
        at: The place of the piece in that file.
    """

    key: str
    start: int
    piece: RunPiece
    target: Path
    at: int

    @property
    def end(self) -> int:
        """The end of the piece in the object."""
        return self.start + self.piece.bytes


def _extents(key: str, part: RunPart, ids: Mapping[str, list[IdRange]], target: Path) -> Iterator[_Extent]:
    if part.rows and part.collection in ids:
        for at, piece in part.pieces_within(ids[part.collection]):
            yield _Extent(key, part.offset + at, piece, target, at)


def _requests(extents: Sequence[_Extent]) -> list[list[_Extent]]:
    """Return the pieces that are read with one request each: neighbours, or nearly so, of one object."""
    found: list[list[_Extent]] = []
    for each in extents:
        before = found[-1] if found else []
        is_near = bool(before) and before[0].key == each.key and each.start - before[-1].end <= GAP_BYTES
        if is_near and each.end - before[0].start <= REQUEST_BYTES:
            before.append(each)
        else:
            found.append([each])
    return found


def _fetch(objects: ObjectStore, together: Sequence[_Extent]) -> None:
    """Read these pieces with one request, check each, and write it to its place."""
    key, begin = together[0].key, together[0].start
    body = memoryview(objects.get_range(key, begin, together[-1].end))
    for each in together:
        content = body[each.start - begin : each.end - begin]
        if hashlib.sha256(content).hexdigest() != each.piece.sha256:
            raise SnapshotCorruptError(
                f"{key} is not what MergeBatch has stored (the SHA-256 of its bytes {each.start:,} to {each.end:,})",
                next_step="run again: the next execution merges again",
                key=key,
            )
        with each.target.open("r+b") as file:
            file.seek(each.at)
            file.write(content)


def _download_whole(
    key: str, merged: MergedBatch, of_run: Sequence[RunPart], directory: Path, objects: ObjectStore
) -> dict[str, Path]:
    """Download a run without pieces, and split it. Return the files by collection."""
    # A run of several collections is split, which needs its size once more.
    size = merged.bytes * (2 if merged.collections > 1 else 1)
    check_disk(directory.parent, size, "downloading the runs", next_step=MORE_COMPACTOR_DISK)
    file = directory.with_suffix(".parquet")
    objects.download(key, file)
    return split(file, of_run, directory)
