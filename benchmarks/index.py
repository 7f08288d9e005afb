"""Measure the constants of the rule that decides to change an index in place or to rebuild it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.folds import LoaderName, measure, write_run
from benchmarks.report import Reference, Row
from benchmarks.workload import Load, Records, first_round, vectors_like_those_of_texts
from chromadb_compaction.chroma import index_cost

MOVED_SHARE = 5
"""One of this many vectors is replaced."""


def cost_rows(load: Load) -> list[Row]:
    """Return the measured costs of replacing and of keeping a vector, in insertions, beside the rule's constants."""
    parts = list(first_round(load))
    count = load.records // MOVED_SHARE
    moved = Records(
        [row_id for part in parts for row_id in part.ids][:count],
        vectors_like_those_of_texts(np.random.default_rng(1), count, load.dimension),
        ["moved"] * count,
        [{"moved": True}] * count,
    )
    one = Records(["one more"], moved.embeddings[:1], ["one more"], [{"moved": False}])
    with TemporaryDirectory(prefix="chromadb-benchmark-") as name:
        directory = Path(name)
        base = directory / "base"
        insert = measure(base, write_run(directory / "run", parts), load.dimension).phases["load"] / load.records
        few, many = (write_run(directory / f"run-{len(each.ids)}", [each], first=load.deltas) for each in (one, moved))

        def load_seconds(run: Path, loader: LoaderName) -> float:
            return measure(directory / "changed", run, load.dimension, base=base, loader=loader).phases["load"]

        fixed = load_seconds(few, "in place")
        replaced = (load_seconds(many, "in place") - fixed) / count
        kept = (load_seconds(few, "rebuild") - fixed) / load.records
    return [
        _row("a vector replaced", replaced / insert, index_cost.UPDATE_COST),
        _row("a vector kept", kept / insert, index_cost.KEPT_COST),
    ]


def _row(what: str, value: float, rule: float) -> Row:
    references = [Reference(name="rule", value=rule)]
    return Row(part="index, in insertions", what=what, value=value, unit="", references=references)
