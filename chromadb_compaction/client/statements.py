"""The headers of a writer's deltas, made of its arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from chromadb_compaction.deltas.header import DeltaHeader
from chromadb_compaction.errors import CorruptDeltaError, InvalidRequestError


def stated_collection(
    configuration: Mapping[str, Any] | None, metadata: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Return the field `collection` of a header. None if both are None."""
    if configuration is None and metadata is None:
        return None
    return {"configuration": configuration, "metadata": metadata}


def header_of(**fields: Any) -> DeltaHeader:  # noqa: ANN401 - the header checks them
    """Return the header with these fields. Raises InvalidRequestError naming the invalid one."""
    number = 2 if fields.get("collection") or fields.get("drop") else 1
    try:
        return DeltaHeader.model_validate({**fields, "format": number})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the header"
        raise InvalidRequestError(f"{field}: {first['msg']}") from error


@contextmanager
def as_invalid_request() -> Iterator[None]:
    """Raise InvalidRequestError in place of CorruptDeltaError, for a call that takes nothing."""
    try:
        yield
    except CorruptDeltaError as error:
        raise InvalidRequestError(
            f"{error.message}; nothing of this call was taken", next_step=error.next_step
        ) from error
