"""Checks that are removed from the product, to prove that the suite then fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from chromadb_compaction.deltas import jsonl
from chromadb_compaction.deltas.parquet import files
from chromadb_compaction.layout import deltas, names

Patch = Callable[[pytest.MonkeyPatch], None]


def no_check_of_sizes(patch: pytest.MonkeyPatch) -> None:
    """Parquet is unpacked without checking its size first."""
    patch.setattr(files, "unpacked_bytes", lambda _body, *, enough: 0)


def no_limit_on_gzip(patch: pytest.MonkeyPatch) -> None:
    """JSON Lines are unpacked beyond the limit."""
    unpack = jsonl.decompress
    patch.setattr(jsonl, "decompress", lambda body, *, max_bytes: unpack(body, max_bytes=max_bytes * 1000))


def no_check_of_ids(patch: pytest.MonkeyPatch) -> None:
    """Any id is accepted."""
    patch.setattr(files, "check_id", lambda value: value)
    patch.setattr(jsonl, "check_id", lambda value: value)


def no_check_of_collections(patch: pytest.MonkeyPatch) -> None:
    """Any folder name is accepted as a collection."""
    for module in (names, deltas):
        patch.setattr(module, "check_collection_name", lambda name: name)


def no_limit_on_keys(patch: pytest.MonkeyPatch) -> None:
    """A quarantined delta keeps a key that is too long."""
    patch.setattr(deltas, "LONGEST_KEY", 10_000)


DEFECTS: dict[str, Patch] = {
    patch.__name__: patch
    for patch in (
        no_check_of_sizes,
        no_limit_on_gzip,
        no_check_of_ids,
        no_check_of_collections,
        no_limit_on_keys,
    )
}


@contextmanager
def seeded(defect: str | None) -> Iterator[None]:
    """Remove that check inside the block. None changes nothing."""
    with pytest.MonkeyPatch.context() as patch:
        if defect is not None:
            DEFECTS[defect](patch)
        yield
