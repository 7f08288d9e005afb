"""The upload of a folded collection's files, and their entries in the manifest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from chromadb_compaction.manifest import StoredFile
from chromadb_compaction.snapshots.files import FoldedFile, upload
from tests.fakes.services import Fakes, new_fakes


def of(body: bytes, key: str) -> StoredFile:
    return StoredFile(key=key, bytes=len(body), sha256=hashlib.sha256(body).hexdigest())


@pytest.fixture
def fakes() -> Fakes:
    return new_fakes()


def test_a_file_with_the_bases_content_keeps_the_bases_key_and_is_not_uploaded(fakes: Fakes, tmp_path: Path) -> None:
    (tmp_path / "same").write_bytes(b"content")
    before = of(b"content", "snapshot/old/same")

    assert upload(fakes.services, [FoldedFile(tmp_path / "same", "snapshot/new/same", before)]) == [before]
    assert fakes.objects.head("snapshot/new/same") is None


@pytest.mark.parametrize(
    "before", [None, of(b"another", "snapshot/old/file"), of(b"longer content", "snapshot/old/file")]
)
def test_a_file_of_other_content_is_uploaded_with_the_same_size_or_another(
    fakes: Fakes, tmp_path: Path, before: StoredFile | None
) -> None:
    (tmp_path / "file").write_bytes(b"content")

    (stored,) = upload(fakes.services, [FoldedFile(tmp_path / "file", "snapshot/new/file", before)])

    assert stored == of(b"content", "snapshot/new/file")
    assert fakes.objects.get("snapshot/new/file").body == b"content"


def test_files_are_described_in_the_given_order(fakes: Fakes, tmp_path: Path) -> None:
    bodies = [b"short", b"the longest of them all", b"", b"middling"]
    for number, body in enumerate(bodies):
        (tmp_path / str(number)).write_bytes(body)

    stored = upload(fakes.services, [FoldedFile(tmp_path / str(n), f"snapshot/new/{n}", None) for n in range(4)])

    assert stored == [of(body, f"snapshot/new/{number}") for number, body in enumerate(bodies)]
