"""The two things that the system is measured against, run in a process of their own: `python -m benchmarks.references`.

*naive*: each delta is a ChromaDB directory in a tar.gz; to merge it, it is unpacked, opened, read whole, upserted in
250s into the one collection, and its ids are read back. *bulk*: one client, the largest batches it takes, one flush.
Neither touches S3. Importing chromadb is not counted.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
from chromadb.api import ClientAPI
from chromadb.api.models.Collection import Collection
from chromadb.config import Settings

from benchmarks.memory import MEBIBYTE
from benchmarks.workload import COLLECTION, Load, Records, a_query, first_round, second_round

NAIVE_BATCH = 250


@contextmanager
def opened_client(directory: Path) -> Iterator[ClientAPI]:
    """Open a directory, made if it is missing."""
    client: Any = chromadb.PersistentClient(path=directory, settings=Settings(anonymized_telemetry=False))
    with closing(client):
        yield client


@contextmanager
def opened(directory: Path, *, flush_at: int | None = None) -> Iterator[Collection]:
    """Open the one collection of a directory, made if it is missing. `flush_at`: not where ChromaDB itself would."""
    with opened_client(directory) as client:
        yield the_collection(client, flush_at=flush_at)


def the_collection(client: ClientAPI, *, flush_at: int | None = None) -> Collection:
    """Return the one collection, made if it is missing."""
    collection = client.get_or_create_collection(COLLECTION, embedding_function=None)
    if flush_at is not None:
        collection.modify(configuration={"hnsw": {"sync_threshold": flush_at}})
    return collection


def naive(place: Path, load: Load) -> list[dict[str, float]]:
    """Return the seconds of each phase of each round."""
    rounds = []
    for number, deltas in enumerate((first_round(load), second_round(load)), 1):
        seconds = {}
        started = time.perf_counter()
        archives = [naive_delta(place / f"delta-{number}-{n}", records) for n, records in enumerate(deltas)]
        seconds["produce"] = time.perf_counter() - started
        started = time.perf_counter()
        with opened(place / "main") as main:
            for archive in archives:
                naive_merge(main, archive)
        seconds["merge and fold"] = time.perf_counter() - started
        started = time.perf_counter()
        snapshot = packed(place / "main")
        seconds["publish"] = time.perf_counter() - started
        started = time.perf_counter()
        with opened(unpacked(snapshot)) as collection:
            collection.query(query_embeddings=a_query(load), n_results=10)
        seconds["reader"] = time.perf_counter() - started
        rounds.append(seconds)
    return rounds


def naive_delta(directory: Path, records: Records) -> Path:
    """Write one delta as a ChromaDB directory, and return its archive."""
    with opened(directory) as collection:
        collection.upsert(**records._asdict())
    return packed(directory)


def naive_merge(main: Collection, archive: Path) -> None:
    """Merge one delta's archive into the main collection."""
    with opened(unpacked(archive)) as delta:
        found: Any = delta.get(include=["embeddings", "documents", "metadatas"])
    for start in range(0, len(found["ids"]), NAIVE_BATCH):
        part = slice(start, start + NAIVE_BATCH)
        main.upsert(**{name: found[name][part] for name in Records._fields})
    if set(main.get(ids=found["ids"], include=[])["ids"]) != set(found["ids"]):
        raise RuntimeError(f"{archive} was not merged whole")


def packed(directory: Path) -> Path:
    """Return a tar.gz of the directory."""
    archive = directory.with_name(f"{directory.name}.tar.gz")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(directory, ".")
    return archive


def unpacked(archive: Path) -> Path:
    """Return a fresh directory with what the archive holds."""
    directory = archive.with_name(f"{archive.name}.unpacked")
    shutil.rmtree(directory, ignore_errors=True)
    shutil.unpack_archive(archive, directory, "gztar")
    return directory


def bulk(place: Path, load: Load) -> list[dict[str, float]]:
    """Return the seconds that upserting all records of each round takes."""
    return [{"merge and fold": bulk_upsert(place, deltas)} for deltas in (first_round(load), second_round(load))]


def bulk_upsert(place: Path, deltas: Iterable[Records]) -> float:
    """Upsert everything with one flush, at the last record."""
    parts = list(deltas)
    ids, documents, metadatas = (
        [item for part in parts for item in getattr(part, name)] for name in ("ids", "documents", "metadatas")
    )
    embeddings = np.concatenate([part.embeddings for part in parts])
    started = time.perf_counter()
    with opened_client(place / "bulk") as client:
        collection = the_collection(client, flush_at=len(ids))
        largest = client.get_max_batch_size()
        for start in range(0, len(ids), largest):
            part = slice(start, start + largest)
            collection.upsert(
                ids=ids[part], embeddings=embeddings[part], documents=documents[part], metadatas=metadatas[part]
            )
    return time.perf_counter() - started


def main(kind: str, place: str, load: str) -> None:
    """Run one reference and print its measurements as JSON."""
    rounds = {"naive": naive, "bulk": bulk}[kind](Path(place), Load(*json.loads(load)))
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(json.dumps({"rounds": rounds, "peak_mebibytes": kibibytes * 1024 / MEBIBYTE}))


if __name__ == "__main__":
    main(*sys.argv[1:])
