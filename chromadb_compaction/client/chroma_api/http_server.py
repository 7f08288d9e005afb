"""ChromaDB's own HTTP server over a bucket, for `chromadb.HttpClient` and the clients in other languages.

It changes what the server of ChromaDB's Python package does not do as its other server does: `ids` of a query, names of
errors, the schema of a collection, and embedding functions, which a server need not be able to build.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import orjson
from anyio import to_thread
from chromadb.config import Settings as ChromaSettings
from chromadb.errors import ChromaError, RateLimitError
from chromadb.server.fastapi import FastAPI as ChromaServer
from chromadb.server.fastapi.types import CreateCollection, GetEmbedding, QueryEmbedding, UpdateCollection
from chromadb.types import Collection as CollectionModel
from chromadb.utils.fastapi import string_to_uuid
from fastapi import Request, Response
from overrides import override

from chromadb_compaction.client.chroma_api.chroma_errors import wire_name
from chromadb_compaction.client.chroma_api.collection_store import CollectionStore
from chromadb_compaction.client.chroma_api.server_api import BucketAPI

Result = TypeVar("Result")
_override = override(check_signature=False)
Encoded = Any
"""A response, where ChromaDB's server declares the value that FastAPI encodes into one."""

_API: Final = f"{BucketAPI.__module__}.{BucketAPI.__name__}"
_COLLECTION: Final = "/api/v2/tenants/{tenant}/databases/{database_name}/collections/{collection_id}"


class _Query(QueryEmbedding):
    """The body of a query, with the field that ChromaDB's client sends and its Python server ignores."""

    ids: list[str] | None = None


class BucketServer(ChromaServer):
    """ChromaDB's server over the collections of a bucket. `app()` is its ASGI application.

    Args:
        store: The collections.
        allow_reset: True allows `reset`, which drops every collection of the bucket.
    """

    def __init__(self, store: CollectionStore, *, allow_reset: bool = False) -> None:
        super().__init__(ChromaSettings(chroma_api_impl=_API, anonymized_telemetry=False, allow_reset=allow_reset))
        self._bucket = BucketAPI(self._system, store)
        self._api = self._bucket
        for kind in (ChromaError, RateLimitError):  # ChromaDB's own handler of the second drops its message
            self._app.add_exception_handler(kind, _error_response)

    @override
    def setup_v2_routes(self) -> None:
        super().setup_v2_routes()
        self.router.add_api_route("/api/v2/healthcheck", self.heartbeat, methods=["GET"])
        self.router.add_api_route(f"{_COLLECTION}/search", self.search, methods=["POST"])
        self.router.add_api_route(f"{_COLLECTION}/fork", self.fork, methods=["POST"])
        self.router.add_api_route(f"{_COLLECTION}/fork_count", self.fork_count, methods=["GET"])
        self.router.add_api_route(f"{_COLLECTION}/indexing_status", self.indexing_status, methods=["GET"])

    @override
    def shutdown(self) -> None:
        super().shutdown()
        self._bucket.stop()

    @_override
    async def list_collections(
        self,
        request: Request,
        tenant: str,
        database_name: str,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Encoded:
        def listed() -> list[dict[str, Any]]:
            found = self._api.list_collections(limit, offset, tenant, database_name)
            return [_collection(each) for each in found]

        return await self._answer(listed)

    @_override
    async def create_collection(self, request: Request, tenant: str, database_name: str) -> Encoded:
        body = CreateCollection.model_validate_json(await request.body())
        return await self._answer(
            lambda: _collection(
                self._bucket.create_stated(
                    body.name, body.configuration, body.metadata, body.get_or_create, tenant, database_name
                )
            )
        )

    @_override
    async def get_collection(self, request: Request, tenant: str, database_name: str, collection_name: str) -> Encoded:
        return await self._answer(lambda: _collection(self._api.get_collection(collection_name, tenant, database_name)))

    @_override
    async def get_collection_by_id(
        self, request: Request, tenant: str, database_name: str, collection_id: str
    ) -> Encoded:
        return await self._answer(
            lambda: _collection(self._api.get_collection_by_id(string_to_uuid(collection_id), tenant, database_name))
        )

    @_override
    async def update_collection(self, tenant: str, database_name: str, collection_id: str, request: Request) -> Encoded:
        body = UpdateCollection.model_validate_json(await request.body())
        return await self._answer(
            lambda: self._bucket.modify_stated(
                string_to_uuid(collection_id),
                body.new_name,
                body.new_metadata,
                body.new_configuration,
                tenant,
                database_name,
            )
        )

    @_override
    async def get(self, collection_id: str, tenant: str, database_name: str, request: Request) -> Encoded:
        body = GetEmbedding.model_validate_json(await request.body())
        return await self._answer(
            lambda: _with_include(
                self._api._get(  # noqa: SLF001 - ChromaDB's interface
                    string_to_uuid(collection_id),
                    ids=body.ids,
                    where=body.where,
                    limit=body.limit,
                    offset=body.offset,
                    where_document=body.where_document,
                    include=body.include,
                    tenant=tenant,
                    database=database_name,
                )
            )
        )

    @_override
    async def get_nearest_neighbors(
        self, tenant: str, database_name: str, collection_id: str, request: Request
    ) -> Encoded:
        body = _Query.model_validate_json(await request.body())
        return await self._answer(
            lambda: _with_include(
                self._api._query(  # noqa: SLF001 - ChromaDB's interface
                    string_to_uuid(collection_id),
                    query_embeddings=body.query_embeddings,
                    ids=body.ids,
                    n_results=body.n_results,
                    where=body.where,
                    where_document=body.where_document,
                    include=body.include,
                    tenant=tenant,
                    database=database_name,
                )
            )
        )

    async def search(self, collection_id: str) -> Response:
        """Refuse `search`."""
        return await self._answer(lambda: self._api._search(string_to_uuid(collection_id), []))  # noqa: SLF001 - ChromaDB's interface

    async def fork(self, collection_id: str) -> Response:
        """Refuse a fork."""
        return await self._answer(lambda: self._api._fork(string_to_uuid(collection_id), ""))  # noqa: SLF001 - ChromaDB's interface

    async def fork_count(self, collection_id: str) -> Response:
        """Refuse to count forks."""
        return await self._answer(lambda: self._api._fork_count(string_to_uuid(collection_id)))  # noqa: SLF001 - ChromaDB's interface

    async def indexing_status(self, collection_id: str) -> Response:
        """Refuse to report the indexing status."""
        return await self._answer(lambda: self._api._get_indexing_status(string_to_uuid(collection_id)))  # noqa: SLF001 - ChromaDB's interface

    async def _answer(self, call: Callable[[], Result]) -> Response:
        """Return the result of a call, made in a thread, as JSON."""

        def encoded() -> bytes:
            return orjson.dumps(call(), option=orjson.OPT_SERIALIZE_NUMPY)

        return Response(
            await to_thread.run_sync(encoded, limiter=self._capacity_limiter), media_type="application/json"
        )


def _collection(model: CollectionModel) -> dict[str, Any]:
    """Return a collection as ChromaDB's clients read it."""
    return {**model.model_dump(mode="json"), "schema": model.serialized_schema}


def _with_include(result: Any) -> dict[str, Any]:  # noqa: ANN401 - ChromaDB's two kinds of result
    """Return a result as ChromaDB's clients read it."""
    return {**result, "include": result["included"]}


def _error_response(_request: Request, error: Exception) -> Response:
    """Return the response to a call that ChromaDB's interface refused."""
    if not isinstance(error, ChromaError):
        raise error
    body = {"error": wire_name(error), "message": error.message()}
    return Response(orjson.dumps(body), status_code=error.code(), media_type="application/json")
