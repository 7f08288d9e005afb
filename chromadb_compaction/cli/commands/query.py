"""`query`: query a collection through the query function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from chromadb_compaction.cli.common.completion import complete_collection
from chromadb_compaction.cli.common.console import note
from chromadb_compaction.cli.common.exits import NothingFoundError
from chromadb_compaction.cli.common.options import JsonFlag
from chromadb_compaction.cli.common.output import exit_with, output_for
from chromadb_compaction.errors import EmbeddingFunctionError, InvalidRequestError

ReadLevel = Literal["fresh", "snapshot"]
_EXAMPLES = {"--where": '{"year": {"$gte": 2024}}', "--where-document": '{"$contains": "backup"}'}


def query(  # noqa: PLR0913 - typer makes an option of each
    text: Annotated[str | None, typer.Argument(help="The text to search for.", show_default=False)] = None,
    *,
    collection: Annotated[
        str,
        typer.Option(
            "--collection",
            "-c",
            help="The collection to query.",
            show_default=False,
            autocompletion=complete_collection,
        ),
    ],
    results: Annotated[int, typer.Option("--results", "-n", min=1, help="How many records to return.")] = 5,
    embedding_file: Annotated[
        Path | None,
        typer.Option(help="Search for this embedding instead: a file with a JSON list of numbers.", dir_okay=False),
    ] = None,
    embedding_function: Annotated[
        str | None,
        typer.Option(help="Embed the text here, with this function, instead of in the query function."),
    ] = None,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Only records with these ids.")] = None,
    where: Annotated[
        str | None, typer.Option(help="Only records that pass this filter on metadata: ChromaDB's, in JSON.")
    ] = None,
    where_document: Annotated[
        str | None, typer.Option(help="Only records that pass this filter on documents: ChromaDB's, in JSON.")
    ] = None,
    read_level: Annotated[
        ReadLevel, typer.Option(help="fresh: with the pending deltas. snapshot: what the last compaction published.")
    ] = "fresh",
    as_json: JsonFlag = False,
) -> None:
    """Find the records of a collection that are nearest to a text or an embedding; with neither, list records.

    The query function embeds the text. If it cannot run the collection's embedding function, this machine does.

    For example: chromadb-compaction query "how are backups made" -c notes --where '{"year": {"$gte": 2024}}'
    """
    from chromadb_compaction.cli.common import clients
    from chromadb_compaction.cli.views.answers import GetResult, QueryResult, render_answer
    from chromadb_compaction.settings import required

    function = required(clients.settings().chromadb_query_function, "CHROMADB_QUERY_FUNCTION")
    question = _question(text, embedding_file, embedding_function, results)
    filters = {
        "ids": ids,
        "where": _filter("--where", where),
        "where_document": _filter("--where-document", where_document),
    }
    chosen = {name: value for name, value in filters.items() if value}
    request = {"collection": collection, "read_level": read_level, **question, **chosen}
    if embedding_function is not None:
        from chromadb_compaction.cli.common.embedding import embed_with

        request = _embedded(request, embed_with(embedding_function, str(text), collection, clients.services()))
    response = _ask(function, request)
    result = QueryResult.model_validate(response) if "distances" in response else GetResult.model_validate(response)
    output_for(as_json=as_json).show(response, lambda _: render_answer(result))
    if not result.count:
        missing = "has no record that passes the filters" if chosen else "is empty"
        message = f"the collection {collection} {missing}"
        raise exit_with(NothingFoundError(message, next_step="see: chromadb-compaction status"))


def _ask(function: str, request: dict[str, Any]) -> dict[str, Any]:
    """Invoke the query function. If it cannot embed the text, embed it here and ask again."""
    from chromadb_compaction.aws.functions import invoke
    from chromadb_compaction.cli.common import clients

    try:
        return invoke(function, request)
    except EmbeddingFunctionError as cause:
        from chromadb_compaction.cli.common.embedding import embed_instead

        [text] = request["query_texts"]
        vector = embed_instead(text, request["collection"], clients.services(), cause)
        note(f"The query function cannot embed the text ({cause.message}), so it was embedded here.")
        return invoke(function, _embedded(request, vector))


def _embedded(request: dict[str, Any], vector: list[float]) -> dict[str, Any]:
    return {**{name: value for name, value in request.items() if name != "query_texts"}, "query_embeddings": [vector]}


def _question(
    text: str | None, embedding_file: Path | None, embedding_function: str | None, results: int
) -> dict[str, Any]:
    if text is not None and embedding_file is not None:
        raise InvalidRequestError("give a TEXT or --embedding-file, not both")
    if text is None and embedding_function is not None:
        raise InvalidRequestError("--embedding-function embeds a TEXT", next_step="give the TEXT too")
    from chromadb_compaction.cli.views.answers import INCLUDE

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
