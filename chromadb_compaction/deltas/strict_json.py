"""Strict JSON parsing at orjson's speed: text that two parsers could read differently is an error."""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator

import orjson

_BLANK = b" \t\r\n"

_LARGE_EXPONENT = re.compile(rb"e\+?\d\d")


def lines_of(file: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield each line of a file that is not blank, with its number from 1, and without its end.

    A byte order mark before the first line is skipped: editors and spreadsheets write it.
    """
    for number, line in enumerate(file, 1):
        text = (line.removeprefix(BOM_UTF8) if number == 1 else line).removesuffix(b"\n")
        if text.strip(_BLANK):
            yield number, text


def parse(raw: bytes) -> object:
    """Return the value of `raw`. Raises ValueError whose text continues "the line ...", e.g. "is not JSON: ...".

    This differs from orjson in three ways. A repeated key is an error. An integer stays an integer at any size (orjson
    makes floats beyond 64 bits). NaN and infinity, which Python's json module writes although JSON has neither, become
    floats, so that a later check can name them.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return _parse_slowly(raw, because=str(error))
    return value if _is_faithful(raw, value) else _parse_slowly(raw)


def _is_faithful(raw: bytes, value: object) -> bool:
    """Return whether orjson lost nothing: `value` has as many quotes as `raw`, and no float that was a huge integer.

    May be False for harmless text, but is never True for text that lost a key.
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
        repeated = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise _RepeatedKeyError(f"has the key {repeated!r} twice")
    return found
