"""Stored JSON as someone may have left it: damaged bytes, and well-formed text that says something else."""

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
    """Some field, however deep, holds something else."""
    parent = _some_object(document, chance)
    parent[chance.choice(list(parent))] = chance.choice((*STRANGE, *HOSTILE, *NAMES))


def another_name(document: Any, chance: Random) -> None:
    """Some field has another name."""
    parent = _some_object(document, chance)
    parent[chance.choice(NAMES)] = parent.pop(chance.choice(list(parent)))


def one_less(document: Any, chance: Random) -> None:
    """Some field is gone."""
    parent = _some_object(document, chance)
    del parent[chance.choice(list(parent))]


def one_more(document: Any, chance: Random) -> None:
    """Some object holds a field more."""
    _some_object(document, chance)[chance.choice(("more", *NAMES))] = chance.choice((*STRANGE, *NAMES))


CHANGES: tuple[Change, ...] = (another_value, another_value, another_value, another_name, one_less, one_more)


def damaged(body: bytes, chance: Random) -> bytes:
    """Return `body` damaged byte by byte, replaced, or as JSON that says something else."""
    way = chance.random()
    if way < 0.4:
        return chance.choice(list(ANYWHERE.values()))(body, chance)
    return chance.choice(NOT_JSON) if way < 0.45 else changed(body, chance)


def changed(body: bytes, chance: Random) -> bytes:
    """Return JSON that says something else."""
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
