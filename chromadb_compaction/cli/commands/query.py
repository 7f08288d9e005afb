"""`query`: query the published snapshot through the query function."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from chromadb_compaction.cli.common.exits import NothingFoundError
from chromadb_compaction.cli.common.formatting import one_line
from chromadb_compaction.cli.common.options import JsonFlag
from chromadb_compaction.cli.common.output import exit_with, output_for
from chromadb_compaction.cli.common.tables import listing
from chromadb_compaction.errors import InvalidRequestError
from chromadb_compaction.settings import required

INCLUDE = ["documents", "metadatas", "distances"]
_EXAMPLES = {"--where": '{"year": {"$gte": 2024}}', "--where-document": '{"$contains": "backup"}'}


class QueryResult(BaseModel):
    """ChromaDB's QueryResult, with one inner list per question, and the snapshot that was queried."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    snapshot_id: str
    ids: list[list[str]]
    distances: list[list[float | None]] | None = None
    documents: list[list[str | None]] | None = None
    metadatas: list[list[dict[str, Any] | None]] | None = None

    @property
    def count(self) -> int:
        """The number of records for the first question."""
        return len(self.ids[0])


class GetResult(BaseModel):
    """ChromaDB's GetResult, and the snapshot that was queried."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    snapshot_id: str
    ids: list[str]
    documents: list[str | None] | None = None
    metadatas: list[dict[str, Any] | None] | None = None

    @property
    def count(self) -> int:
        """The number of records."""
        return len(self.ids)


def query(
    text: Annotated[str | None, typer.Argument(help="The text to search for.", show_default=False)] = None,
    *,
    collection: Annotated[str, typer.Option("--collection", "-c", help="The collection to query.", show_default=False)],
    results: Annotated[int, typer.Option("--results", "-n", min=1, help="How many records to return.")] = 5,
    embedding_file: Annotated[
        Path | None,
        typer.Option(help="Search for this embedding instead: a file with a JSON list of numbers.", dir_okay=False),
    ] = None,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Only records with these ids.")] = None,
    where: Annotated[
        str | None, typer.Option(help="Only records that pass this filter on metadata: ChromaDB's, in JSON.")
    ] = None,
    where_document: Annotated[
        str | None, typer.Option(help="Only records that pass this filter on documents: ChromaDB's, in JSON.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Find the records of a collection that are nearest to a text or an embedding; with neither, list records.

    For example: chromadb-compaction query "how are backups made" -c notes --where '{"year": {"$gte": 2024}}'
    """
    from chromadb_compaction.aws.functions import invoke
    from chromadb_compaction.cli.common import clients

    function = required(clients.settings().chromadb_query_function, "CHROMADB_QUERY_FUNCTION")
    question = _question(text, embedding_file, results)
    filters = {
        "ids": ids,
        "where": _filter("--where", where),
        "where_document": _filter("--where-document", where_document),
    }
    chosen = {name: value for name, value in filters.items() if value}
    response = invoke(function, {"collection": collection, **question, **chosen})
    result = QueryResult.model_validate(response) if "distances" in response else GetResult.model_validate(response)
    output_for(as_json=as_json).show(response, lambda _: _render(result))
    if not result.count:
        missing = "has no record that passes the filters" if chosen else "is empty"
        message = f"the collection {collection} {missing}"
        raise exit_with(NothingFoundError(message, next_step="see: chromadb-compaction status"))


def _render(result: QueryResult | GetResult) -> Iterator[RenderableType]:
    if result.count:
        yield _nearest(result) if isinstance(result, QueryResult) else _listed(result)
        yield Text(f"from snapshot {result.snapshot_id}", style="dim")


def _question(text: str | None, embedding_file: Path | None, results: int) -> dict[str, Any]:
    if text is not None and embedding_file is not None:
        raise InvalidRequestError("give a TEXT or --embedding-file, not both")
    near = {"action": "query", "n_results": results, "include": INCLUDE}
    if text is not None:
        return {**near, "query_texts": [text]}
    if embedding_file is None:
        return {"action": "get", "limit": results, "include": ["documents", "metadatas"]}
    try:
        return {**near, "query_embeddings": [_numbers(json.loads(embedding_file.read_bytes()))]}
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"{embedding_file} is not a JSON list of numbers: {error}") from error


def _filter(option: str, text: str | None) -> dict[str, Any] | None:
    """Return a filter that was typed as JSON. ChromaDB checks its meaning."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidRequestError(f"{option} is not JSON: {error}") from error
    if not isinstance(value, dict) or not value:
        raise InvalidRequestError(f"{option} must be a JSON object such as {_EXAMPLES[option]}, not {text}")
    return value


def _numbers(value: object) -> list[float]:
    if isinstance(value, list) and value and all(isinstance(each, int | float) for each in value):
        return [float(each) for each in value]
    raise ValueError("expected [0.1, -0.2, ...]")


def _nearest(result: QueryResult) -> Table:
    table = listing()
    table.add_column("Distance", justify="right")
    table.add_column("Id", style="bold", overflow="fold")
    table.add_column("Document", overflow="fold")
    ids = result.ids[0]
    distances = result.distances[0] if result.distances else [None] * len(ids)
    documents = result.documents[0] if result.documents else [None] * len(ids)
    for id_, distance, document in zip(ids, distances, documents, strict=True):
        table.add_row("" if distance is None else f"{distance:.4f}", Text(id_), Text(one_line(document, 200)))
    return table


def _listed(result: GetResult) -> Table:
    table = listing()
    table.add_column("Id", style="bold", overflow="fold")
    table.add_column("Document", overflow="fold")
    table.add_column("Metadata", overflow="fold")
    nothing = [None] * len(result.ids)
    for id_, document, metadata in zip(
        result.ids, result.documents or nothing, result.metadatas or nothing, strict=True
    ):
        shown = json.dumps(metadata, ensure_ascii=False) if metadata else ""
        table.add_row(Text(id_), Text(one_line(document, 200)), Text(one_line(shown, 200)))
    return table
