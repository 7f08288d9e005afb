"""The calls of ChromaDB's interface about the database and its collections."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from chromadb import __version__ as chromadb_version
from chromadb.api.collection_configuration import (
    CreateCollectionConfiguration,
    UpdateCollectionConfiguration,
    create_collection_configuration_to_json,
    update_collection_configuration_to_json,
)
from chromadb.api.types import CollectionMetadata, Schema
from chromadb.auth import UserIdentity
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT, Settings
from chromadb.types import Collection as CollectionModel
from chromadb.types import Database, Tenant
from overrides import override

from chromadb_compaction.client.chroma_api import call_checks as check
from chromadb_compaction.client.chroma_api.chroma_errors import as_chroma_errors
from chromadb_compaction.client.chroma_api.collection_models import (
    database_id,
    model_of,
    stated_on_create,
    stated_on_modify,
)
from chromadb_compaction.client.chroma_api.collection_store import CollectionStore, KnownCollection
from chromadb_compaction.client.chroma_api.unsupported_calls import UnsupportedCalls, refuse_rename, refuse_schema

Item = TypeVar("Item")


class CollectionCalls(UnsupportedCalls, ABC):
    """Creates, lists, changes and drops collections."""

    @property
    @abstractmethod
    def store(self) -> CollectionStore:
        """The collections."""

    @override
    def heartbeat(self) -> int:
        return time.time_ns()

    @override
    def get_version(self) -> str:
        return chromadb_version

    @override
    def get_settings(self) -> Settings:
        return self._system.settings

    @override
    def get_max_batch_size(self) -> int:
        return check.MAX_BATCH

    @override
    def get_user_identity(self) -> UserIdentity:
        return UserIdentity(user_id="", tenant=DEFAULT_TENANT, databases=[DEFAULT_DATABASE])

    @override
    def get_tenant(self, name: str) -> Tenant:
        check.check_database(name, DEFAULT_DATABASE)
        return Tenant(name=name)

    @override
    def get_database(self, name: str, tenant: str = DEFAULT_TENANT) -> Database:
        check.check_database(tenant, name)
        return Database(id=database_id(self.store.bucket), name=name, tenant=tenant)

    @override
    def list_databases(
        self, limit: int | None = None, offset: int | None = None, tenant: str = DEFAULT_TENANT
    ) -> Sequence[Database]:
        check.check_page(limit, offset)
        return _page([self.get_database(DEFAULT_DATABASE, tenant)], limit, offset)

    @override
    def reset(self) -> bool:
        if not self._system.settings.allow_reset:
            raise ValueError(
                "Resetting is not allowed by this configuration: it drops every collection of the bucket. Set"
                " `allow_reset` to allow it"
            )
        with as_chroma_errors():
            self.store.drop_all()
        return True

    @override
    def count_collections(self, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE) -> int:
        return len(self.list_collections(tenant=tenant, database=database))

    @override
    def list_collections(
        self,
        limit: int | None = None,
        offset: int | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> Sequence[CollectionModel]:
        check.check_database(tenant, database)
        check.check_page(limit, offset)
        with as_chroma_errors():
            return [_model(each) for each in _page(list(self.store.collections().values()), limit, offset)]

    @override
    def create_collection(
        self,
        name: str,
        schema: Schema | None = None,
        configuration: CreateCollectionConfiguration | None = None,
        metadata: CollectionMetadata | None = None,
        get_or_create: bool = False,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> CollectionModel:
        if schema is not None:
            refuse_schema()
        stated = configuration and create_collection_configuration_to_json(configuration, metadata)
        return self.create_stated(name, stated, metadata, get_or_create, tenant, database)

    def create_stated(
        self,
        name: str,
        configuration: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
        get_or_create: bool,
        tenant: str,
        database: str,
    ) -> CollectionModel:
        """Create a collection. `configuration` is in ChromaDB's JSON."""
        check.check_database(tenant, database)
        check.check_name(name)
        stated, given = stated_on_create(configuration, metadata)
        with as_chroma_errors():
            return _model(self.store.create(name, configuration=stated, metadata=given, get_or_create=get_or_create))

    @override
    def get_or_create_collection(
        self,
        name: str,
        schema: Schema | None = None,
        configuration: CreateCollectionConfiguration | None = None,
        metadata: CollectionMetadata | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> CollectionModel:
        return self.create_collection(name, schema, configuration, metadata, True, tenant, database)

    @override
    def get_collection(
        self, name: str, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
    ) -> CollectionModel:
        check.check_database(tenant, database)
        with as_chroma_errors():
            return _model(self.store.named(name))

    @override
    def get_collection_by_id(
        self, collection_id: UUID, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
    ) -> CollectionModel:
        check.check_database(tenant, database)
        with as_chroma_errors():
            return _model(self.store.identified(collection_id))

    @override
    def delete_collection(self, name: str, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE) -> None:
        check.check_database(tenant, database)
        with as_chroma_errors():
            self.store.drop(name)

    @override
    def _modify(
        self,
        id: UUID,  # noqa: A002 - ChromaDB's signature
        new_name: str | None = None,
        new_metadata: CollectionMetadata | None = None,
        new_configuration: UpdateCollectionConfiguration | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> None:
        stated = new_configuration and update_collection_configuration_to_json(new_configuration)
        self.modify_stated(id, new_name, new_metadata, stated, tenant, database)

    def modify_stated(
        self,
        identity: UUID,
        name: str | None,
        metadata: Mapping[str, Any] | None,
        configuration: Mapping[str, Any] | None,
        tenant: str,
        database: str,
    ) -> None:
        """Change settings of a collection. `configuration` is in ChromaDB's JSON."""
        check.check_database(tenant, database)
        with as_chroma_errors():
            known = self.store.identified(identity)
            if name is not None and name != known.name:
                check.check_name(name)
                refuse_rename(name)
            stated = stated_on_modify(configuration, known.description) if configuration else None
            if stated is not None or metadata is not None:
                self.store.restate(identity, configuration=stated or {}, metadata=metadata)


def _model(known: KnownCollection) -> CollectionModel:
    return model_of(known.name, known.description, known.identity)


def _page(items: Sequence[Item], limit: int | None, offset: int | None) -> Sequence[Item]:
    start = offset or 0
    return items[start:] if limit is None else items[start : start + limit]
