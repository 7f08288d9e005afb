"""How snapshots are shown to a person."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict
from rich.table import Table
from rich.text import Text

from chromadb_compaction.cli.common.console import out
from chromadb_compaction.cli.common.formatting import ago, counted, duration, size
from chromadb_compaction.layout import execution_name
from chromadb_compaction.manifest import Manifest
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.catalogue import Catalogue, read_catalogue

if TYPE_CHECKING:
    # Verification imports chromadb, which takes a second that no list should wait for.
    from chromadb_compaction.operations.rollback import RolledBack
    from chromadb_compaction.operations.verify import Verified

SHOWN = 20


class SnapshotLine(BaseModel):
    """One snapshot in the list. With a `problem` its manifest cannot be used, and the rest is unknown.

    `files_missing` counts the files that are not there in the size that the manifest states.
    """

    model_config = ConfigDict(frozen=True)

    snapshot_id: str
    current: bool
    problem: str | None = None
    created_at: float | None = None
    records: int | None = None
    bytes: int | None = None
    deltas_merged: int | None = None
    seconds: float | None = None
    execution: str | None = None
    parent: str | None = None
    files_missing: int = 0


class SnapshotList(BaseModel):
    """All snapshots, the newest first. `problem`: what is wrong with the pointer, or with what it names."""

    model_config = ConfigDict(frozen=True)

    current: str | None
    sequence: int | None
    published_by: str | None
    published_at: float | None
    problem: str | None
    snapshots: list[SnapshotLine]


def view_list(services: Services) -> SnapshotList:
    """Look at everything under the snapshot prefix."""
    catalogue = read_catalogue(services)
    pointer = catalogue.current_pointer.pointer
    lines = [_line(each, catalogue) for each in sorted({*catalogue.readable, *catalogue.damaged}, reverse=True)]
    current = next((line for line in lines if line.current), None)
    missing = None
    if current and current.files_missing:
        missing = (
            f"{counted(current.files_missing, 'file')} of the published snapshot {current.snapshot_id} are missing or"
            " have another size; see: chromadb-compaction snapshots verify"
        )
    return SnapshotList(
        current=catalogue.current,
        sequence=pointer.sequence if pointer else None,
        published_by=pointer.commit_id if pointer else None,
        published_at=pointer.published_at if pointer else None,
        problem=catalogue.current_pointer.problem or (current and current.problem) or missing,
        snapshots=lines,
    )


def print_list(view: SnapshotList) -> None:
    """Print the table."""
    if not view.snapshots:
        out.print("There are no snapshots yet. Make one: [bold]chromadb-compaction compact --wait[/]")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("", "snapshot", "made"):
        table.add_column(heading, no_wrap=True)
    for heading in ("records", "size", "deltas", "took"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("execution", overflow="fold")
    for line in view.snapshots:
        table.add_row(*_cells(line), style="bold" if line.current else None)
    out.print(table)
    if view.published_by and view.published_by.startswith("operator:") and view.published_at:
        out.print(f"Published by {view.published_by} on {moment(view.published_at)}.", soft_wrap=True)


def print_snapshot(manifest: Manifest, *, published: bool) -> None:
    """Print one snapshot."""
    state = ("published", "green") if published else ("not published", "dim")
    out.print(Text.assemble((manifest.snapshot_id, "bold"), "  ", state))
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("Made", f"{moment(manifest.created_at)}, took {duration(manifest.seconds)}")
    grid.add_row("Execution", execution_name(manifest.execution))
    grid.add_row("From", manifest.parent or "nothing: it was the first")
    refused = f", {manifest.deltas_quarantined:,} refused" if manifest.deltas_quarantined else ""
    grid.add_row("Deltas", f"{manifest.deltas_merged:,} merged{refused}")
    grid.add_row("Size", f"{counted(manifest.records, 'record')}, {size(manifest.bytes)}")
    out.print(grid)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("collection", overflow="fold")
    for heading in ("records", "deleted ids", "dimensions", "space", "size", "conservation"):
        table.add_column(heading, justify="right")
    for name, each in sorted(manifest.collections.items()):
        counts = (f"{each.records:,}", f"{each.tombstones:,}", str(each.dimension or "none yet"))
        table.add_row(name, *counts, each.space, size(each.bytes), each.conservation.next)
    out.print(table)


def print_verified(verified: Verified) -> None:
    """Say what was checked, and every problem."""
    for problem in verified.problems:
        out.print(Text.assemble(("damaged: ", "bold red"), problem), soft_wrap=True)
    checked = f"{counted(verified.files, 'file')}, {size(verified.bytes)}"
    if not verified.problems:
        read = f", and {counted(verified.records, 'record')} read back" if verified.full else ""
        out.print(f"Snapshot [bold]{verified.snapshot_id}[/] is whole: {checked}, every SHA-256 right{read}.")
    elif verified.full and not verified.records:
        out.print("No record was read back, since the files are damaged.")
    if verified.unproven_vectors:
        out.print(
            f"{counted(verified.unproven_vectors, 'vector')} of cosine collections cannot be proven by a fingerprint:"
            " ChromaDB normalises them. They are of the right length and finite."
        )
    if verified.unproven_texts:
        out.print(
            f"The metadata of {counted(verified.unproven_texts, 'record')} cannot be held against a fingerprint: it has"
            " too many floats, which ChromaDB reads back inexactly."
        )


def print_rolled_back(done: RolledBack) -> None:
    """Say what was done, or would be, and what to type next."""
    would = "Would publish" if done.dry_run else "Published"
    if done.previous_problem:
        out.print(Text.assemble(("damaged: ", "bold red"), done.previous_problem), soft_wrap=True)
    if done.swapped:
        was = f" in place of {done.previous}" if done.previous else ""
        out.print(f"{would} snapshot [bold]{done.snapshot_id}[/]{was}.")
    else:
        out.print(f"Snapshot [bold]{done.snapshot_id}[/] is published already.")
    if done.replay:
        _print_replay(done)
    else:
        _print_given_up(done)
    if not done.dry_run and (done.replayed or done.still_pending):
        out.print("Merge what is pending: [bold]chromadb-compaction compact --wait[/]")


def moment(seconds: float) -> str:
    """Return Unix seconds as this machine's local time."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def when(seconds: float, now: float) -> str:
    """Return local time, and how long ago that is."""
    return f"{moment(seconds)} ({ago(now - seconds)})"


def print_some(keys: list[str]) -> None:
    """Print the first few of what may be thousands."""
    for key in keys[:SHOWN]:
        out.print(Text(f"  {key}"), soft_wrap=True)
    if len(keys) > SHOWN:
        out.print(f"  and {len(keys) - SHOWN:,} more: --json names all")


def _print_replay(done: RolledBack) -> None:
    if not done.lineage_known:
        out.print(
            "What was published cannot be read, so everything merged by snapshots as new as this one is replayed:"
            f" {', '.join(done.undone) or 'none'}.",
            soft_wrap=True,
        )
    verb = "would be pending again" if done.dry_run else "are pending again"
    out.print(f"Of {counted(done.deltas_undone, 'delta')} merged since, {len(done.replayed):,} {verb}.")
    print_some(done.replayed)
    for keys, said in (
        (done.still_pending, "were pending already"),
        (done.left_out, "would go to quarantine" if done.dry_run else "went to quarantine"),
        (done.kept_in_quarantine, "are in quarantine, and stay there (deltas requeue brings them back)"),
    ):
        if keys:
            out.print(f"{len(keys):,} {said}:")
            print_some(keys)


def _print_given_up(done: RolledBack) -> None:
    if not done.deltas_undone:
        return
    out.print(
        f"The rows of {counted(done.deltas_undone, 'delta')} merged since, by {counted(len(done.undone), 'snapshot')},"
        " are not in it. To have them merged again:"
        f" [bold]chromadb-compaction snapshots rollback {done.snapshot_id} --replay[/]",
        soft_wrap=True,
    )
    if done.still_pending:
        out.print(f"{len(done.still_pending):,} of them are still pending, and will be merged again:")
        print_some(done.still_pending)


def _line(snapshot_id: str, catalogue: Catalogue) -> SnapshotLine:
    current = snapshot_id == catalogue.current
    if snapshot_id in catalogue.damaged:
        return SnapshotLine(snapshot_id=snapshot_id, current=current, problem=str(catalogue.damaged[snapshot_id]))
    manifest = catalogue.readable[snapshot_id].manifest
    return SnapshotLine(
        snapshot_id=snapshot_id,
        current=current,
        created_at=manifest.created_at,
        records=manifest.records,
        bytes=manifest.bytes,
        deltas_merged=manifest.deltas_merged,
        seconds=manifest.seconds,
        execution=manifest.execution,
        parent=manifest.parent,
        files_missing=len(catalogue.absent(manifest)),
    )


def _cells(line: SnapshotLine) -> list[Text]:
    mark = Text("▶" if line.current else "", "green")
    if line.problem or line.created_at is None:
        return [mark, Text(line.snapshot_id), *[Text("?")] * 5, Text(f"damaged: {line.problem}", "bold red")]
    cells = [
        mark,
        Text(line.snapshot_id),
        Text(moment(line.created_at)),
        Text(f"{line.records:,}"),
        Text(size(line.bytes or 0)),
        Text(f"{line.deltas_merged:,}"),
        Text(duration(line.seconds or 0)),
    ]
    if line.files_missing:
        return [*cells, Text(f"damaged: {counted(line.files_missing, 'file')} missing", "bold red")]
    return [*cells, Text(execution_name(line.execution or ""))]
