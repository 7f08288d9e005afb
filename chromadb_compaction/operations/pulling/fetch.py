"""The files of a pull, brought together in a directory beside the copy."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from chromadb_compaction.manifest import CollectionSnapshot, Manifest
from chromadb_compaction.operations.pulling.marker import is_untouched, read_marker
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.files import Wanted, download


def fetch(
    services: Services,
    manifest: Manifest,
    collections: Mapping[str, CollectionSnapshot],
    held: Path | None,
    unfinished: Path,
) -> int:
    """Bring the files of each collection together in {unfinished}/{name}/. Return the bytes that were downloaded.

    A file that {held}/{name}/ has with the same SHA-256 is copied from there. Raises the errors of `download`.
    """
    wanted = []
    for name, each in collections.items():
        target = unfinished / name
        own = _copy_held(held / name, each, target) if held else set()
        missing = {path: file for path, file in each.chroma_files.items() if path not in own}
        wanted.append(Wanted(name, missing, target))
    return download(services, manifest, wanted)


def _copy_held(held: Path, each: CollectionSnapshot, target: Path) -> set[str]:
    """Copy the collection's files that `held` has with the same bytes, and return their paths."""
    marker = read_marker(held)
    if marker is None:
        return set()
    known = {path: file.sha256 for path, file in marker.files.items()}
    same = {
        path
        for path, file in each.chroma_files.items()
        if known.get(path) == file.sha256 and is_untouched(held, path, marker)
    }
    for path in same:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(held / path, target / path)
    return same


@contextmanager
def unfinished_beside(into: Path) -> Iterator[Path]:
    """Yield a directory beside `into`, which is deleted afterwards with what is left in it."""
    unfinished = into.parent / f".{into.name}-{secrets.token_hex(4)}"
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
