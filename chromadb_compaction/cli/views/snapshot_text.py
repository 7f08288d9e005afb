"""Snapshots as text for a person. Each function renders a value from top to bottom, as Output.show expects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from chromadb_compaction.cli.common.formatting import counted, duration, local_time, one_line, size, some
from chromadb_compaction.cli.common.many import MOST, heaviest, rest, summarised
from chromadb_compaction.cli.common.tables import LONGEST_ID, Column, Listing, facts
from chromadb_compaction.cli.views.snapshots import SnapshotLine, SnapshotList
from chromadb_compaction.errors import NewerFormatError
from chromadb_compaction.layout import execution_name
from chromadb_compaction.manifest import CollectionSnapshot, Manifest

if TYPE_CHECKING:
    # Verification imports chromadb, which takes a second.
    from chromadb_compaction.operations.pull import Pulled, PulledCollection
    from chromadb_compaction.operations.rollback import RolledBack
    from chromadb_compaction.operations.verify import Verified


def render_list(view: SnapshotList) -> Iterator[RenderableType]:
    """Render the table of all snapshots."""
    if not view.snapshots:
        yield "There are no snapshots yet. Make one: [bold]chromadb-compaction compact --wait[/]"
        return
    table = Listing(
        Column("", "fixed"),
        Column("snapshot", "id"),
        Column("made", "fixed"),
        Column("records", "number"),
        Column("size", "number"),
        Column("deltas", "number", drop=3),
        Column("took", "number", drop=2),
        Column("execution", "id", drop=1),
    )
    for line in view.snapshots:
        table.add_row(*_cells(line), style="bold" if line.current else None)
    yield table
    for line in view.snapshots:
        if problem := _problem(line):
            yield Text.assemble(f"{line.snapshot_id}: ", problem)
    if view.published_by and view.published_by.startswith("operator:") and view.published_at:
        yield Text(f"Published by {view.published_by} on {local_time(view.published_at)}.")


def render_snapshot(manifest: Manifest, *, published: bool) -> Iterator[RenderableType]:
    """Render one snapshot."""
    state = ("published", "green") if published else ("not published", "dim")
    yield Text.assemble((manifest.snapshot_id, "bold"), "  ", state)
    quarantined = f", {manifest.deltas_quarantined:,} quarantined" if manifest.deltas_quarantined else ""
    yield facts(
        ("Made", f"{local_time(manifest.created_at)}, took {duration(manifest.seconds)}"),
        ("Execution", execution_name(manifest.execution)),
        ("Parent", manifest.parent or "none: it was the first snapshot"),
        ("Deltas", f"{manifest.deltas_merged:,} merged{quarantined}"),
        ("Size", f"{counted(manifest.records, 'record')}, {size(manifest.bytes)}"),
    )
    table = Listing(
        Column("collection", "id"),
        Column("records", "number"),
        Column("deleted ids", "number", drop=2),
        Column("dimensions", "number"),
        Column("space", "number"),
        Column("size", "number"),
        Column("conservation", "number", drop=1),
    )
    collections = sorted(manifest.collections.items())
    shown = heaviest(collections, lambda pair: pair[1].records)
    for name, each in shown:
        counts = (f"{each.records:,}", f"{each.tombstones:,}", str(each.dimension or "none yet"))
        table.add_row(Text(name), *counts, each.space, size(each.bytes), each.conservation.next)
    yield table
    if len(collections) > MOST:
        yield rest(collections)
    yield from _render_partitions(shown)


def _render_partitions(collections: Sequence[tuple[str, CollectionSnapshot]]) -> Iterator[RenderableType]:
    """Render the partitions of each collection that has any."""
    for name, each in collections:
        if not each.partitions:
            continue
        table = Listing(
            Column("ids from", "id"),
            Column("records", "number"),
            Column("deleted ids", "number", drop=1),
            Column("size", "number"),
        )
        for part in heaviest(each.partitions, lambda part: part.records):
            counts = (f"{part.records:,}", f"{part.tombstones:,}", size(part.bytes))
            table.add_row(Text(one_line(part.first, LONGEST_ID) or "the least"), *counts)
        yield Text(f"{name} has {len(each.partitions):,} partitions:")
        yield table
        if len(each.partitions) > MOST:
            yield rest(each.partitions)


def render_pulled(pulled: Pulled) -> Iterator[RenderableType]:
    """Render what was copied, or would be."""
    verb = "Would copy" if pulled.dry_run else "Copied"
    now = "to fetch" if pulled.dry_run else "fetched now"
    fetched = "" if pulled.fetched == pulled.bytes else f", {size(pulled.fetched)} of them {now}"
    yield f"{verb} snapshot [bold]{pulled.snapshot_id}[/], {size(pulled.bytes)}{fetched}:"
    yield from summarised(
        pulled.collections,
        lambda each: (
            each.collection,
            counted(each.records, "record"),
            _place(each),
        ),
        weight=lambda each: each.records,
        order="largest",
    )
    if pulled.removed:
        names = some(pulled.removed, MOST)
        yield "  Removed, because the snapshot does not have them:" if not pulled.dry_run else "  Would remove:"
        yield from (Text(f"  {name}") for name in names)


def _place(pulled: PulledCollection) -> str:
    if pulled.directory is None:
        return "no directory: it has only had deletes"
    partitions = f" ({counted(len(pulled.partitions), 'partition')}, a folder for each)" if pulled.partitions else ""
    return f"{pulled.directory}{partitions}"


def render_verified(verified: Verified) -> Iterator[RenderableType]:
    """Render what was checked, and every problem."""
    for problem in verified.problems:
        yield _damaged(problem)
    if not verified.problems:
        checked = f"{counted(verified.files, 'file')}, {size(verified.bytes)}"
        read = f", and {counted(verified.records, 'record')} read back" if verified.full else ""
        yield f"Snapshot [bold]{verified.snapshot_id}[/] is whole: {checked}, every SHA-256 right{read}."
    elif verified.full and not verified.records:
        yield "No record was read back, since the files are damaged."
    if not verified.manifest_proven:
        yield "Its manifest is unproven: neither the pointer nor a later snapshot states its SHA-256."
    if verified.unproven_vectors:
        vectors = counted(verified.unproven_vectors, "vector")
        yield (
            f"{vectors} of cosine collections cannot be compared with a fingerprint, because ChromaDB normalises them."
            " They have the right length and are finite."
        )
    if verified.unproven_texts:
        records = counted(verified.unproven_texts, "record")
        yield (
            f"The metadata of {records} cannot be compared with a fingerprint: it has too many floats, which ChromaDB"
            " reads back inexactly."
        )


def render_rolled_back(done: RolledBack) -> Iterator[RenderableType]:
    """Render what was done, or would be, and the next command."""
    if done.previous_problem:
        yield _damaged(done.previous_problem)
    if done.swapped:
        would = "Would publish" if done.dry_run else "Published"
        replaced = f" in place of {done.previous}" if done.previous else ""
        yield f"{would} snapshot [bold]{done.snapshot_id}[/]{replaced}."
    else:
        yield f"Snapshot [bold]{done.snapshot_id}[/] is published already."
    yield from _render_replay(done) if done.replay else _render_without_replay(done)
    if not done.dry_run and (done.replayed or done.still_pending):
        yield "Merge what is pending: [bold]chromadb-compaction compact --wait[/]"


def _render_replay(done: RolledBack) -> Iterator[RenderableType]:
    if not done.lineage_known:
        yield (
            "The published snapshot cannot be read, so the deltas of every snapshot as new as this one are replayed:"
            f" {', '.join(done.undone) or 'none'}."
        )
    verb = "would be pending again" if done.dry_run else "are pending again"
    yield f"Of {counted(done.deltas_undone, 'delta')} merged since, {len(done.replayed):,} {verb}."
    yield from map(Text, some(done.replayed))
    for keys, state in (
        (done.still_pending, "were pending already"),
        (done.left_out, "would go to quarantine" if done.dry_run else "went to quarantine"),
        (done.given_up, "to leave out are gone, so nothing of them is in quarantine"),
        (done.kept_in_quarantine, "are in quarantine, and stay there (to move them back: deltas requeue)"),
    ):
        if keys:
            yield f"{len(keys):,} {state}:"
            yield from map(Text, some(keys))


def _render_without_replay(done: RolledBack) -> Iterator[RenderableType]:
    if not done.deltas_undone:
        return
    yield (
        f"The rows of {counted(done.deltas_undone, 'delta')} merged since, by {counted(len(done.undone), 'snapshot')},"
        " are not in it. To merge them again:"
        f" [bold]chromadb-compaction snapshots rollback {done.snapshot_id} --replay[/]"
    )
    if done.still_pending:
        yield f"{len(done.still_pending):,} of them are still pending, and will be merged again:"
        yield from map(Text, some(done.still_pending))


def _damaged(problem: str) -> Text:
    return Text.assemble(("damaged: ", "bold red"), problem)


def _problem(line: SnapshotLine) -> Text | None:
    """Return what is wrong with the snapshot, if anything is. A manifest of a newer format is not damaged."""
    if line.problem:
        newer = line.problem_kind == NewerFormatError.kind
        return Text(line.problem, "yellow") if newer else _damaged(line.problem)
    return _damaged(f"{counted(line.files_missing, 'file')} missing") if line.files_missing else None


def _cells(line: SnapshotLine) -> list[Text]:
    mark = Text("▶" if line.current else "", "green")
    if line.problem or line.created_at is None:
        return [mark, Text(line.snapshot_id), *[Text("?")] * 6]
    return [
        mark,
        Text(line.snapshot_id),
        Text(local_time(line.created_at)),
        Text(f"{line.records:,}"),
        Text(size(line.bytes or 0)),
        Text(f"{line.deltas_merged:,}"),
        Text(duration(line.seconds or 0)),
        Text(execution_name(line.execution or "")),
    ]
