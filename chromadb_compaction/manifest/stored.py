"""The parts that stored formats have in common, and the rule for newer numbers."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from chromadb_compaction.errors import CorruptDeltaError, NewerFormatError
from chromadb_compaction.layout import LONGEST_KEY, check_collection_name

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
# A manifest has thousands of names. Those without a period, which begin with a letter, are valid by a pattern alone.
_PlainName = Annotated[str, Field(pattern=r"^[a-zA-Z][a-zA-Z0-9_-]{1,253}[a-zA-Z0-9]$")]
CollectionName = Annotated[_PlainName | Annotated[str, AfterValidator(_collection)], Field(union_mode="left_to_right")]


class Stored(BaseModel):
    """A part of a stored format: immutable, with no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StoredFile(Stored):
    """One file of a snapshot.

    Attributes:
        key: The key of its object, which may belong to an older snapshot.
        bytes: The size of the file.
        sha256: The SHA-256 of the file, in hexadecimal.
        offset: The place of its first byte in the object, which is a pack of several files. None: the object is the
            file.
    """

    key: Annotated[str, Field(min_length=1, max_length=LONGEST_KEY)]
    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256
    offset: Annotated[int, Field(ge=0)] | None = Field(default=None, exclude_if=lambda offset: offset is None)

    @property
    def end(self) -> int:
        """The place in the object after its last byte."""
        return (self.offset or 0) + self.bytes


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
