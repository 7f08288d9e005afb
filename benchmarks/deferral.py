"""Compute the bytes that a day of small deltas writes, with and without deferral.

The rule is the real one, applied by a simulated clock. The bytes of a fold are an input: a fold of a large collection
writes all of its files again, which `benchmarks.cycles` measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.report import Row
from chromadb_compaction import layout
from chromadb_compaction.deltas.deferral.listing import Deferral, without_rows
from chromadb_compaction.deltas.deferral.rule import PendingSize, rule_of
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.settings import load_settings

MINUTE = 60
DAY = 24 * 60 * MINUTE
GIGABYTE = 10**9


class Trickle(NamedTuple):
    """The load: one delta of `rows` rows an interval, for a collection whose fold writes `fold_bytes`.

    A row of 384 dimensions with a text of 1 KB takes 2.6 KB in a delta, and 11.6 KB in the collection.
    """

    rows: int = 100
    row_bytes: int = 2600
    interval: float = 15 * MINUTE
    fold_bytes: int = GIGABYTE
    fold_bytes_a_row: int = 11_600


class Written(NamedTuple):
    """The result of a day.

    Attributes:
        folds: The number of folds.
        bytes: The bytes that they wrote.
        oldest: The greatest age of a delta when it was merged, in seconds.
        most_rows: The most rows that a fresh read had to join with the snapshot.
    """

    folds: int
    bytes: int
    oldest: float
    most_rows: int


def simulate(load: Trickle, **chosen: int) -> Written:
    """Return what a day writes. `chosen` are settings; one execution follows each delta."""
    rule = rule_of(load_settings({"CHROMADB_BUCKET": "simulated", **{k.upper(): str(v) for k, v in chosen.items()}}))
    pending: list[ObjectInfo] = []
    done = Written(0, 0, 0.0, 0)
    size = load.fold_bytes
    # A trickle of a day, and then executions until everything is merged.
    for number in range(1, 3 * int(DAY / load.interval)):
        now = number * load.interval
        if now <= DAY:
            key = layout.delta_key("docs", f"{number:06d}")
            pending.append(ObjectInfo(key=key, bytes=load.rows * load.row_bytes, etag="e", modified=now))
        done = done._replace(most_rows=max(done.most_rows, load.rows * len(pending)))

        def count(deltas: Sequence[ObjectInfo]) -> list[PendingSize]:
            return [each._replace(rows=load.rows, unpacked_bytes=each.bytes) for each in without_rows(deltas)]

        due = list(Deferral(rule, {}, now=now, count_rows=count).due(pending))
        if due:
            size += load.rows * load.fold_bytes_a_row * len(due)
            oldest = max(done.oldest, now - due[0].modified)
            done = done._replace(folds=done.folds + 1, bytes=done.bytes + size, oldest=oldest)
            pending = []
    return done


def deferral_rows() -> Iterator[Row]:
    """Yield what a day of the trickle writes, without deferral and with each of some settings."""
    for chosen in (
        {},
        {"compaction_max_age_minutes": 60},
        {"compaction_min_rows": 1000, "compaction_max_age_minutes": 24 * 60},
        {"compaction_min_rows": 5000, "compaction_max_age_minutes": 24 * 60},
    ):
        found = simulate(Trickle(), **chosen)
        named = ", ".join(f"`{name.upper()}={value}`" for name, value in chosen.items()) or "without deferral"
        part = f"a day of 100 rows every 15 minutes, {named}"
        yield Row(part=part, what="folds", value=found.folds, unit="folds")
        yield Row(part=part, what="written", value=found.bytes / GIGABYTE, unit="GB")
        yield Row(part=part, what="oldest delta merged", value=found.oldest / 3600, unit="h")
        yield Row(part=part, what="most rows that a fresh read joins", value=found.most_rows, unit="rows")
