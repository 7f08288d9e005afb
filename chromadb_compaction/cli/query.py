"""`query`: ask the published snapshot, through the query function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict
from rich.table import Table
from rich.text import Text

from chromadb_compaction.cli.console import JsonFlag, out, print_json
from chromadb_compaction.cli.exits import NothingFoundError, error_named
from chromadb_compaction.cli.wording import one_line
from chromadb_compaction.errors import CompactionError, InvalidRequestError
from chromadb_compaction.settings import required

INCLUDE = ["documents", "metadatas", "distances"]


class Answer(BaseModel):
    """ChromaDB's QueryResult, one inner list per question, and the snapshot that gave it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    snapshot_id: str
    ids: list[list[str]]
    distances: list[list[float]] | None = None
    documents: list[list[str | None]] | None = None
    metadatas: list[list[dict[str, Any] | None]] | None = None


def query(
    text: Annotated[str | None, typer.Argument(help="What to look for, in plain words.", show_default=False)] = None,
    *,
    collection: Annotated[str, typer.Option("--collection", "-c", help="The collection to ask.", show_default=False)],
    results: Annotated[int, typer.Option("--results", "-n", min=1, help="How many records to return.")] = 5,
    embedding_file: Annotated[
        Path | None,
        typer.Option(help="Ask with this embedding instead: a file holding a JSON list of numbers.", dir_okay=False),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Find the records of a collection that are nearest to a text or an embedding."""
    from chromadb_compaction.cli import clouds

    function = required(clouds.settings().chromadb_query_function, "CHROMADB_QUERY_FUNCTION")
    request = {"collection": collection, "n_results": results, "include": INCLUDE, **_question(text, embedding_file)}
    raw = invoke(function, request)
    if as_json:
        print_json(raw)
    answer = Answer.model_validate(raw)
    if not answer.ids or not answer.ids[0]:
        raise NothingFoundError(f"the collection {collection} is empty; see: chromadb-compaction status")
    if not as_json:
        out.print(_table(answer))
        out.print(Text(f"from snapshot {answer.snapshot_id}", style="dim"))


def invoke(function: str, request: dict[str, Any]) -> dict[str, Any]:
    """Call a function and return its answer. Raises the error that the function raised, by name."""
    from chromadb_compaction.cli import clouds

    response = clouds.functions().invoke(FunctionName=function, Payload=json.dumps(request).encode())
    answer = json.loads(response["Payload"].read())
    if response.get("FunctionError"):
        raise error_named(answer.get("errorType", "Error"), answer.get("errorMessage", "no message"))
    if not isinstance(answer, dict):
        raise CompactionError(f"{function} answered {answer!r}, which is not an object; is it the query function?")
    return answer


def _question(text: str | None, embedding_file: Path | None) -> dict[str, Any]:
    if (text is None) == (embedding_file is None):
        raise InvalidRequestError("give either a TEXT or --embedding-file; for the options: query --help")
    if embedding_file is None:
        return {"query_texts": [text]}
    try:
        return {"query_embeddings": [_numbers(json.loads(embedding_file.read_bytes()))]}
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"{embedding_file} is not a JSON list of numbers: {error}") from error


def _numbers(value: object) -> list[float]:
    if isinstance(value, list) and value and all(isinstance(each, int | float) for each in value):
        return [float(each) for each in value]
    raise ValueError("expected [0.1, -0.2, ...]")


def _table(answer: Answer) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("Distance", justify="right")
    table.add_column("Id", style="bold", overflow="fold")
    table.add_column("Document", overflow="fold")
    ids = answer.ids[0]
    distances = answer.distances[0] if answer.distances else [float("nan")] * len(ids)
    documents = answer.documents[0] if answer.documents else [None] * len(ids)
    for id_, distance, document in zip(ids, distances, documents, strict=True):
        table.add_row(f"{distance:.4f}", Text(id_), Text(one_line(document, 200)))
    return table
