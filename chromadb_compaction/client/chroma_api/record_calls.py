"""The calls of ChromaDB's interface about the records of a collection."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Sequence
from typing import Any, Literal, cast
from uuid import UUID

import numpy as np
from chromadb.api.types import (
    DeleteResult,
    Documents,
    Embeddings,
    GetResult,
    IDs,
    Include,
    IncludeMetadataDocuments,
    IncludeMetadataDocumentsDistances,
    IncludeMetadataDocumentsEmbeddings,
    Metadatas,
    QueryResult,
    ReadLevel,
    URIs,
    Where,
    WhereDocument,
)
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT
from overrides import override

from chromadb_compaction.chroma.query import Filters
from chromadb_compaction.client.chroma_api import call_checks as check
from chromadb_compaction.client.chroma_api.chroma_errors import InternalError, InvalidArgumentError, as_chroma_errors
from chromadb_compaction.client.chroma_api.collection_calls import CollectionCalls
from chromadb_compaction.client.chroma_api.record_changes import Record, added, matrix, updated, upserted
from chromadb_compaction.pending.reader import FreshCollection

_RULES = {"add": added, "upsert": upserted, "update": updated}
_WHOLE = ["embeddings", "documents", "metadatas", "uris"]


class RecordCalls(CollectionCalls, ABC):
    """Reads and writes records."""

    @override
    def _count(
        self,
        collection_id: UUID,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
        read_level: ReadLevel = ReadLevel.INDEX_AND_WAL,
    ) -> int:
        check.check_database(tenant, database)
        level: Literal["snapshot"] | None = "snapshot" if read_level == ReadLevel.INDEX_ONLY else None
        with as_chroma_errors(), self.store.reading(collection_id, level) as collection:
            return collection.count() if collection else 0

    @override
    def _peek(
        self, collection_id: UUID, n: int = 10, tenant: str = DEFAULT_TENANT, database: str = DEFAULT_DATABASE
    ) -> GetResult:
        include = IncludeMetadataDocumentsEmbeddings
        return self._get(collection_id, limit=n, include=include, tenant=tenant, database=database)

    @override
    def _get(
        self,
        collection_id: UUID,
        ids: IDs | None = None,
        where: Where | None = None,
        limit: int | None = None,
        offset: int | None = None,
        where_document: WhereDocument | None = None,
        include: Include = IncludeMetadataDocuments,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> GetResult:
        check.check_database(tenant, database)
        check.check_page(limit, offset)
        check.check_included(include)
        filters = _filters(ids, where, where_document)
        with as_chroma_errors(), self.store.reading(collection_id) as collection:
            if collection is None or filters.ids == [] or limit == 0:
                return _empty_get(include)
            return collection.get(filters, limit=limit, offset=offset, include=list(include))

    @override
    def _query(
        self,
        collection_id: UUID,
        query_embeddings: Embeddings,
        ids: IDs | None = None,
        n_results: int = 10,
        where: Where | None = None,
        where_document: WhereDocument | None = None,
        include: Include = IncludeMetadataDocumentsDistances,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> QueryResult:
        check.check_database(tenant, database)
        check.check_page(n_results, None)
        check.check_included(include)
        vectors = [check.as_vector(each) for each in query_embeddings]
        filters = _filters(ids, where, where_document)
        with as_chroma_errors(), self.store.reading(collection_id) as collection:
            dimension = collection.description.dimension if collection else None
            check.check_dimensions(vectors, dimension)
            if collection is None or dimension is None or not vectors or filters.ids == [] or not n_results:
                return _empty_query(len(vectors), include)
            _check_exist(collection, filters.ids)
            return collection.query(np.stack(vectors), n_results=n_results, filters=filters, include=list(include))

    @override
    def _add(
        self,
        ids: IDs,
        collection_id: UUID,
        embeddings: Embeddings,
        metadatas: Metadatas | None = None,
        documents: Documents | None = None,
        uris: URIs | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> bool:
        check.check_database(tenant, database)
        return self._change("add", collection_id, ids, embeddings, metadatas, documents, uris)

    @override
    def _upsert(
        self,
        collection_id: UUID,
        ids: IDs,
        embeddings: Embeddings,
        metadatas: Metadatas | None = None,
        documents: Documents | None = None,
        uris: URIs | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> bool:
        check.check_database(tenant, database)
        return self._change("upsert", collection_id, ids, embeddings, metadatas, documents, uris)

    @override
    def _update(
        self,
        collection_id: UUID,
        ids: IDs,
        embeddings: Embeddings | None = None,
        metadatas: Metadatas | None = None,
        documents: Documents | None = None,
        uris: URIs | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> bool:
        check.check_database(tenant, database)
        return self._change("update", collection_id, ids, embeddings, metadatas, documents, uris)

    @override
    def _delete(
        self,
        collection_id: UUID,
        ids: IDs | None = None,
        where: Where | None = None,
        where_document: WhereDocument | None = None,
        limit: int | None = None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> DeleteResult:
        check.check_database(tenant, database)
        check.check_page(limit, None)
        filters = _filters(ids, where, where_document)
        by_filter = filters.where is not None or filters.where_document is not None
        if limit is not None and not by_filter:
            raise InvalidArgumentError("limit can only be specified when a where clause is provided")
        with as_chroma_errors(), self.store.changing(collection_id) as (collection, writer):
            found = filters.ids
            if by_filter:
                found = collection.get(filters, limit=limit, offset=None, include=[])["ids"] if limit != 0 else []
            if found:
                writer.delete(collection.name, list(dict.fromkeys(found)))
            return DeleteResult(deleted=len(found or []))

    def _change(
        self,
        rule: Literal["add", "upsert", "update"],
        identity: UUID,
        ids: IDs,
        embeddings: Sequence[Any] | None,
        metadatas: Sequence[Any] | None,
        documents: Sequence[Any] | None,
        uris: Sequence[Any] | None,
    ) -> bool:
        """Write the records that a call changes, in one delta or, if they are large, several."""
        with as_chroma_errors(), self.store.changing(identity) as (collection, writer):
            given = check.records_of(
                ids,
                embeddings,
                metadatas,
                documents,
                uris,
                dimension=collection.description.dimension,
                needs_vectors=rule != "update",
            )
            existing = _existing(collection, ids, [] if rule == "add" else _WHOLE)
            changed = _RULES[rule](given, existing)
            if changed:
                writer.upsert(
                    collection.name,
                    [each.id for each in changed],
                    matrix(changed),
                    documents=[each.document for each in changed],
                    metadatas=[each.metadata for each in changed],
                    uris=[each.uri for each in changed],
                )
        return True


def _filters(ids: Iterable[str] | None, where: Where | None, where_document: WhereDocument | None) -> Filters:
    """Return the filters of a call. As in ChromaDB, an empty one is none, except for ids."""
    return Filters(
        ids=None if ids is None else list(ids),
        where=cast("dict[str, Any] | None", where or None),
        where_document=cast("dict[str, Any] | None", where_document or None),
    )


def _check_exist(collection: FreshCollection, ids: list[str] | None) -> None:
    """Raise InternalError, as ChromaDB does, if a query names an id that does not exist."""
    if ids is None:
        return
    found = collection.get(Filters(ids=list(dict.fromkeys(ids))), limit=None, offset=None, include=[])["ids"]
    missing = sorted(set(ids).difference(found))
    if missing:
        raise InternalError(f"Error finding id: there is no record {missing[0]!r} in {collection.name!r}")


def _existing(collection: FreshCollection, ids: Sequence[str], include: list[str]) -> dict[str, Record]:
    """Return the records with these ids that exist, with what `include` names."""
    if not ids or collection.description.dimension is None:
        return {}
    found = collection.get(Filters(ids=list(dict.fromkeys(ids))), limit=None, offset=None, include=include)
    nothing: list[Any] = [None] * len(found["ids"])
    columns: list[Any] = [found["embeddings"], found["documents"], found["metadatas"], found["uris"]]
    rows = zip(found["ids"], *(nothing if column is None else column for column in columns), strict=True)
    return {
        row_id: Record(
            row_id,
            vector=None if vector is None else check.as_vector(vector),
            document=document,
            metadata=dict(metadata) if metadata else None,
            uri=uri,
        )
        for row_id, vector, document, metadata, uri in rows
    }


def _empty_get(include: Include) -> GetResult:
    def column(name: str) -> Any:  # noqa: ANN401 - each key has its own type
        return [] if name in include else None

    return GetResult(
        ids=[],
        embeddings=column("embeddings"),
        documents=column("documents"),
        uris=column("uris"),
        included=include,
        data=None,
        metadatas=column("metadatas"),
    )


def _empty_query(questions: int, include: Include) -> QueryResult:
    def column(name: str) -> Any:  # noqa: ANN401 - each key has its own type
        return [[] for _ in range(questions)] if name in include else None

    return QueryResult(
        ids=[[] for _ in range(questions)],
        embeddings=column("embeddings"),
        documents=column("documents"),
        uris=column("uris"),
        included=include,
        data=None,
        metadatas=column("metadatas"),
        distances=column("distances"),
    )
