"""The upload of a folded collection's files, and their entries in the manifest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from chromadb_compaction import layout
from chromadb_compaction.errors import SnapshotCorruptError
from chromadb_compaction.manifest import StoredFile
from chromadb_compaction.snapshots.catalogue import read_catalogue
from chromadb_compaction.snapshots.files import FoldedFile, Wanted, absent_files, download, upload
from tests.builders import a_delta
from tests.fakes.services import Fakes
from tests.passes import compact

FOLDER = "snapshot/0000000002-0123abcd/docs/"
PACK = f"{FOLDER}files.pack"
BODIES = {"index/data": b"the longest of them all", "index/links": b"", "chroma.sqlite3": b"short"}


def of(body: bytes, key: str, offset: int | None = None) -> StoredFile:
    return StoredFile(key=key, bytes=len(body), sha256=hashlib.sha256(body).hexdigest(), offset=offset)


def folded(directory: Path, bodies: dict[str, bytes], before: dict[str, StoredFile], folder: str) -> list[FoldedFile]:
    for path, body in bodies.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(body)
    return [FoldedFile(directory / path, folder + path, before.get(path)) for path in bodies]


def uploaded(
    fakes: Fakes,
    directory: Path,
    bodies: dict[str, bytes] = BODIES,
    before: dict[str, StoredFile] | None = None,
    folder: str = FOLDER,
) -> dict[str, StoredFile]:
    stored = upload(fakes.services, folded(directory, bodies, before or {}, folder))
    return dict(zip(bodies, stored, strict=True))


def test_small_files_are_one_object_in_the_given_order(fakes: Fakes, tmp_path: Path) -> None:
    stored = uploaded(fakes, tmp_path)

    assert fakes.objects.keys() == {PACK}
    assert stored == {
        "index/data": of(BODIES["index/data"], PACK, 0),
        "index/links": of(b"", PACK, 23),
        "chroma.sqlite3": of(b"short", PACK, 23),
    }
    assert absent_files(fakes.services, stored.values()) == []


def test_each_partition_has_a_pack_of_its_own(fakes: Fakes, tmp_path: Path) -> None:
    folders = [f"{FOLDER}{layout.partition_folder(first)}/" for first in ("", "m")]
    files = [file for each in folders for file in folded(tmp_path / each, {"chroma.sqlite3": b"a"}, {}, each)]

    upload(fakes.services, files)

    assert fakes.objects.keys() == {f"{folder}files.pack" for folder in folders}


def test_a_directory_in_which_nothing_changed_keeps_its_pack(fakes: Fakes, tmp_path: Path) -> None:
    before = uploaded(fakes, tmp_path)

    assert uploaded(fakes, tmp_path, before=before, folder=FOLDER.replace("2-", "3-")) == before
    assert fakes.objects.keys() == {PACK}


def test_a_directory_in_which_one_file_changed_is_packed_whole(fakes: Fakes, tmp_path: Path) -> None:
    before = uploaded(fakes, tmp_path)
    after = uploaded(fakes, tmp_path, BODIES | {"index/links": b"x"}, before, FOLDER.replace("2-", "3-"))

    assert {file.key for file in after.values()} == {PACK.replace("2-", "3-")}


def test_a_pack_that_is_missing_or_too_short_is_absent(fakes: Fakes, tmp_path: Path) -> None:
    stored = uploaded(fakes, tmp_path)
    fakes.objects.put(PACK, fakes.objects.get(PACK).body[:-1])
    assert absent_files(fakes.services, stored.values()) == [PACK]
    fakes.objects.delete([PACK])
    assert absent_files(fakes.services, stored.values()) == [PACK]


def test_files_of_a_pack_are_read_by_one_request_and_checked_singly(fakes: Fakes, tmp_path: Path) -> None:
    compact(fakes, a_delta({"a": [1, 0]}))
    manifest = read_catalogue(fakes.services).find(None).manifest
    docs = manifest.collections["docs"]
    (pack,) = {file.key for file in docs.files.values()}
    wanted = [Wanted("docs", docs.chroma_files, tmp_path / "docs")]
    fakes.objects.calls.clear()

    assert download(fakes.services, manifest, wanted) == sum(file.bytes for file in docs.chroma_files.values())
    assert fakes.objects.calls == [("get_range", pack)]
    for path, file in docs.chroma_files.items():
        assert hashlib.sha256((tmp_path / "docs" / path).read_bytes()).hexdigest() == file.sha256

    body = fakes.objects.get(pack).body
    at = docs.files[layout.LEDGER_FILE].offset or 0
    fakes.objects.put(pack, body[:at] + b"damaged" + body[at + 7 :])
    download(fakes.services, manifest, wanted)
    with pytest.raises(SnapshotCorruptError, match=layout.LEDGER_FILE):
        download(fakes.services, manifest, [Wanted("docs", docs.files, tmp_path / "all")])


@pytest.mark.usefixtures("unpacked")
def test_a_file_with_the_bases_content_keeps_the_bases_key_and_is_not_uploaded(fakes: Fakes, tmp_path: Path) -> None:
    before = of(b"content", "snapshot/old/docs/same")

    assert uploaded(fakes, tmp_path, {"same": b"content"}, {"same": before}) == {"same": before}
    assert fakes.objects.keys() == set()


@pytest.mark.usefixtures("unpacked")
@pytest.mark.parametrize(
    "before", [None, of(b"another", "snapshot/old/file"), of(b"longer content", "snapshot/old/file")]
)
def test_a_file_of_other_content_is_uploaded_with_the_same_size_or_another(
    fakes: Fakes, tmp_path: Path, before: StoredFile | None
) -> None:
    stored = uploaded(fakes, tmp_path, {"file": b"content"}, {"file": before} if before else {})

    assert stored == {"file": of(b"content", f"{FOLDER}file")}
    assert fakes.objects.get(f"{FOLDER}file").body == b"content"


@pytest.mark.usefixtures("unpacked")
def test_large_files_are_described_in_the_given_order(fakes: Fakes, tmp_path: Path) -> None:
    assert uploaded(fakes, tmp_path) == {path: of(body, FOLDER + path) for path, body in BODIES.items()}
