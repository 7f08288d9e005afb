"""Fuzzed deltas by number. The same number gives the same delta on every machine."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from chromadb_compaction.layout import delta_key
from tests.builders import NOW, a_uuid7
from tests.fuzz import bombs, damage, names, rows
from tests.fuzz.bodies import a_json_lines, a_parquet

Make = Callable[[Random], bytes]
NAMED = "names"


class Fuzzed(NamedTuple):
    """A delta that somebody could write. `kind` is the kind of damage."""

    number: int
    kind: str
    key: str
    body: bytes


def fuzzed(number: int) -> Fuzzed:
    """Return the delta of that number. Successive numbers have successive kinds."""
    kind = KINDS[number % len(KINDS)]
    chance = Random(f"fuzzed delta {number}")
    if kind == NAMED:
        body = chance.choice((a_parquet, a_json_lines))(chance)
        return Fuzzed(number, kind, names.a_key(number, chance), body)
    suffix = ".jsonl.gz" if kind.startswith("json") else ".parquet"
    return Fuzzed(number, kind, delta_key("docs", str(a_uuid7(NOW, number)), suffix), _BODIES[kind](chance))


def _damaged(whole: Make, damage_it: damage.Damage) -> Make:
    return lambda chance: damage_it(whole(chance), chance)


def _spliced(one: Make, other: Make) -> Make:
    return lambda chance: damage.splice(one(chance), other(chance), chance)


def _one_of(bombs_of_a_format: tuple[bombs.Bomb, ...]) -> Make:
    return lambda chance: chance.choice(bombs_of_a_format)(chance)


_BODIES: dict[str, Make] = {
    **{
        f"parquet {name}": _damaged(a_parquet, damage_it)
        for name, damage_it in (damage.ANYWHERE | damage.IN_PARQUET).items()
    },
    **{f"json {name}": _damaged(a_json_lines, damage_it) for name, damage_it in damage.ANYWHERE.items()},
    "parquet spliced": _spliced(a_parquet, a_parquet),
    "parquet spliced to json": _spliced(a_parquet, a_json_lines),
    "json spliced": _spliced(a_json_lines, a_json_lines),
    "parquet types": rows.parquet_of_strange_types,
    "parquet text": rows.parquet_of_strange_text,
    "json rows": rows.json_lines,
    "json more rows": rows.json_lines,
    "parquet bombs": _one_of(bombs.PARQUET),
    "json bombs": _one_of(bombs.JSON_LINES),
}
KINDS = (*_BODIES, NAMED, NAMED)
