"""A collection beside its records, in ChromaDB's own JSON: its configuration and its metadata.

`Collection.configuration_json` and `Collection.metadata` of ChromaDB 1.5.9 give both. Deltas state them, manifests keep
them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Final, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictBool, StrictFloat, StrictInt, StrictStr
from pydantic import field_validator as validates

Space = Literal["l2", "cosine", "ip"]
CollectionMetadata = dict[str, StrictBool | StrictInt | StrictFloat | StrictStr]
"""The metadata of a collection. Unlike that of a record it has no lists: ChromaDB's process ends when it stores one."""

LONGEST_SETTINGS: Final = 64 * 1024
"""The largest configuration and metadata of one collection, in bytes of JSON."""

_SECRET = re.compile(r"secret|passw(or)?d|(^|_)(api_?key|access_?key|private_?key|token|credentials?|authorization)$")


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class IndexConfiguration(_Settings):
    """The settings of a collection's HNSW index. None: not stated.

    Attributes:
        space: The distance function.
        ef_construction: The candidates that are considered when a vector is added.
        max_neighbors: The neighbours that each vector keeps.
        ef_search: The candidates that a query considers.
        num_threads: Accepted and not kept: it describes the machine that made the collection.
        batch_size: Accepted and not kept, as `num_threads`.
        sync_threshold: Accepted and not kept: a fold flushes the index itself.
        resize_factor: Accepted and not kept: the growth of the index in memory.
    """

    space: Space | None = None
    ef_construction: Annotated[int, Field(ge=1, le=100_000)] | None = None
    max_neighbors: Annotated[int, Field(ge=2, le=1024)] | None = None
    ef_search: Annotated[int, Field(ge=1, le=100_000)] | None = None
    num_threads: int | None = None
    batch_size: int | None = None
    sync_threshold: int | None = None
    resize_factor: float | None = None


class FunctionConfiguration(_Settings):
    """The embedding function of a collection: its name and its parameters, never a secret.

    Attributes:
        type: As ChromaDB writes it. Only a `known` function has a name.
        name: The name under which ChromaDB knows it.
        config: Its parameters. They hold the names of environment variables instead of keys.
    """

    type: Literal["known", "legacy", "unknown"] = "known"
    name: Annotated[str, Field(min_length=1)] | None = None
    config: dict[str, JsonValue] | None = None

    @property
    def text(self) -> str:
        """The name and the parameters, for people."""
        return f"{self.name} {json.dumps(self.config, sort_keys=True)}" if self.config else str(self.name)

    def agrees_with(self, other: FunctionConfiguration) -> bool:
        """Return whether both name one function, and no parameter differs that both state.

        Facts of the machine do not count, because they do not change an embedding.
        """
        one, two = self.config or {}, other.config or {}
        both = [key for key in one.keys() & two.keys() if not is_of_machine(key)]
        return self.name == other.name and all(one[key] == two[key] for key in both)

    @validates("config")
    @classmethod
    def _check_config(cls, config: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        secret = next(_secrets(config), None)
        if secret is not None:
            raise ValueError(f"{secret!r} is the key of a secret; give the name of an environment variable instead")
        json.dumps(config, ensure_ascii=False, allow_nan=False).encode()  # raises ValueError for what JSON cannot hold
        return config


class CollectionConfiguration(_Settings):
    """The configuration of a collection, as `Collection.configuration_json` gives it. None: not stated."""

    hnsw: IndexConfiguration | None = None
    spann: None = None
    embedding_function: FunctionConfiguration | None = None

    @property
    def space(self) -> Space | None:
        """The distance function, if stated."""
        return self.hnsw.space if self.hnsw else None

    @property
    def function(self) -> FunctionConfiguration | None:
        """The embedding function, if one is named."""
        return self.embedding_function if self.embedding_function and self.embedding_function.name else None


def is_of_machine(parameter: str) -> bool:
    """Return whether a parameter of an embedding function describes the machine that it runs on."""
    return parameter.endswith("_env_var") or parameter in {"device", "preferred_providers"}


def _secrets(value: JsonValue) -> Iterator[str]:
    """Yield each key that holds a secret, at any depth."""
    if isinstance(value, dict):
        for key, held in value.items():
            if held is not None and _SECRET.search(key.lower()) and not key.lower().endswith("_env_var"):
                yield key
            yield from _secrets(held)
    elif isinstance(value, list):
        for item in value:
            yield from _secrets(item)


DeltaVersion = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
"""The UUIDv7 of a delta in canonical form. As text these compare as the versions do."""

Value = TypeVar("Value")


def newer_version(one: DeltaVersion | None, other: DeltaVersion | None) -> DeltaVersion | None:
    """Return the greater version. None is less than any."""
    return max(one or "", other or "") or None


class Register(_Settings, Generic[Value]):
    """A value that may change: of several, the one with the greatest version stands."""

    version: DeltaVersion
    value: Value


class KeptSettings(_Settings):
    """The settings of a collection beside its distance. None: ChromaDB's default.

    The first three are stated once, with the dimension and the distance. The others follow their newest delta.

    Attributes:
        ef_construction: See IndexConfiguration.
        max_neighbors: See IndexConfiguration.
        function: The embedding function.
        ef_search: See IndexConfiguration.
        metadata: The metadata of the collection. {}: none.
        stated: The newest delta that states anything of the collection beside its rows. Such a collection exists even
            without rows.
    """

    ef_construction: int | None = None
    max_neighbors: int | None = None
    function: FunctionConfiguration | None = None
    ef_search: Register[int] | None = None
    metadata: Register[CollectionMetadata] | None = None
    stated: DeltaVersion | None = None

    def merged(self, other: KeptSettings) -> KeptSettings:
        """Return these settings with the newer of each value that may change. The order of merging does not matter."""
        return self.model_copy(
            update={
                "ef_search": _newer(self.ef_search, other.ef_search),
                "metadata": _newer(self.metadata, other.metadata),
                "stated": newer_version(self.stated, other.stated),
            }
        )

    def with_shape_of(self, other: KeptSettings) -> KeptSettings:
        """Return these settings with what `other` states once."""
        names = ("ef_construction", "max_neighbors", "function")
        return self.model_copy(update={name: getattr(other, name) for name in names})

    def since(self, dropped_before: DeltaVersion | None) -> KeptSettings:
        """Return these settings without the values that a drop at this version has deleted."""
        oldest = dropped_before or ""
        return self.model_copy(
            update={
                "ef_search": self.ef_search if self.ef_search and self.ef_search.version > oldest else None,
                "metadata": self.metadata if self.metadata and self.metadata.version > oldest else None,
                "stated": self.stated if self.stated and self.stated > oldest else None,
            }
        )

    def configuration(self, space: Space) -> CollectionConfiguration:
        """Return the configuration in ChromaDB's form."""
        return CollectionConfiguration(
            hnsw=IndexConfiguration(
                space=space,
                ef_construction=self.ef_construction or DEFAULT_INDEX.ef_construction,
                max_neighbors=self.max_neighbors or DEFAULT_INDEX.max_neighbors,
                ef_search=self.ef_search.value if self.ef_search else DEFAULT_INDEX.ef_search,
            ),
            embedding_function=self.function,
        )

    @property
    def values(self) -> tuple[object, ...]:
        """The values as ChromaDB stores them, without versions."""
        search = self.ef_search.value if self.ef_search else None
        return self.ef_construction, self.max_neighbors, self.function, search, self.metadata_value

    @property
    def metadata_value(self) -> CollectionMetadata:
        """The metadata. {}: none."""
        return self.metadata.value if self.metadata else {}


DEFAULT_INDEX: Final = IndexConfiguration(ef_construction=100, max_neighbors=16, ef_search=100)
"""ChromaDB's defaults."""


def _newer(one: Register[Value] | None, other: Register[Value] | None) -> Register[Value] | None:
    """Return the register with the greater version. Of two contents under one name, the greater JSON stands."""
    known = [each for each in (one, other) if each is not None]
    return max(known, key=lambda each: (each.version, each.model_dump_json()), default=None)
