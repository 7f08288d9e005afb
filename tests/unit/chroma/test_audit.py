"""The audit of a published collection against its ledger: each test damages one thing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from chromadb_compaction.chroma.audit import Audit, audit
from chromadb_compaction.chroma.client import Collection, open_collection
from chromadb_compaction.configuration import Space
from chromadb_compaction.layout import LEDGER_FILE
from chromadb_compaction.operations.pull import pull_snapshot
from chromadb_compaction.rows.ledger import decode_ledger
from chromadb_compaction.snapshots.catalogue import read_catalogue
from tests.builders import a_delta
from tests.fakes.published import body_of
from tests.fakes.services import Fakes
from tests.passes import compact

TENTH = 0.1


def damage_and_audit(
    fakes: Fakes,
    tmp_path: Path,
    damage: Callable[[Collection], object] = lambda _collection: None,
    *,
    space: Space = "l2",
    metadata: Mapping[str, Any] | None = None,
) -> Audit:
    """Publish two records, `a` with a document and metadata, damage a copy of the snapshot, and audit the copy."""
    delta = a_delta(
        upserts={"a": [0.3, 0.7], "b": [3, 4]},
        deletes={"c"},
        documents={"a": "text"},
        metadatas={"a": metadata or {"k": 1, "x": TENTH}},
        uris={"a": "s3://a"},
        header={"space": space},
    )
    compact(fakes, delta)
    pull_snapshot(fakes.services, None, tmp_path / "copy")
    described = read_catalogue(fakes.services).find(None).manifest.collections["docs"]
    ledger = decode_ledger(body_of(described.files[LEDGER_FILE], fakes.objects.objects))
    with open_collection(tmp_path / "copy/docs", "docs") as collection:
        damage(collection)
    return audit(tmp_path / "copy/docs", "docs", ledger, dimension=2, space=space)


def test_a_published_collection_passes_the_audit(fakes: Fakes, tmp_path: Path) -> None:
    assert damage_and_audit(fakes, tmp_path) == Audit(records=2, unproven_vectors=0, unproven_texts=0, problems=())


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda c: c.delete(ids=["b"]), "id 'b' is missing"),
        (lambda c: c.delete(ids=["b"]), "counts 1 records, the ledger 2"),
        (lambda c: c.add(ids=["c"], embeddings=[[1, 1]]), "id 'c' is in the collection but not in the ledger"),
        (lambda c: c.update(ids=["b"], embeddings=[[3, 4.5]]), "id 'b' has a different vector"),
        (lambda c: c.update(ids=["a"], documents=["texT"], embeddings=[[0.3, 0.7]]), "id 'a' has a different document"),
        (lambda c: c.update(ids=["a"], metadatas=[{"k": 1.0}]), "id 'a' has a different document, metadata or URI"),
        (lambda c: c.update(ids=["a"], metadatas=[{"x": 0.2}]), "id 'a' has a different document, metadata or URI"),
        (lambda c: c.update(ids=["a"], uris=["s3://b"]), "id 'a' has a different document, metadata or URI"),
        (lambda c: c.update(ids=["b"], metadatas=[{"extra": 1}]), "id 'b' has a different document, metadata or URI"),
    ],
)
def test_a_difference_is_found_and_named(
    fakes: Fakes, tmp_path: Path, damage: Callable[[Collection], object], problem: str
) -> None:
    assert any(problem in each for each in damage_and_audit(fakes, tmp_path, damage).problems)


def increase(value: float, steps: int) -> float:
    for _ in range(steps):
        value = math.nextafter(value, math.inf)
    return value


@pytest.mark.parametrize(("steps", "proven"), [(1, True), (2, True), (20, False)])
def test_a_metadata_float_may_differ_by_chromadbs_own_reading_error(
    fakes: Fakes, tmp_path: Path, steps: int, *, proven: bool
) -> None:
    found = damage_and_audit(fakes, tmp_path, lambda c: c.update(ids=["a"], metadatas=[{"x": increase(TENTH, steps)}]))

    assert (found.problems == ()) is proven
    assert found.unproven_texts == 0


def test_a_record_with_too_many_floats_to_try_counts_as_unproven(fakes: Fakes, tmp_path: Path) -> None:
    many = {f"x{number}": TENTH * number for number in range(1, 9)}

    found = damage_and_audit(
        fakes, tmp_path, lambda c: c.update(ids=["a"], metadatas=[{"x3": increase(many["x3"], 1)}]), metadata=many
    )

    assert (found.unproven_texts, found.problems) == (1, ())


def test_the_texts_of_a_cosine_record_are_proven_though_its_vector_is_not(fakes: Fakes, tmp_path: Path) -> None:
    found = damage_and_audit(fakes, tmp_path, lambda c: c.update(ids=["a"], metadatas=[{"k": 2}]), space="cosine")

    assert found.unproven_vectors <= 2
    assert found.problems == ("docs: id 'a' has a different document, metadata or URI than was merged",)
