"""`query`: ask the published snapshot, through the query function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict
from rich.table import Table
from rich.text import Text

from chromadb_compaction.cli.common.console import JsonFlag, out, print_json
from chromadb_compaction.cli.common.exits import NothingFoundError
from chromadb_compaction.cli.common.formatting import one_line
from chromadb_compaction.errors import CompactionError, InvalidRequestError, error_named
from chromadb_compaction.settings import required

INCLUDE = ["documents", "metadatas", "distances"]
_EXAMPLES = {"--where": '{"year": {"$gte": 2024}}', "--where-document": '{"$contains": "backup"}'}


class Answer(BaseModel):
    """ChromaDB's QueryResult, one inner list per question, and the snapshot that gave it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    snapshot_id: str
    ids: list[list[str]]
    distances: list[list[float]] | None = None
    documents: list[list[str | None]] | None = None
    metadatas: list[list[dict[str, Any] | None]] | None = None


class Records(BaseModel):
    """ChromaDB's GetResult, and the snapshot that gave it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    snapshot_id: str
    ids: list[str]
    documents: list[str | None] | None = None
    metadatas: list[dict[str, Any] | None] | None = None


def query(
    text: Annotated[str | None, typer.Argument(help="What to look for, in plain words.", show_default=False)] = None,
    *,
    collection: Annotated[str, typer.Option("--collection", "-c", help="The collection to ask.", show_default=False)],
    results: Annotated[int, typer.Option("--results", "-n", min=1, help="How many records to return.")] = 5,
    embedding_file: Annotated[
        Path | None,
        typer.Option(help="Ask with this embedding instead: a file holding a JSON list of numbers.", dir_okay=False),
    ] = None,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Only records of these ids.")] = None,
    where: Annotated[str | None, typer.Option(help="Only records whose metadata pass ChromaDB's filter, JSON.")] = None,
    where_document: Annotated[
        str | None, typer.Option(help="Only records whose document passes ChromaDB's filter, JSON.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Find the records of a collection that are nearest to a text or an embedding; with neither, list records.

    For example: chromadb-compaction query "how are backups made" -c notes --where '{"year": {"$gte": 2024}}'
    """
    from chromadb_compaction.cli.common import clients

    function = required(clients.settings().chromadb_query_function, "CHROMADB_QUERY_FUNCTION")
    question = _question(text, embedding_file, results)
    filters = {
        "ids": ids,
        "where": _filter("--where", where),
        "where_document": _filter("--where-document", where_document),
    }
    chosen = {name: value for name, value in filters.items() if value}
    raw = invoke(function, {"collection": collection, **question, **chosen})
    if as_json:
        print_json(raw)
    found = _shown(raw, as_json=as_json)
    if not found:
        missing = "has no record that passes the filters" if chosen else "is empty"
        raise NothingFoundError(f"the collection {collection} {missing}; see: chromadb-compaction status")


def _shown(raw: dict[str, Any], *, as_json: bool) -> int:
    """Print an answer, unless it was printed as JSON, and return how many records it has."""
    answer = Answer.model_validate(raw) if "distances" in raw else Records.model_validate(raw)
    found = len(answer.ids[0]) if isinstance(answer, Answer) else len(answer.ids)
    if found and not as_json:
        out.print(_nearest(answer) if isinstance(answer, Answer) else _listed(answer))
        out.print(Text(f"from snapshot {answer.snapshot_id}", style="dim"))
    return found


def invoke(function: str, request: dict[str, Any]) -> dict[str, Any]:
    """Call a function and return its answer. Raises the error that it answers, or has raised, by name."""
    from chromadb_compaction.cli.common import clients

    response = clients.functions().invoke(FunctionName=function, Payload=json.dumps(request).encode())
    answer = json.loads(response["Payload"].read())
    if response.get("FunctionError"):
        raise error_named(answer.get("errorType", "Error"), answer.get("errorMessage", "no message"))
    if not isinstance(answer, dict):
        raise CompactionError(f"{function} answered {answer!r}, which is not an object; is it the query function?")
    if "error" in answer:
        reported = answer["error"]
        raise error_named(reported["kind"], reported["message"], next_step=reported["next_step"])
    return answer


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
    """Return a filter that was typed as JSON; what it means, ChromaDB checks."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidRequestError(f"{option} is no JSON: {error}") from error
    if not isinstance(value, dict) or not value:
        raise InvalidRequestError(f"{option} is a JSON object such as {_EXAMPLES[option]}, not {text}")
    return value


def _numbers(value: object) -> list[float]:
    if isinstance(value, list) and value and all(isinstance(each, int | float) for each in value):
        return [float(each) for each in value]
    raise ValueError("expected [0.1, -0.2, ...]")


def _nearest(answer: Answer) -> Table:
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


def _listed(records: Records) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("Id", style="bold", overflow="fold")
    table.add_column("Document", overflow="fold")
    table.add_column("Metadata", overflow="fold")
    nothing = [None] * len(records.ids)
    for id_, document, metadata in zip(
        records.ids, records.documents or nothing, records.metadatas or nothing, strict=True
    ):
        shown = json.dumps(metadata, ensure_ascii=False) if metadata else ""
        table.add_row(Text(id_), Text(one_line(document, 200)), Text(one_line(shown, 200)))
    return table
