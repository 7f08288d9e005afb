"""The stored formats: the manifest of a snapshot, the pointer that publishes it, and the rule for newer numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator
from pydantic_core import CoreSchema, core_schema, from_json

from chromadb_compaction.concurrency import LazyMapping
from chromadb_compaction.configuration import DeltaVersion, FunctionConfiguration, KeptSettings, Space
from chromadb_compaction.errors import CorruptDeltaError, NewerFormatError, NoSuchCollectionError
from chromadb_compaction.layout import LEDGER_FILE, LONGEST_KEY, check_collection_name

Model = TypeVar("Model", bound=BaseModel)
Fingerprint128 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
"""A sum modulo 2^128, as 32 hexadecimal digits: JSON numbers stop being exact at 2^53."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
SnapshotId = Annotated[str, Field(pattern=r"^[0-9]{10}-[0-9a-f]{8}$")]
Count = Annotated[int, Field(ge=0)]


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ".." in parts or "\0" in path:
        raise ValueError(f"the file path {path[:60]!r} is not inside its collection's directory")
    return path


def _collection(name: str) -> str:
    try:
        return check_collection_name(name)
    except CorruptDeltaError as error:
        raise ValueError("the collection name is not one that ChromaDB accepts") from error


# Both become paths on a reader's disk, and a manifest may come from anywhere.
LocalPath = Annotated[str, AfterValidator(_inside)]
CollectionName = Annotated[str, AfterValidator(_collection)]


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StoredFile(_Stored):
    """One file of a snapshot.

    Attributes:
        key: The key of its object, which may belong to an older snapshot.
        bytes: The size of the file.
        sha256: The SHA-256 of the file, in hexadecimal.
    """

    key: Annotated[str, Field(min_length=1, max_length=LONGEST_KEY)]
    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


class Conservation(_Stored):
    """The conservation proof: next = base - replaced - deleted + added, modulo 2^128.

    Each term is the sum of the fingerprints of the rows it names. `next` is computed from the whole new ledger,
    never from the other terms, so that the equation can fail.

    Attributes:
        base: All live rows of the base.
        replaced: The rows of the base that newer versions replaced.
        deleted: The rows of the base that were deleted.
        added: The new rows, and the new versions of replaced ones.
        next: All live rows of the new snapshot.
    """

    base: Fingerprint128
    replaced: Fingerprint128
    deleted: Fingerprint128
    added: Fingerprint128
    next: Fingerprint128

    def holds(self) -> bool:
        """Return whether the equation is true."""
        base, replaced, deleted, added, following = (
            int(term, 16) for term in (self.base, self.replaced, self.deleted, self.added, self.next)
        )
        return (base - replaced - deleted + added - following) % 2**128 == 0


class CollectionSnapshot(_Stored):
    """One collection of a snapshot.

    Attributes:
        dimension: The length of its vectors. None until its first upsert. It has a ChromaDB directory then only if a
            delta has stated its settings.
        space: The distance function.
        embedding_function: The name of the function that embeds its texts, if known.
        records: The number of live rows.
        tombstones: The number of deleted ids in the ledger.
        conservation: The proof that the fold lost no row.
        files: The files, by path inside the collection's directory, and the ledger.
        settings: Its other settings, and the whole of its embedding function.
        newest: The newest delta of which the ledger has a row. None: it has no row, or an earlier version wrote it.
        replaced_in_place: The vectors that earlier releases have replaced in place since the index was built. The next
            change of the index rebuilds it, because searches miss vectors near those.
    """

    dimension: Annotated[int, Field(ge=1)] | None
    space: Space
    embedding_function: str | None
    records: Annotated[int, Field(ge=0)]
    tombstones: Annotated[int, Field(ge=0)]
    conservation: Conservation
    files: dict[LocalPath, StoredFile]
    settings: KeptSettings = KeptSettings()
    newest: DeltaVersion | None = None
    replaced_in_place: Annotated[int, Field(ge=0)] = 0

    @property
    def settings_with_function(self) -> KeptSettings:
        """The settings. Manifests from before they were kept name the embedding function alone."""
        if self.settings.function or not self.embedding_function:
            return self.settings
        return self.settings.model_copy(update={"function": FunctionConfiguration(name=self.embedding_function)})

    def may_hold(self, version: DeltaVersion) -> bool:
        """Return whether the ledger may have a row of this delta, or a newer one of the same id."""
        return self.newest is None or version <= self.newest

    @property
    def has_shape(self) -> bool:
        """True if its distance and the settings that are stated once stand."""
        return self.dimension is not None or self.settings.stated is not None

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.bytes for file in self.files.values())

    @property
    def chroma_files(self) -> dict[str, StoredFile]:
        """The files of the ChromaDB directory: all except the ledger."""
        return {path: file for path, file in self.files.items() if path != LEDGER_FILE}


class CollectionRef(_Stored):
    """The place of a collection's description, which is an object: see layout.collection_key.

    Attributes:
        snapshot_id: The snapshot that wrote the object, this one or an older one.
        sha256: The SHA-256 of the object, in hexadecimal.
        records: The number of live rows.
        bytes: The size of all files.
    """

    snapshot_id: SnapshotId
    sha256: Sha256
    records: Count
    bytes: Count


def _tag(entry: object) -> str:
    is_ref = "snapshot_id" in entry if isinstance(entry, dict) else isinstance(entry, CollectionRef)
    return "object" if is_ref else "inline"


ReadCollection = Callable[[str, CollectionRef], CollectionSnapshot]
Entry = CollectionRef | CollectionSnapshot
_Entry = Annotated[
    Annotated[CollectionRef, Tag("object")] | Annotated[CollectionSnapshot, Tag("inline")], Discriminator(_tag)
]


def _unread(name: str, _ref: CollectionRef) -> CollectionSnapshot:
    raise TypeError(f"collection {name} cannot be read: the manifest is not of a bucket")


class Collections(LazyMapping[Entry, CollectionSnapshot]):
    """The collections of a manifest, by name. `entries` has descriptions in format 1, references in format 2."""

    def __init__(
        self, entries: Mapping[str, Entry], read: ReadCollection = _unread, known: Collections | None = None
    ) -> None:
        super().__init__(
            entries, lambda name, each: each if isinstance(each, CollectionSnapshot) else read(name, each), known
        )

    @property
    def refs(self) -> dict[str, CollectionRef]:
        """The references. Empty in format 1."""
        return {name: each for name, each in self.entries.items() if isinstance(each, CollectionRef)}

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, handler: Callable[[Any], CoreSchema]) -> CoreSchema:
        stored = handler(dict[CollectionName, _Entry])
        parsed = core_schema.no_info_after_validator_function(cls, stored)
        dump = core_schema.plain_serializer_function_ser_schema(lambda each: dict(each.entries), return_schema=stored)
        return core_schema.union_schema(
            [core_schema.is_instance_schema(cls), parsed], mode="left_to_right", serialization=dump
        )


def _total_of(collections: Collections, field: str) -> int:
    return sum(getattr(each, field) for each in collections.entries.values())


class Manifest(_Stored):
    """Everything about one snapshot.

    Attributes:
        format: The version of this format. In 1, which is only read, the manifest has the collections' descriptions.
        snapshot_id: The id of the snapshot.
        parent: The id of the snapshot it was folded from. None for the first.
        parent_sha256: The SHA-256 of the parent's manifest, in hexadecimal. None for the first, and in manifests of
            earlier versions, which did not state it.
        execution: The ARN of the execution that made it.
        commit_id: The identity of the pass that made it.
        created_at: When it was made, in Unix seconds.
        seconds: How long that took.
        deltas_merged: The number of deltas that its pass merged.
        deltas_quarantined: The number of deltas that its pass quarantined.
        collections: The collections, by name.
        dropped: The version at which each collection was dropped last. Older rows of it stay out for good.
        records: Live rows of all collections.
        bytes: The size of all files, including those shared with older snapshots.
    """

    format: Literal[1, 2] = 2
    snapshot_id: SnapshotId
    parent: str | None
    parent_sha256: Sha256 | None = None
    execution: str
    commit_id: str
    created_at: float
    seconds: float
    deltas_merged: Annotated[int, Field(ge=0)]
    deltas_quarantined: Annotated[int, Field(ge=0)]
    collections: Collections
    dropped: dict[CollectionName, DeltaVersion] = {}
    records: int = Field(default_factory=lambda data: _total_of(data["collections"], "records"))
    bytes: int = Field(default_factory=lambda data: _total_of(data["collections"], "bytes"))

    @model_validator(mode="after")
    def _is_of_its_format(self) -> Self:
        if (self.format == 1 and self.collections.refs) or (
            self.format == 2 and len(self.collections.refs) < len(self.collections)
        ):
            raise ValueError(f"the collections are not those of format {self.format}")
        if (self.records, self.bytes) != tuple(_total_of(self.collections, field) for field in ("records", "bytes")):
            raise ValueError("the totals are not those of the collections")
        return self

    @property
    def files(self) -> Iterator[StoredFile]:
        """The files of all collections, which are read one after the other."""
        return (file for collection in self.collections.values() for file in collection.files.values())

    def bytes_of(self, name: str) -> int:
        """Return the size of a collection's files, 0 if there is none of that name. It reads no description."""
        entry = self.collections.entries.get(name)
        return entry.bytes if entry else 0

    def reading(self, read: ReadCollection, known: Manifest | None = None) -> Manifest:
        """Return this manifest, whose collections `read` reads. Those that `known` has read already are not read."""
        collections = Collections(self.collections.entries, read, known.collections if known else None)
        return self.model_copy(update={"collections": collections})

    def collection(self, name: str) -> CollectionSnapshot:
        """Return a collection by its name. Raises NoSuchCollectionError with the names that exist."""
        if name not in self.collections:
            names = ", ".join(self.collections) or "none"
            raise NoSuchCollectionError(f"snapshot {self.snapshot_id} has no collection {name!r}; it has: {names}")
        return self.collections[name]


class Pointer(_Stored):
    """The content of snapshot/CURRENT.

    Attributes:
        format: The version of this format.
        snapshot_id: The id of the published snapshot.
        sequence: A number that grows with every swap, including rollbacks. The next snapshot's id has sequence + 1.
        manifest_sha256: The SHA-256 of the published manifest, in hexadecimal.
        commit_id: Execution ARN + "/" + pass, so that after a lost response the writer recognises its own commit.
        published_at: When the pointer was swapped, in Unix seconds.
    """

    format: Literal[1] = 1
    snapshot_id: SnapshotId
    sequence: Annotated[int, Field(ge=1, lt=10**10 - 1)]
    manifest_sha256: Sha256
    commit_id: str
    published_at: float


def commit_id(execution: str, pass_number: int) -> str:
    """Return the identity of one pass's commit."""
    return f"{execution}/{pass_number}"


def parse_stored(model: type[Model], body: bytes, key: str) -> Model:
    """Parse the JSON of the object `key` as `model`, whose field `format` is a Literal of the known numbers.

    Raises NewerFormatError, and pydantic.ValidationError for any other fault.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError:
        check_format(body, key, newest=max(get_args(model.model_fields["format"].annotation)))
        raise


def check_format(body: bytes, key: str, *, newest: int) -> None:
    """Raise NewerFormatError if `body` is a JSON object with a `format` above `newest`."""
    try:
        found = from_json(body)
    except ValueError:
        return
    number = found.get("format") if isinstance(found, dict) else None
    if isinstance(number, int) and number > newest:
        raise NewerFormatError.found(key, number, newest=newest)
