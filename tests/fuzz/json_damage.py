"""Damage to stored JSON: damaged bytes, and well-formed text with other content."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from tests.fuzz.damage import ANYWHERE, HOSTILE
from tests.fuzz.rows import STRANGE

NAMES = (
    "../../evil",
    "/etc/passwd",
    "",
    ".",
    "..",
    "a\0b",
    "docs/../docs",
    "%2e%2e/x",
    "0000000001-ffffffff",
    "é" * 600,
)
NOT_JSON = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b"\0" * 100,
    b"\xff\xfe{}",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"<html></html>",
)

Change = Callable[[Any, Random], None]


def another_value(document: Any, chance: Random) -> None:
    """Give a field at any depth another value."""
    parent = _some_object(document, chance)
    parent[chance.choice(list(parent))] = chance.choice((*STRANGE, *HOSTILE, *NAMES))


def another_name(document: Any, chance: Random) -> None:
    """Rename a field."""
    parent = _some_object(document, chance)
    parent[chance.choice(NAMES)] = parent.pop(chance.choice(list(parent)))


def without_a_field(document: Any, chance: Random) -> None:
    """Remove a field."""
    parent = _some_object(document, chance)
    del parent[chance.choice(list(parent))]


def with_another_field(document: Any, chance: Random) -> None:
    """Add a field to an object."""
    _some_object(document, chance)[chance.choice(("more", *NAMES))] = chance.choice((*STRANGE, *NAMES))


CHANGES: tuple[Change, ...] = (
    another_value,
    another_value,
    another_value,
    another_name,
    without_a_field,
    with_another_field,
)


def damaged(body: bytes, chance: Random) -> bytes:
    """Return `body` with damaged bytes, replaced, or as JSON with other content."""
    kind = chance.random()
    if kind < 0.4:
        return chance.choice(list(ANYWHERE.values()))(body, chance)
    return chance.choice(NOT_JSON) if kind < 0.45 else changed(body, chance)


def changed(body: bytes, chance: Random) -> bytes:
    """Return JSON with other content."""
    document = json.loads(body)
    chance.choice(CHANGES)(document, chance)
    return json.dumps(document).encode()


def _some_object(value: Any, chance: Random) -> dict[str, Any]:
    objects = list(_objects(value))
    return chance.choice(objects)


def _objects(value: Any) -> list[dict[str, Any]]:
    found = [value] if isinstance(value, dict) and value else []
    for item in value.values() if isinstance(value, dict) else ():
        found += _objects(item)
    return found
