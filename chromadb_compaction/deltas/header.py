"""The header of a delta: the facts about its collection that are not in its rows."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from chromadb_compaction.configuration import (
    LONGEST_SETTINGS,
    CollectionConfiguration,
    CollectionMetadata,
    DeltaVersion,
    FunctionConfiguration,
    IndexConfiguration,
    KeptSettings,
    Register,
    Space,
)
from chromadb_compaction.deltas.records import check_metadata
from chromadb_compaction.errors import CorruptDeltaError, NewerFormatError
from chromadb_compaction.manifest import parse_stored

HEADER_KEY = b"chromadb_compaction"


def _checked_metadata(value: object) -> object:
    """Return the metadata without keys that hold None, as ChromaDB does for records."""
    try:
        check_metadata(value)
    except CorruptDeltaError as error:
        raise ValueError(error.message) from error
    return {key: held for key, held in value.items() if held is not None} if isinstance(value, dict) else value


class StatedCollection(BaseModel):
    """The collection as a delta states it.

    Args:
        configuration: ChromaDB's `Collection.configuration_json`, or a part of it. The distance, `ef_construction`,
            `max_neighbors` and the embedding function are stated once. `ef_search` may change. None: nothing stated.
        metadata: ChromaDB's `Collection.metadata`, which replaces the whole metadata. {}: none. None: nothing stated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    configuration: CollectionConfiguration | None = None
    metadata: Annotated[CollectionMetadata, BeforeValidator(_checked_metadata)] | None = None

    @property
    def function(self) -> FunctionConfiguration | None:
        """The embedding function, if one is named."""
        return self.configuration.function if self.configuration else None

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        size = len(self.model_dump_json(exclude_none=True))
        if size > LONGEST_SETTINGS:
            raise ValueError(f"configuration and metadata have {size:,} bytes, more than {LONGEST_SETTINGS:,}")
        return self


class DeltaHeader(BaseModel):
    """The facts under the key `chromadb_compaction`: in Parquet's file metadata, or in the first line of JSON Lines.

    It is optional, and so is each field.

    Args:
        format: The version of the delta format. Format 2 adds `collection` and `drop`.
        space: The distance of a new collection: l2 (the default), cosine or ip.
        embedding_function: The name of a new collection's embedding function.
        producer: The name of the program that wrote the delta, for people.
        collection: The collection's configuration and metadata. A delta without rows may state them alone.
        drop: Delete the collection: every row, and every setting, of a smaller version. Such a delta has no rows,
            states nothing else, and is JSON Lines of at most 512 bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1, 2] = 1
    space: Space | None = None
    embedding_function: str | None = Field(default=None, min_length=1)
    producer: str | None = None
    collection: StatedCollection | None = None
    drop: bool = False

    @property
    def stated_space(self) -> Space | None:
        """The distance, wherever it is stated."""
        return (self._configuration and self._configuration.space) or self.space

    @property
    def stated_function(self) -> FunctionConfiguration | None:
        """The embedding function, wherever it is stated. By its name alone it has no parameters."""
        named = FunctionConfiguration(name=self.embedding_function) if self.embedding_function else None
        return (self._configuration and self._configuration.function) or named

    def settings(self, version: DeltaVersion) -> KeptSettings:
        """Return what it states, as values of `version`, the delta's name."""
        index = (self._configuration and self._configuration.hnsw) or IndexConfiguration()
        metadata = self.collection.metadata if self.collection else None
        return KeptSettings(
            ef_construction=index.ef_construction,
            max_neighbors=index.max_neighbors,
            function=self.stated_function,
            ef_search=None if index.ef_search is None else Register(version=version, value=index.ef_search),
            metadata=None if metadata is None else Register(version=version, value=metadata),
            stated=version if self.collection is not None else None,
        )

    @property
    def _configuration(self) -> CollectionConfiguration | None:
        return self.collection.configuration if self.collection else None

    @model_validator(mode="after")
    def _check_statements(self) -> Self:
        if self.format == 1 and (self.collection is not None or self.drop):
            raise ValueError("`collection` and `drop` need format 2")
        if self.drop and (self.collection or self.space or self.embedding_function):
            raise ValueError("a drop states nothing else")
        function = self.stated_function
        pairs: list[tuple[str, Any, Any]] = [
            ("distances", self.space, self.stated_space),
            ("embedding functions", self.embedding_function, function and function.name),
        ]
        for what, named, stated in pairs:
            if named not in {None, stated}:
                raise ValueError(f"it states two {what}, {named!r} and {stated!r}")
        return self


def parse_header(raw: bytes | None) -> DeltaHeader:
    """Parse a delta's header. None gives the defaults. Raises CorruptDeltaError naming the invalid field."""
    if raw is None:
        return DeltaHeader()
    try:
        return parse_stored(DeltaHeader, raw, "its header")
    except NewerFormatError as error:
        # It goes to quarantine like a corrupt delta, so that it does not stop the others, and can be requeued.
        raise CorruptDeltaError(
            error.message, next_step="upgrade the functions, then run: chromadb-compaction deltas requeue ID"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        where = f"the field {field!r}" if field else "the header"
        raise CorruptDeltaError(
            f"its header {HEADER_KEY.decode()!r} is invalid: {where}: {first['msg']}",
            next_step="correct it, or write the delta without it",
        ) from error
