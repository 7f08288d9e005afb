"""Measure what a new process costs: the first answer of the query function, and `--help`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks import job
from benchmarks.child import run_child
from benchmarks.report import Row
from benchmarks.workload import COLLECTION, Load, a_query, first_round
from chromadb_compaction.local.home import StackHome

REPETITIONS: Final = 5
FIRST_ANSWER_SECONDS: Final = 3.05
"""Half of the 6.1 s that a first answer took before imports were reduced."""
HELP_SECONDS: Final = 0.4


def cold_rows(home: StackHome, load: Load) -> Iterator[Row]:
    """Measure new processes, each with an empty cache: the medians of REPETITIONS."""
    services = job.deployed(home, "cold")
    job.produce(services, first_round(load))
    job.compact(services)
    event = {"collection": COLLECTION, "query_embeddings": a_query(load).tolist(), "n_results": 10}
    answers = []
    for _ in range(REPETITIONS):
        with TemporaryDirectory(prefix="chromadb-benchmark-") as cache:
            environment = {**job.environment_of(services), "CHROMADB_CACHE_DIR": cache, "LOG_LEVEL": "ERROR"}
            answers.append(run_child("benchmarks.first_answer", json.dumps(event), environment=environment))
    part = "a new query worker"
    yield Row(part=part, what="import", value=median(each["import"] for each in answers), unit="s")
    first = median(each["import"] + each["first"] for each in answers)
    yield Row(part=part, what="import and first answer", value=first, unit="s", limit=FIRST_ANSWER_SECONDS)
    yield Row(part=part, what="second answer", value=1000 * median(each["second"] for each in answers), unit="ms")
    helped = median(_seconds_of_help() for _ in range(REPETITIONS))
    yield Row(part="chromadb-compaction --help", what="seconds", value=helped, unit="s", limit=HELP_SECONDS)


def _seconds_of_help() -> float:
    started = time.perf_counter()
    command = [sys.executable, "-m", "chromadb_compaction", "--help"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)  # noqa: S603 - this interpreter and our own module
    return time.perf_counter() - started
