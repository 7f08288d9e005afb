"""JSON as RFC 8259 means it, at orjson's speed: what two readers could understand differently is refused."""

from __future__ import annotations

import json
import re

import orjson

_LARGE_EXPONENT = re.compile(rb"e\+?\d\d")


def parse(raw: bytes) -> object:
    """Return the value that `raw` spells. Raises ValueError with a reason that a person understands.

    Beyond what orjson refuses, a key given twice is an error, and an integer of any size stays an integer
    (orjson turns those beyond 64 bits into floats). NaN and infinity, which Python's json module writes
    although JSON has no word for them, come back as floats: whoever checks the value can then name them.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return _parse_slowly(raw, because=str(error))
    return value if _is_faithful(raw, value) else _parse_slowly(raw)


def _is_faithful(raw: bytes, value: object) -> bool:
    """Say whether nothing can have been lost: as many quotes out as in, and no float that was a huge integer.

    May say False for harmless text, never True for text that lost a key.
    """
    try:
        written = orjson.dumps(value)
    except TypeError:  # nested deeper than orjson writes
        return False
    return b"\\" not in raw and raw.count(b'"') == written.count(b'"') and not _LARGE_EXPONENT.search(written)


def _parse_slowly(raw: bytes, *, because: str = "") -> object:
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_unique)
    except _RepeatedKeyError:
        raise
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"is not JSON: {because or error}") from error
    return value


class _RepeatedKeyError(ValueError):
    pass


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        repeated = next(key for i, (key, _) in enumerate(pairs) if any(key == other for other, _ in pairs[:i]))
        raise _RepeatedKeyError(f"has the key {repeated!r} twice")
    return found
