"""The two references, each measured in a new process: `python -m benchmarks.references`.

*naive*: each delta is a ChromaDB directory in a tar.gz. To merge it, it is unpacked, read whole, and upserted into one
collection 250 records at a time, and its ids are read back. *bulk*: one client, the largest batches, one flush.
Neither uses S3 or the loaders of this project. Importing chromadb is not counted.
"""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.memory import peak_mebibytes
from benchmarks.workload import COLLECTION, Load, Records, a_query, first_round, second_round
from chromadb_compaction.chroma.client import ClientAPI, Collection, open_directory

NAIVE_BATCH = 250


@contextmanager
def opened(directory: Path, *, flush_at: int | None = None) -> Iterator[Collection]:
    """Open the benchmark's collection in a directory, creating both if missing. `flush_at` sets the flush threshold."""
    with open_directory(directory) as client:
        yield the_collection(client, flush_at=flush_at)


def the_collection(client: ClientAPI, *, flush_at: int | None = None) -> Collection:
    """Return the benchmark's collection, creating it if it is missing."""
    collection = client.get_or_create_collection(COLLECTION, embedding_function=None)
    if flush_at is not None:
        collection.modify(configuration={"hnsw": {"sync_threshold": flush_at}})
    return collection


def naive(directory: Path, load: Load) -> list[dict[str, float]]:
    """Run the naive reference, and return the seconds of each phase of each round."""
    rounds = []
    for number, deltas in enumerate((first_round(load), second_round(load)), 1):
        seconds = {}
        started = time.perf_counter()
        archives = [naive_delta(directory / f"delta-{number}-{n}", records) for n, records in enumerate(deltas)]
        seconds["produce"] = time.perf_counter() - started
        started = time.perf_counter()
        with opened(directory / "main") as main:
            for archive in archives:
                naive_merge(main, archive)
        seconds["merge and fold"] = time.perf_counter() - started
        started = time.perf_counter()
        snapshot = pack(directory / "main")
        seconds["publish"] = time.perf_counter() - started
        started = time.perf_counter()
        with opened(unpack(snapshot)) as collection:
            collection.query(query_embeddings=a_query(load), n_results=10)
        seconds["reader"] = time.perf_counter() - started
        rounds.append(seconds)
    return rounds


def naive_delta(directory: Path, records: Records) -> Path:
    """Write one delta as a ChromaDB directory, and return its archive."""
    with opened(directory) as collection:
        collection.upsert(**records._asdict())
    return pack(directory)


def naive_merge(main: Collection, archive: Path) -> None:
    """Merge one delta's archive into the main collection."""
    with opened(unpack(archive)) as delta:
        found: Any = delta.get(include=["embeddings", "documents", "metadatas"])
    for start in range(0, len(found["ids"]), NAIVE_BATCH):
        part = slice(start, start + NAIVE_BATCH)
        main.upsert(**{name: found[name][part] for name in Records._fields})
    if set(main.get(ids=found["ids"], include=[])["ids"]) != set(found["ids"]):
        raise RuntimeError(f"{archive} was not merged completely")


def pack(directory: Path) -> Path:
    """Write a tar.gz of the directory beside it, and return its path."""
    archive = directory.with_name(f"{directory.name}.tar.gz")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(directory, ".")
    return archive


def unpack(archive: Path) -> Path:
    """Unpack the archive into a new directory beside it, and return its path."""
    directory = archive.with_name(f"{archive.name}.unpacked")
    shutil.rmtree(directory, ignore_errors=True)
    shutil.unpack_archive(archive, directory, "gztar")
    return directory


def bulk(directory: Path, load: Load) -> list[dict[str, float]]:
    """Run the bulk reference, and return the seconds and the processor seconds of each round."""
    upserted = [bulk_upsert(directory, deltas) for deltas in (first_round(load), second_round(load))]
    return [{"merge and fold": each.seconds, "processor": each.processor} for each in upserted]


class BulkUpsert(NamedTuple):
    """The wall seconds and the processor seconds of one bulk upsert."""

    seconds: float
    processor: float


def bulk_upsert(directory: Path, deltas: Iterable[Records]) -> BulkUpsert:
    """Upsert everything with one flush at the last record."""
    parts = list(deltas)
    ids, documents, metadatas = (
        [item for part in parts for item in getattr(part, name)] for name in ("ids", "documents", "metadatas")
    )
    embeddings = np.concatenate([part.embeddings for part in parts])
    started, processor = time.perf_counter(), time.process_time()
    with open_directory(directory / "bulk") as client:
        collection = the_collection(client, flush_at=len(ids))
        largest = client.get_max_batch_size()
        for start in range(0, len(ids), largest):
            part = slice(start, start + largest)
            collection.upsert(
                ids=ids[part], embeddings=embeddings[part], documents=documents[part], metadatas=metadatas[part]
            )
    return BulkUpsert(time.perf_counter() - started, time.process_time() - processor)


def main(kind: str, directory: str, load: str) -> None:
    """Run one reference and print its measurements as JSON."""
    rounds = {"naive": naive, "bulk": bulk}[kind](Path(directory), Load(*json.loads(load)))
    sys.stdout.write(json.dumps({"rounds": rounds, "peak_mebibytes": peak_mebibytes()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
