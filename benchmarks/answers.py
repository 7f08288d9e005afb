"""The answers of a large collection beside exact search, from a snapshot and from one ChromaDB directory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.folds import measure, write_run
from benchmarks.report import Row
from benchmarks.workload import COLLECTION, QUERIES, large_records, vectors_like_those_of_texts
from chromadb_compaction.chroma.client import OpenCollection, open_collection
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.reader import SnapshotReader

NEIGHBOURS: Final = 10
FILTER: Final = {"$and": [{"source": "file-3.txt"}, {"page": {"$lt": 200}}]}
"""A filter that one record of a hundred passes."""


class Answers(NamedTuple):
    """The answers to the queries.

    Attributes:
        nearest: The ids of the nearest records, for each query.
        filtered: Those of the nearest ones that pass FILTER.
        passing: The ids of all records that pass it.
    """

    nearest: list[list[str]]
    filtered: list[list[str]]
    passing: frozenset[str]


def exact_answers(count: int, dimension: int) -> Answers:
    """Return the answers of exact search, of one delta after the other: the vectors have length 1."""
    queries = _queries(dimension)
    nearest: list[list[tuple[float, str]]] = [[] for _ in queries]
    filtered: list[list[tuple[float, str]]] = [[] for _ in queries]
    passing: set[str] = set()
    for rows in large_records(count, dimension):
        products = queries @ rows.embeddings.T
        _keep_best(nearest, products, rows.ids)
        chosen = [at for at, row in enumerate(rows.metadatas) if row["source"] == "file-3.txt" and row["page"] < 200]
        ids = [rows.ids[at] for at in chosen]
        _keep_best(filtered, products[:, chosen], ids)
        passing.update(ids)
    return Answers(_names(nearest), _names(filtered), frozenset(passing))


def _names(best: list[list[tuple[float, str]]]) -> list[list[str]]:
    return [[name for _, name in each] for each in best]


def _keep_best(best: list[list[tuple[float, str]]], products: NDArray[np.float32], ids: list[str]) -> None:
    for known, row in zip(best, products, strict=True):
        known.extend((float(row[at]), ids[at]) for at in np.argsort(-row)[:NEIGHBOURS])
        known.sort(reverse=True)
        del known[NEIGHBOURS:]


def answer_rows(part: str, services: Services, exact: Answers, dimension: int) -> Iterator[Row]:
    """Measure the answers of a reader that has no copy of the published snapshot."""
    reader = SnapshotReader()
    begun = time.perf_counter()
    try:
        with reader.reading(services, COLLECTION) as readable:
            if readable.collection is None:
                raise RuntimeError("the collection has no records")
            _first_answer(readable.collection, dimension)
            yield Row(part=part, what="first answer", value=time.perf_counter() - begun, unit="s")
            yield from _answers(part, readable.collection, exact, dimension)
    finally:
        reader.close()


def one_directory_rows(count: int, exact: Answers, dimension: int) -> Iterator[Row]:
    """Measure the fold of the same records into a single directory, without AWS, and the answers of that directory."""
    part = f"{count:,} records in one directory"
    with TemporaryDirectory(prefix="chromadb-benchmark-") as parent:
        run = write_run(Path(parent, "run.parquet"), large_records(count, dimension))
        target = Path(parent, "directory")
        made = measure(target, run, dimension)
        yield Row(part=part, what="fold into empty", value=made.seconds, unit="s")
        yield Row(part=part, what="processor", value=made.processor, unit="s")
        yield Row(part=part, what="peak memory", value=made.peak_mebibytes, unit="MiB")
        with _opened(target) as collection:
            _first_answer(collection, dimension)
            yield from _answers(part, collection, exact, dimension)


def _first_answer(collection: OpenCollection, dimension: int) -> None:
    first = cast("Any", _queries(dimension)[:1])
    collection.query(query_embeddings=first, n_results=NEIGHBOURS, include=["distances"])


def _opened(target: Path) -> AbstractContextManager[OpenCollection]:
    return open_collection(target / "chroma", COLLECTION)


def _queries(dimension: int) -> NDArray[np.float32]:
    return vectors_like_those_of_texts(np.random.default_rng(1_000_000), QUERIES, dimension)


def _answers(part: str, collection: OpenCollection, exact: Answers, dimension: int) -> Iterator[Row]:
    for what, where, wanted in (("query", None, exact.nearest), ("filtered query", FILTER, exact.filtered)):
        seconds, hits = [], 0
        for query, nearest in zip(_queries(dimension), wanted, strict=True):
            asked = time.perf_counter()
            found = collection.query(
                query_embeddings=cast("Any", query[None]),
                n_results=NEIGHBOURS,
                where=cast("Any", where),
                include=["distances"],
            )
            seconds.append(time.perf_counter() - asked)
            hits += len(set(found["ids"][0]) & set(nearest))
        yield Row(part=part, what=f"{what} p50", value=1000 * median(seconds), unit="ms")
        yield Row(part=part, what=f"{what}, recall at 10", value=hits / (QUERIES * NEIGHBOURS), unit="")
    asked = time.perf_counter()
    ids = collection.get(where=cast("Any", FILTER), include=[])["ids"]
    yield Row(part=part, what="get of all that pass", value=1000 * (time.perf_counter() - asked), unit="ms")
    wrong = len(exact.passing.symmetric_difference(ids)) + len(ids) - len(set(ids))
    yield Row(part=part, what="wrong ids among them", value=wrong, unit="records", limit=0)
