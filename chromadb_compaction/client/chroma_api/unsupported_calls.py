"""The calls of ChromaDB's interface that a bucket refuses, each with its reason."""

from __future__ import annotations

from abc import ABC
from typing import Any, NoReturn
from uuid import UUID

from chromadb.api import ServerAPI
from chromadb.api.models.AttachedFunction import AttachedFunction
from chromadb.api.types import IndexingStatus, ReadLevel, SearchResult
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT
from chromadb.execution.expression.plan import Search
from chromadb.types import Collection as CollectionModel
from overrides import override

from chromadb_compaction.client.chroma_api.chroma_errors import UnsupportedError

_DATABASES = (
    "a bucket is one database: the only ones are tenant default_tenant and database default_database. Use one bucket"
    " for each database"
)
_FUNCTIONS = "a bucket runs no functions on its collections"


class UnsupportedCalls(ServerAPI, ABC):
    """Refuses tenants, databases, forks, `search` and attached functions."""

    @override
    def create_database(self, name: str, tenant: str = DEFAULT_TENANT) -> None:
        _refuse("creating a database", _DATABASES)

    @override
    def delete_database(self, name: str, tenant: str = DEFAULT_TENANT) -> None:
        _refuse("deleting a database", _DATABASES)

    @override
    def create_tenant(self, name: str) -> None:
        _refuse("creating a tenant", _DATABASES)

    @override
    def _fork(
        self, collection_id: UUID, new_name: str, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
    ) -> CollectionModel:
        _refuse("a fork", "the files of a collection are stored under its name. Copy it with `chromadb-compaction put`")

    @override
    def _fork_count(self, collection_id: UUID, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE) -> int:
        _refuse("counting forks", "collections of a bucket have none")

    @override
    def _get_indexing_status(
        self, collection_id: UUID, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
    ) -> IndexingStatus:
        _refuse("the indexing status", "it is one of ChromaDB's cloud. Run `chromadb-compaction status`")

    @override
    def _search(
        self,
        collection_id: UUID,
        searches: list[Search],
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
        read_level: ReadLevel = ReadLevel.INDEX_AND_WAL,
    ) -> SearchResult:
        _refuse("`search`", "ChromaDB's local executor does not implement it. Use `query` or `get`")

    @override
    def attach_function(
        self,
        function_id: str,
        name: str,
        input_collection_id: UUID,
        output_collection: str,
        params: dict[str, Any] | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> tuple[AttachedFunction, bool]:
        _refuse("attaching a function", _FUNCTIONS)

    @override
    def get_attached_function(
        self, name: str, input_collection_id: UUID, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
    ) -> AttachedFunction:
        _refuse("an attached function", _FUNCTIONS)

    @override
    def detach_function(
        self,
        name: str,
        input_collection_id: UUID,
        delete_output: bool = False,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> bool:
        _refuse("detaching a function", _FUNCTIONS)


def refuse_rename(new_name: str) -> NoReturn:
    """Raise UnsupportedError for a new name of a collection."""
    _refuse(
        f"renaming a collection to {new_name!r}",
        "its files are stored under its name, and late deltas would bring the old one back. Copy it instead",
    )


def refuse_schema() -> NoReturn:
    """Raise UnsupportedError for a schema."""
    _refuse("a schema", "deltas state a configuration. Give `configuration` and `embedding_function` instead")


def _refuse(what: str, why: str) -> NoReturn:
    raise UnsupportedError(f"{what} is not supported: {why}")
