"""Measure LanceDB on the same emulated S3, beside our fresh reads. Readers run in new processes.

A reader of LanceDB that must see new rows at once asks for the table's version with every query. It searches rows that
are not indexed yet one by one, as ours does.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from statistics import median, quantiles
from typing import Final

import boto3
import lancedb
import pyarrow as pa
from lancedb.index import HnswSq

from benchmarks.child import run_child, say, say_when_found, seconds_until_seen
from benchmarks.memory import peak_mebibytes
from benchmarks.report import Row
from benchmarks.workload import COLLECTION, QUERIES, WRITES, Load, Records, a_query, records

BUCKET: Final = "lancedb-benchmark"
NOT_INDEXED: Final = (0, 1_000, 10_000)
PER_WRITE: Final = 500


def lance_rows(load: Load) -> Iterator[Row]:
    """Yield the measurements, on a table of `load`'s records with an HNSW index."""
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    everything = records(load.dimension, seed=0, ids=[str(n) for n in range(load.records)])
    table = _connect().create_table(COLLECTION, _arrow(everything))
    table.create_index("vector", config=HnswSq(distance_type="l2"))

    def write(number: int) -> None:
        _upsert(table, records(load.dimension, seed=number, ids=[f"marker-{number}"]))

    seconds = seconds_until_seen(WRITES, write, "benchmarks.lance", "watch")
    yield Row(part="write to first answer, LanceDB", what="p50", value=median(seconds) * 1000, unit="ms")
    yield Row(part="write to first answer, LanceDB", what="p95", value=quantiles(seconds, n=20)[-1] * 1000, unit="ms")
    table.optimize()
    written = 0
    for rows in NOT_INDEXED:
        for number in range(written // PER_WRITE, rows // PER_WRITE):
            new = [f"new-{number}-{row}" for row in range(PER_WRITE)]
            _upsert(table, records(load.dimension, seed=1000 + number, ids=new))
        written = rows
        measured = run_child("benchmarks.lance", "query", json.dumps(load))
        part = f"query, LanceDB, {rows:,} rows not indexed"
        yield Row(part=part, what="p50", value=measured["seconds"] * 1000, unit="ms")
        yield Row(part=part, what="peak memory", value=measured["mebibytes"], unit="MiB")


def _connect() -> lancedb.DBConnection:
    options = {
        "endpoint": os.environ["AWS_ENDPOINT_URL"],
        "aws_region": os.environ["AWS_DEFAULT_REGION"],
        "allow_http": "true",
    }
    return lancedb.connect(f"s3://{BUCKET}/db", storage_options=options, read_consistency_interval=timedelta(0))


def _arrow(chosen: Records) -> pa.Table:
    dimension = chosen.embeddings.shape[1]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(chosen.embeddings.ravel()), dimension)
    columns = {"id": chosen.ids, "document": chosen.documents, "metadata": chosen.metadatas}
    return pa.table(columns).append_column("vector", vectors)


def _upsert(table: lancedb.table.Table, chosen: Records) -> None:
    table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(_arrow(chosen))


def watch() -> None:
    """Print the time at which each of WRITES rows was found first, in Unix seconds."""
    table = _connect().open_table(COLLECTION)
    table.count_rows("id = '0'")
    say_when_found(WRITES, lambda number: table.count_rows(f"id = 'marker-{number}'") > 0)


def query(load: Load) -> Mapping[str, float]:
    """Return the seconds of the median query for ten records, and the peak memory."""
    table = _connect().open_table(COLLECTION)
    question = a_query(load)[0]
    seconds = []
    for _ in range(QUERIES + 1):
        started = time.perf_counter()
        table.search(question).limit(10).to_list()
        seconds.append(time.perf_counter() - started)
    # The first query opens the index.
    return {
        "seconds": median(seconds[1:]),
        "mebibytes": peak_mebibytes(),
    }


if __name__ == "__main__":
    if sys.argv[1] == "watch":
        watch()
    else:
        say(query(Load(*json.loads(sys.argv[2]))))
