"""The rule for objects of a newer format: they are whole, and only a newer version of this package can read them."""

from __future__ import annotations

import json
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError

from chromadb_compaction.errors import NewerFormatError

Model = TypeVar("Model", bound=BaseModel)


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
        found = json.loads(body)
    except ValueError:
        return
    number = found.get("format") if isinstance(found, dict) else None
    if isinstance(number, int) and number > newest:
        raise NewerFormatError.found(key, number, newest=newest)
