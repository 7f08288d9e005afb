"""`put`: write files' records as deltas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from chromadb_compaction.cli.console import JsonFlag, err, note, out, print_json
from chromadb_compaction.cli.wording import counted
from chromadb_compaction.errors import InvalidRequestError
from chromadb_compaction.manifest import Space

if TYPE_CHECKING:
    from chromadb_compaction.cli.record_files import Rows, Source
    from chromadb_compaction.writer import DeltaWriter


def put(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="JSON Lines (.jsonl, .jsonl.gz), Parquet (.parquet), or a ChromaDB directory.",
            show_default=False,
        ),
    ],
    *,
    collection: Annotated[
        str, typer.Option("--collection", "-c", help="The collection to write to.", show_default=False)
    ],
    embedding_function: Annotated[
        str | None,
        typer.Option(help="Embed documents that come without an embedding, and note it for a new collection."),
    ] = None,
    space: Annotated[
        Space | None, typer.Option(help="How a new collection measures distance; ChromaDB's default is l2.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write records as deltas, to be merged by the next compaction.

    A record has an `id`, an `embedding` or a `document` (or both), and may have `metadata`; with `"op": "delete"` it
    has only an `id`.

    Example: `chromadb-compaction put notes.jsonl -c notes --embedding-function wordllama`
    """
    from chromadb_compaction.cli import clouds
    from chromadb_compaction.cli.record_files import open_records
    from chromadb_compaction.writer import DeltaWriter

    sources = [open_records(path, collection) for path in files]
    shapes = {source.space for source in sources if source.space}
    writer = DeltaWriter(
        clouds.settings(),
        space=space or (shapes.pop() if len(shapes) == 1 else None),
        embedding_function=embedding_function,
        producer="chromadb-compaction put",
    )
    with _progress(disable=as_json) as bar:
        task = bar.add_task("Writing", total=sum(source.size for source in sources))
        rows = 0
        for chunk in _written(writer, sources, collection, embedding_function):
            rows += len(chunk.ids)
            bar.update(task, advance=chunk.size)
    if as_json:
        print_json({"collection": collection, "records": rows, "deltas": writer.written})
        return
    out.print(f"Wrote {counted(rows, 'record')} as [bold]{counted(len(writer.written), 'delta')}[/] to {collection}.")
    note("Merge them now: chromadb-compaction compact --wait")


def _written(
    writer: DeltaWriter, sources: Sequence[Source], collection: str, embedding_function: str | None
) -> Iterator[Rows]:
    """Write all records, yielding each chunk once the writer has it. An error says what has been written already."""
    try:
        with writer:
            for source in sources:
                for chunk in source.rows():
                    _write(writer, collection, chunk, embedding_function)
                    yield chunk
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{error}; {_what_stays(writer)}") from error


def _write(writer: DeltaWriter, collection: str, rows: Rows, embedding_function: str | None) -> None:
    for part in _parts_of_one_kind(rows):
        if part.deleted[0]:
            writer.delete(collection, part.ids)
        else:
            embeddings = _embedded(part, embedding_function)
            writer.upsert(collection, part.ids, embeddings, documents=part.documents, metadatas=part.metadatas)


def _what_stays(writer: DeltaWriter) -> str:
    if not writer.written:
        return "nothing was written"
    return f"{counted(len(writer.written), 'delta')} of the records before stay written; mend the file and put it again"


def _parts_of_one_kind(rows: Rows) -> Iterator[Rows]:
    start = 0
    for end in range(1, len(rows.ids) + 1):
        if end == len(rows.ids) or rows.deleted[end] != rows.deleted[start]:
            yield rows.part(start, end)
            start = end


def _embedded(rows: Rows, function: str | None) -> object:
    """Return the rows' embeddings, those that are missing made from their documents."""
    missing = [index for index, embedding in enumerate(rows.embeddings) if embedding is None]
    if not missing:
        return rows.embeddings
    bare = next((rows.ids[index] for index in missing if rows.documents[index] is None), None)
    if bare is not None:
        raise InvalidRequestError(f"the record {bare!r} has neither an embedding nor a document")
    if function is None:
        raise InvalidRequestError(
            f"the record {rows.ids[missing[0]]!r} has no embedding; say what makes one of its document:"
            " --embedding-function wordllama"
        )
    from chromadb_compaction.adapters.embedding import embed

    made = embed([str(rows.documents[index]) for index in missing], function)
    if len(missing) == len(rows.ids):
        return made
    embeddings = list(rows.embeddings)
    for index, vector in zip(missing, made, strict=True):
        embeddings[index] = vector.tolist()
    return embeddings


def _progress(*, disable: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    return Progress(*columns, TimeRemainingColumn(), console=err, disable=disable)
