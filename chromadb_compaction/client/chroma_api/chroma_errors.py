"""ChromaDB's errors, raised for ours, so that programs written for ChromaDB handle them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chromadb.errors import (
    ChromaError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    RateLimitError,
    UniqueConstraintError,
    error_types,
)
from overrides import override

from chromadb_compaction.errors import (
    CompactionError,
    CorruptDeltaError,
    InvalidRequestError,
    NoSuchCollectionError,
)

__all__ = [
    "ChromaError",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "RateLimitError",
    "UniqueConstraintError",
    "UnsupportedError",
    "as_chroma_errors",
    "wire_name",
]


class UnsupportedError(ChromaError):
    """A call of ChromaDB's interface that a bucket of collections cannot answer. A server answers it with 501."""

    @override
    def code(self) -> int:
        """Return the status of a server's response: not implemented."""
        return 501

    @classmethod
    @override
    def name(cls) -> str:
        """Return the name under which ChromaDB's clients know it."""
        return "ChromaError"


def wire_name(error: ChromaError) -> str:
    """Return the name under which ChromaDB's clients know the error. `error.name()` is another one for some."""
    return next((name for name, kind in error_types.items() if kind is type(error)), error.name())


@contextmanager
def as_chroma_errors() -> Iterator[None]:
    """Raise ChromaDB's error in place of ours, with the same message."""
    try:
        yield
    except NoSuchCollectionError as error:
        raise NotFoundError(str(error)) from error
    except (CorruptDeltaError, InvalidRequestError) as error:
        raise InvalidArgumentError(str(error)) from error
    except CompactionError as error:
        raise InternalError(f"{error.kind}: {error}") from error
