"""Checks taken out of the product, to see that the suite would notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from chromadb_compaction import layout
from chromadb_compaction.deltas import jsonl, parquet

Patch = Callable[[pytest.MonkeyPatch], None]


def no_look_at_sizes(patch: pytest.MonkeyPatch) -> None:
    """Parquet is unpacked before anyone asks how large it will be."""
    patch.setattr(parquet, "unpacked_bytes", lambda _body, *, enough: 0)


def no_limit_on_gzip(patch: pytest.MonkeyPatch) -> None:
    """JSON Lines are unpacked to the end."""
    unpack = jsonl.decompress
    patch.setattr(jsonl, "decompress", lambda body, *, max_bytes: unpack(body, max_bytes=max_bytes * 1000))


def no_check_of_ids(patch: pytest.MonkeyPatch) -> None:
    """Any id will do."""
    patch.setattr(parquet, "check_id", lambda value: value)
    patch.setattr(jsonl, "check_id", lambda value: value)


def no_check_of_collections(patch: pytest.MonkeyPatch) -> None:
    """Any folder is a collection."""
    patch.setattr(layout, "check_collection_name", lambda name: name)


def no_room_for_long_keys(patch: pytest.MonkeyPatch) -> None:
    """A refused delta keeps its name, however long."""
    patch.setattr(layout, "LONGEST_KEY", 10_000)


DEFECTS: dict[str, Patch] = {
    patch.__name__: patch
    for patch in (
        no_look_at_sizes,
        no_limit_on_gzip,
        no_check_of_ids,
        no_check_of_collections,
        no_room_for_long_keys,
    )
}


@contextmanager
def seeded(defect: str | None) -> Iterator[None]:
    """Take the check of that name out for the length of a block; None: change nothing."""
    with pytest.MonkeyPatch.context() as patch:
        if defect is not None:
            DEFECTS[defect](patch)
        yield
