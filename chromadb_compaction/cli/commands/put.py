"""`put`: write the records of files or of ChromaDB collections as deltas."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, RenderableType

from chromadb_compaction.cli.common.completion import complete_collection
from chromadb_compaction.cli.common.console import note, warn
from chromadb_compaction.cli.common.formatting import counted, local_time
from chromadb_compaction.cli.common.many import MOST, summarised
from chromadb_compaction.cli.common.options import Distance, JsonFlag
from chromadb_compaction.cli.common.output import output_for
from chromadb_compaction.errors import CorruptDeltaError, InvalidRequestError

if TYPE_CHECKING:
    from chromadb_compaction.cli.sources.chroma_instances import ChromaInstance
    from chromadb_compaction.cli.sources.newer_deltas import NewerDeltas
    from chromadb_compaction.cli.sources.records import RecordSource
    from chromadb_compaction.cli.sources.transfer import Transfer

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="JSON Lines (.jsonl, .jsonl.gz), Parquet (.parquet), a folder of such files, a ChromaDB directory, or"
        " the URL of its server.",
        show_default=False,
    ),
]
Collections = Annotated[
    list[str] | None,
    typer.Option(
        "--collection",
        "-c",
        help="The collection for files; or the ChromaDB collections to put, by default all.",
        autocompletion=complete_collection,
    ),
]
Headers = Annotated[list[str] | None, typer.Option(help='For the server, such as "Authorization: Bearer ...".')]
Restart = Annotated[bool, typer.Option("--restart", help="Put everything again after a stop, as written now.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Read and check everything, and say what would be written.")]


def put(  # noqa: PLR0913 - typer makes an option of each
    sources: Sources,
    *,
    collection: Collections = None,
    new_name: Annotated[str | None, typer.Option("--as", help="Put a ChromaDB collection under another name.")] = None,
    embedding_function: Annotated[
        str | None,
        typer.Option(help="Embed documents that have no embedding, and store its name in a new collection."),
    ] = None,
    space: Annotated[
        Distance | None, typer.Option(help="The distance of a new collection; ChromaDB's default is l2.")
    ] = None,
    header: Headers = None,
    database: Annotated[
        str | None, typer.Option(help="The database of a directory or server: NAME or TENANT/NAME.")
    ] = None,
    restart: Restart = False,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Write records as deltas. The next compaction merges them.

    A file's record has an `id`, an `embedding` or a `document` (or both), and may have `metadata` and a `uri`; with
    `"op": "delete"` it has only an `id`. The first record that could not be merged stops the put, and the message
    names it. Fix that record and give the same command again to continue.

    ChromaDB's collections keep their names, their distance, the settings of their index, their embedding function and
    their metadata, and an empty one is created. What deltas cannot keep of one, such as a secret, is named, and nothing
    is put. A directory is read from a private copy in CHROMADB_CACHE_DIR, and never written to.

    A put that was stopped continues when the same command is given again on this machine. Its records count as
    written when it began, so newer versions that others have written since are kept.

    Example: `chromadb-compaction put notes.jsonl -c notes --embedding-function wordllama`

    Example: `chromadb-compaction put ./chroma -c notes --as team-notes`, or `chromadb-compaction put http://host:8000`
    """
    # pyarrow reads this when it is imported. Its own allocator would keep 30 MB, more than all deltas need at once.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.sources.files import files_of
    from chromadb_compaction.cli.sources.journal import journal_directory
    from chromadb_compaction.cli.sources.transfer import PutOptions, Transfer

    services = clients.services()
    options = PutOptions(journal_directory(), space, embedding_function, restart=restart, dry_run=dry_run)
    sources = [str(file) for source in sources for file in files_of(Path(source)) or (source,)]
    _check_arguments(sources, collection or [], new_name)
    with ExitStack() as stack:
        opener = _ChromaOpener(Path(services.settings.chromadb_cache_dir), stack, header or [], database)
        found = _sources(sources, collection or [], new_name, opener)
        transfers = [stack.enter_context(closing(Transfer(source, services, options))) for source in found]
        output = output_for(as_json=as_json)
        _run(transfers, output.progress)
    output.show(_as_json(transfers, dry_run=dry_run), lambda _: _render(transfers, dry_run=dry_run))
    if any(transfer.deltas for transfer in transfers) and not dry_run:
        note("Merge them now: chromadb-compaction compact --wait")


def _check_arguments(locations: Sequence[str], collections: Sequence[str], new_name: str | None) -> None:
    """Raise InvalidRequestError for what is wrong before a directory is copied or a file is read."""
    from chromadb_compaction.cli.sources.files import check_file
    from chromadb_compaction.layout import check_collection_name

    if new_name is not None and len(set(collections)) > 1:
        raise _too_many_for_one_name(sorted(set(collections)))
    files = [Path(location) for location in locations if not _is_chroma(location)]
    for path in files:
        check_file(path)
    if files and len(collections) != 1:
        message = "files go to one collection, which --collection must name"
        raise InvalidRequestError(message, next_step="add --collection NAME")
    for name in (new_name,) if new_name else collections:
        try:
            check_collection_name(name)
        except CorruptDeltaError as error:
            raise InvalidRequestError(error.message, next_step=error.next_step) from error


def _too_many_for_one_name(names: Sequence[str]) -> InvalidRequestError:
    return InvalidRequestError(
        f"--as names one collection, but there are {len(names)}",
        next_step=f"choose one with -c NAME: {', '.join(names)}",
    )


class _ChromaOpener:
    """An opener of ChromaDB directories and servers. `stack` closes them."""

    def __init__(self, scratch: Path, stack: ExitStack, headers: Sequence[str], database: str | None) -> None:
        self._scratch = scratch
        self._stack = stack
        self._headers = headers
        self.database = database

    def open(self, location: str) -> ChromaInstance:
        from chromadb_compaction.cli.sources.chroma_instances import chroma_directory, chroma_server

        if _is_url(location):
            return chroma_server(location, self._headers, self.database)
        return self._stack.enter_context(chroma_directory(Path(location), self._scratch, self.database))


def _sources(
    locations: Sequence[str], collections: Sequence[str], new_name: str | None, opener: _ChromaOpener
) -> list[RecordSource]:
    """Return the sources in their order. Adjacent files are one source."""
    from chromadb_compaction.cli.sources.files import RecordFiles

    found: list[RecordSource] = []
    for is_chroma, group in groupby(locations, key=_is_chroma):
        if is_chroma:
            for location in group:
                found += _chroma_sources(opener.open(location), collections, new_name, opener.database)
        else:
            found.append(RecordFiles([Path(location) for location in group], new_name or collections[0]))
    return found


def _chroma_sources(
    instance: ChromaInstance, collections: Sequence[str], new_name: str | None, database: str | None
) -> Iterator[RecordSource]:
    from chromadb_compaction.cli.sources.chroma_collections import ChromaCollection

    names = instance.names(collections)
    others = instance.other_databases() if database is None else []
    if others:
        warn(f"{instance.location} also has collections in other databases: {', '.join(others)}; name one: --database")
    if new_name is not None and len(names) > 1:
        raise _too_many_for_one_name(names)
    for name in names:
        yield ChromaCollection(instance, name, new_name or name)


def _is_chroma(location: str) -> bool:
    return _is_url(location) or Path(location).is_dir()


def _is_url(location: str) -> bool:
    return location.startswith(("http://", "https://"))


def _run(transfers: Sequence[Transfer], console: Console) -> None:
    """Write everything, and only then let the next put of the same sources start from the beginning."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from chromadb_compaction.cli.sources.transfers import check_all, written_deltas_reported

    check_all(transfers)
    for transfer in transfers:
        for warning in transfer.warnings:
            warn(warning)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with written_deltas_reported(transfers), Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        for transfer in transfers:
            task = bar.add_task(transfer.source.collection, total=None)
            for size in transfer.run():
                bar.update(task, advance=size, total=transfer.source.size)
            if len(transfers) > MOST:
                bar.remove_task(task)
            if not transfer.records + transfer.records_before + len(transfer.deltas):
                warn(f"{transfer.source.name} has no records, so no collection is made of it")
    for transfer in transfers:
        transfer.discard_journal()


def _as_json(transfers: Sequence[Transfer], *, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "records": sum(transfer.records for transfer in transfers),
        "deltas": [] if dry_run else [key for transfer in transfers for key in transfer.deltas],
        "collections": [
            {
                "source": transfer.source.name,
                "collection": transfer.source.collection,
                "records": transfer.records,
                "records_before": transfer.records_before,
                "deltas": len(transfer.deltas),
                "newer_deltas": transfer.newer.deltas if transfer.newer else 0,
            }
            for transfer in transfers
        ],
    }


def _render(transfers: Sequence[Transfer], *, dry_run: bool) -> Iterator[RenderableType]:
    verb = "Would write" if dry_run else "Wrote"
    if len(transfers) <= MOST:
        for each in transfers:
            yield _line(each, verb)
            if each.newer is not None:
                yield _about_newer(each.newer)
        return
    records = counted(sum(each.records for each in transfers), "record")
    deltas = counted(sum(_new_deltas(each) for each in transfers), "delta")
    yield f"{verb} {records} as [bold]{deltas}[/] to {len(transfers):,} collections."
    yield from summarised(
        transfers,
        lambda each: (each.source.collection, counted(each.records, "record"), counted(_new_deltas(each), "delta")),
        weight=lambda each: each.records,
        order="largest",
    )


def _line(transfer: Transfer, verb: str) -> str:
    deltas = f"[bold]{counted(_new_deltas(transfer), 'delta')}[/]"
    wrote = f"{verb} {counted(transfer.records, 'record')} as {deltas} to {transfer.source.collection}"
    before = transfer.records_before
    earlier = f", after the {counted(before, 'record')} that were put on {transfer.started}" if before else ""
    return f"{wrote}{earlier}."


def _new_deltas(transfer: Transfer) -> int:
    return len(transfer.deltas) - transfer.deltas_before


def _about_newer(newer: NewerDeltas) -> str:
    from chromadb_compaction.cli.sources.newer_deltas import MOST as LISTED

    counts = f"{counted(newer.deltas, 'delta')}{' or more' if newer.deltas == LISTED else ''}"
    return (
        f"  {counts} of other producers, from {local_time(newer.oldest)} on, "
        f"{'is' if newer.deltas == 1 else 'are'} newer than these records: a record that is older than what is there"
        " changes nothing. After the compaction `compact --wait` counts such records."
    )
