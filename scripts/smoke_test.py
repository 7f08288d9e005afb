"""Check that the image works: import every handler, embed, merge and fold a delta, and query the result.

Run it inside the image, where it finds the installed packages and no checkout:

    docker run --rm --entrypoint python3.12 --volume "$PWD/scripts/smoke_test.py:/smoke_test.py:ro" IMAGE /smoke_test.py
"""

from __future__ import annotations

import importlib
import secrets
import sys
import tempfile
import time
from pathlib import Path

TASKS = ("merge_batch", "compactor", "producer", "query")
TEXTS = {
    "shell": "Run a shell command and capture its output.",
    "date": "The day of the week of a date.",
    "whale": "The whale is the largest animal.",
}
QUESTION, ANSWER = "start a program", "shell"
COLLECTION = "docs"
MEBIBYTE = 1024 * 1024


def import_handlers() -> None:
    """Import the handler of each function of the image, as Lambda does at a cold start."""
    for task in TASKS:
        require(callable(importlib.import_module(f"tasks.{task}").handler), f"tasks.{task} has a handler")


def require(holds: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence
    """Exit with an error unless the condition holds."""
    if not holds:
        sys.exit(f"the image does not work: it must hold that {what}")


def answer(directory: Path) -> str:
    """Write one delta, fold it into a new collection in `directory`, and return the id nearest to the question."""
    from chromadb_compaction.chroma.client import open_collection
    from chromadb_compaction.chroma.embedding import embed
    from chromadb_compaction.chroma.query import Filters, nearest
    from chromadb_compaction.client.row_buffer import upserts_of
    from chromadb_compaction.deltas.formats import read_delta, write_delta
    from chromadb_compaction.deltas.header import DeltaHeader
    from chromadb_compaction.deltas.versions import uuid7_at
    from chromadb_compaction.fold.fold import FoldRequest, fold_collection
    from chromadb_compaction.layout import delta_key
    from chromadb_compaction.rows.batch_run import BatchRun
    from chromadb_compaction.rows.shapes import CollectionChange

    vectors = embed(list(TEXTS.values()), "wordllama")
    now = time.time()
    body = write_delta(upserts_of(list(TEXTS), vectors, list(TEXTS.values()), None), DeltaHeader())
    key = delta_key(COLLECTION, str(uuid7_at(now, secrets.randbits(74))))
    delta = read_delta(key, body, now=now, max_bytes=MEBIBYTE)
    (directory / "run").mkdir()
    run = BatchRun(directory / "run")
    run.begin(COLLECTION)
    run.add(delta.table, CollectionChange())
    require([part.rows for part in run.finish()] == [len(TEXTS)], "the run has every row")
    folded = fold_collection(
        FoldRequest(
            collection=COLLECTION,
            dimension=None,
            space="cosine",
            directory=directory / "chroma",
            ledger=None,
            runs=[run.file],
            next_ledger=directory / "ledger.parquet",
        )
    )
    print(f"folded {folded.counts} with the loader {folded.loader}")
    with open_collection(directory / "chroma", COLLECTION) as collection:
        question = embed([QUESTION], "wordllama", questions=True)
        found = nearest(collection, question, n_results=1, filters=Filters(), include=["documents"])
    return found["ids"][0][0]


def main() -> None:
    """Run the checks, and print how long they took."""
    began = time.monotonic()
    import_handlers()
    imported = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        nearest_id = answer(Path(directory))
    require(nearest_id == ANSWER, f"the question {QUESTION!r} finds {ANSWER!r}, and not {nearest_id!r}")
    print(f"the image works: imports {imported - began:.1f} s, fold and query {time.monotonic() - imported:.1f} s")


if __name__ == "__main__":
    main()
