"""Copies of a snapshot that are refreshed, followed and merged."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chromadb_compaction.chroma.client import open_collection, open_directory
from chromadb_compaction.errors import CompactionError, InvalidRequestError, NewerFormatError, TransientStorageError
from chromadb_compaction.operations.pull import Pulled, pull_snapshot
from chromadb_compaction.operations.pulling import exchange
from chromadb_compaction.operations.pulling.exchange import install
from chromadb_compaction.operations.pulling.follow import follow
from chromadb_compaction.operations.pulling.marker import MARKER
from tests.builders import NOW, a_delta, a_drop
from tests.fakes.services import Fakes
from tests.passes import compact

HEADER = {
    "format": 2,
    "space": "cosine",
    "collection": {"configuration": {"hnsw": {"ef_search": 77, "ef_construction": 66}}, "metadata": {"owner": "ada"}},
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "copy"


def publish(fakes: Fakes, id_: str, *, at: float, collection: str = "docs") -> None:
    compact(fakes, a_delta({id_: [1, 0]}, collection=collection, at=NOW + at))


def pull(fakes: Fakes, copy: Path, **options: Any) -> Pulled:
    return pull_snapshot(fakes.services, None, copy, **options)


def ids(directory: Path, name: str = "docs") -> list[str]:
    with open_collection(directory, name) as collection:
        return sorted(collection.get(include=[])["ids"])


def downloads(fakes: Fakes) -> list[str]:
    """Return a list to which each later download adds its key."""
    keys: list[str] = []
    fakes.objects.before = lambda call, key: keys.append(key) if call == "get_range" else None
    return keys


def change(directory: Path, act: Callable[[Any], object]) -> None:
    with open_collection(directory, "docs") as collection:
        act(collection)


def test_a_second_pull_of_the_same_snapshot_fetches_nothing(fakes: Fakes, copy: Path) -> None:
    publish(fakes, "a", at=0)
    pull(fakes, copy)
    keys = downloads(fakes)

    again = pull(fakes, copy)

    assert keys == []
    assert (again.fetched, [each.refreshed for each in again.collections]) == (0, [False])


def test_a_refresh_fetches_only_the_collection_that_has_changed(fakes: Fakes, copy: Path) -> None:
    publish(fakes, "a", at=0)
    publish(fakes, "x", at=1, collection="others")
    pull(fakes, copy)
    publish(fakes, "b", at=2)
    keys = downloads(fakes)

    again = pull(fakes, copy)

    assert {key.split("/")[2] for key in keys} == {"docs"}
    assert {each.collection: each.refreshed for each in again.collections} == {"docs": True, "others": False}
    assert ids(copy / "docs") == ["a", "b"]
    assert ids(copy / "others", "others") == ["x"]


def test_a_copy_that_was_only_read_is_refreshed(fakes: Fakes, copy: Path) -> None:
    publish(fakes, "a", at=0)
    pull(fakes, copy)
    change(copy / "docs", lambda docs: docs.query(query_embeddings=[[1, 0]], n_results=1))
    publish(fakes, "b", at=1)

    pull(fakes, copy)

    assert ids(copy / "docs") == ["a", "b"]


CHANGES: list[Callable[[Path], object]] = [
    lambda copy: change(copy / "docs", lambda docs: docs.upsert("mine", [[1, 0]])),
    lambda copy: change(copy / "docs", lambda docs: docs.delete(["a"])),
    lambda copy: change(copy / "docs", lambda docs: docs.modify(metadata={"mine": True})),
    lambda copy: (copy / "docs" / "notes.txt").write_text("mine", encoding="utf-8"),
    lambda copy: next((copy / "docs").rglob("header.bin")).write_bytes(b"mine"),
    lambda copy: (copy / "docs" / "chroma.sqlite3").write_bytes(b"mine"),
    lambda copy: (copy / "docs" / "chroma.sqlite3").unlink(),
]


@pytest.mark.parametrize("act", CHANGES)
def test_a_copy_that_was_changed_is_replaced_only_by_force(
    fakes: Fakes, copy: Path, act: Callable[[Path], object]
) -> None:
    publish(fakes, "a", at=0)
    pull(fakes, copy)
    act(copy)
    publish(fakes, "b", at=1)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}

    with pytest.raises(InvalidRequestError, match=r"was changed since it was pulled.*--force"):
        pull(fakes, copy)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
    pull(fakes, copy, force=True)

    assert ids(copy / "docs") == ["a", "b"]


def test_a_copy_that_is_changed_while_the_files_arrive_is_kept(fakes: Fakes, copy: Path) -> None:
    publish(fakes, "a", at=0)
    pull(fakes, copy)
    publish(fakes, "b", at=1)
    fakes.objects.run_before_next("get_range", lambda _: CHANGES[0](copy))

    with pytest.raises(InvalidRequestError, match="was changed"):
        pull(fakes, copy)

    assert ids(copy / "docs") == ["a", "mine"]


def test_a_collection_that_is_gone_is_removed_unless_others_were_named(fakes: Fakes, copy: Path) -> None:
    publish(fakes, "a", at=0)
    publish(fakes, "x", at=1, collection="others")
    pull(fakes, copy)
    compact(fakes, a_drop(collection="others", at=NOW + 2))

    named = pull(fakes, copy, only=["docs"])
    assert (named.removed, (copy / "others").exists()) == ([], True)
    whole = pull(fakes, copy)

    assert (whole.removed, (copy / "others").exists()) == (["others"], False)


def test_a_dry_run_of_a_refresh_changes_nothing(fakes: Fakes, copy: Path) -> None:
    publish(fakes, "a", at=0)
    pull(fakes, copy)
    publish(fakes, "b", at=1)

    planned = pull(fakes, copy, dry_run=True)

    assert [each.refreshed for each in planned.collections] == [True]
    assert ids(copy / "docs") == ["a"]


def test_a_marker_of_a_newer_version_is_not_overwritten(fakes: Fakes, copy: Path) -> None:
    publish(fakes, "a", at=0)
    pull(fakes, copy)
    (copy / "docs" / MARKER).write_text('{"format": 2}', encoding="utf-8")

    with pytest.raises(NewerFormatError):
        pull(fakes, copy, force=True)


@pytest.mark.parametrize("supported", [True, False])
def test_a_directory_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, supported: bool
) -> None:
    if not supported:
        monkeypatch.setattr(exchange, "_exchange", lambda *_: False)
    for name in ("new", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name, encoding="utf-8")

    install(tmp_path / "new", tmp_path / "target")

    assert (tmp_path / "target/file").read_text(encoding="utf-8") == "new"
    assert (tmp_path / "new/file").read_text(encoding="utf-8") == "target"


def test_a_reader_never_finds_the_directory_missing_while_it_is_replaced(tmp_path: Path) -> None:
    for name in ("new", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name, encoding="utf-8")
    found: list[bool] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            found.append((tmp_path / "target/file").exists())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(2000):
        install(tmp_path / "new", tmp_path / "target")
    over.set()
    reader.join()

    assert found
    assert all(found)


def test_a_merged_copy_is_one_directory_with_every_record_and_setting(fakes: Fakes, copy: Path) -> None:
    docs = a_delta(
        {"a": [3, 4], "b": [0, 1]},
        documents={"a": "text"},
        metadatas={"a": {"n": 1, "f": 0.5, "t": True}},
        uris={"b": "s3://b"},
        header=HEADER,
    )
    compact(fakes, docs)
    publish(fakes, "x", at=1, collection="others")
    pull(fakes, copy.with_name("single"))

    pulled = pull(fakes, copy, merged=True)

    assert {each.directory for each in pulled.collections} == {str(copy)}
    with open_directory(copy) as client:
        assert sorted(each.name for each in client.list_collections()) == ["docs", "others"]
        merged: Any = client.get_collection("docs", embedding_function=None)
        with open_collection(copy.with_name("single") / "docs", "docs") as opened:
            single: Any = opened
            assert merged.configuration_json == single.configuration_json
            assert merged.metadata == single.metadata == {"owner": "ada"}
            for include in ("documents", "metadatas", "uris"):
                assert merged.get(include=[include])[include] == single.get(include=[include])[include]
            both = [each.query(query_embeddings=[[1, 1]], n_results=2)["distances"] for each in (merged, single)]
            assert both[0] == both[1]
        merged.upsert("later", [[1, 1]])
        assert merged.query(query_embeddings=[[1, 1]], n_results=1)["ids"] == [["later"]]


def test_a_merged_copy_is_refreshed_and_fetches_only_what_has_changed(fakes: Fakes, copy: Path) -> None:
    publish(fakes, "a", at=0)
    publish(fakes, "x", at=1, collection="others")
    pull(fakes, copy, merged=True)
    unchanged = pull(fakes, copy, merged=True)
    publish(fakes, "b", at=2)
    keys = downloads(fakes)

    pull(fakes, copy, merged=True)

    assert unchanged.fetched == 0
    assert {key.split("/")[2] for key in keys} == {"docs"}
    assert ids(copy) == ["a", "b"]
    assert ids(copy, "others") == ["x"]


def test_a_merged_copy_that_was_changed_is_replaced_only_by_force(fakes: Fakes, copy: Path) -> None:
    publish(fakes, "a", at=0)
    pull(fakes, copy, merged=True)
    change(copy, lambda docs: docs.upsert("mine", [[1, 0]]))

    with pytest.raises(InvalidRequestError, match="was changed"):
        pull(fakes, copy, merged=True)
    pull(fakes, copy, merged=True, force=True)

    assert ids(copy) == ["a"]


def test_a_merged_copy_that_is_changed_while_the_files_arrive_is_kept(fakes: Fakes, copy: Path) -> None:
    publish(fakes, "a", at=0)
    pull(fakes, copy, merged=True)
    publish(fakes, "b", at=1)
    fakes.objects.run_before_next("get_range", lambda _: change(copy, lambda docs: docs.upsert("mine", [[1, 0]])))

    with pytest.raises(InvalidRequestError, match="was changed"):
        pull(fakes, copy, merged=True)

    assert ids(copy) == ["a", "mine"]


def test_hidden_files_beside_the_collections_are_left_alone(fakes: Fakes, copy: Path) -> None:
    publish(fakes, "a", at=0)
    pull(fakes, copy)
    (copy / ".DS_Store").write_bytes(b"mine")
    publish(fakes, "b", at=1)

    pull(fakes, copy)

    assert (copy / ".DS_Store").read_bytes() == b"mine"


def test_a_merged_copy_does_not_take_the_place_of_hidden_files(fakes: Fakes, copy: Path) -> None:
    publish(fakes, "a", at=0)
    copy.mkdir()
    (copy / ".mine").write_bytes(b"precious")

    with pytest.raises(InvalidRequestError, match="not empty"):
        pull(fakes, copy, merged=True)


@pytest.mark.parametrize("merged", [True, False])
def test_a_copy_of_the_other_kind_is_refused(fakes: Fakes, copy: Path, *, merged: bool) -> None:
    publish(fakes, "a", at=0)
    pull(fakes, copy, merged=merged)

    with pytest.raises(InvalidRequestError, match=r"--merge|such a pull"):
        pull(fakes, copy, merged=not merged)


def test_a_follower_pulls_after_each_change_of_the_pointer_and_survives_an_outage(fakes: Fakes, copy: Path) -> None:
    publish(fakes, "a", at=0)
    errors: list[CompactionError] = []

    def busy(call: str, key: str) -> None:
        raise TransientStorageError(f"{call} {key}: S3 is busy")

    def seconds() -> Iterator[None]:
        yield None  # nothing has changed
        publish(fakes, "b", at=1)
        fakes.objects.before = busy
        yield None
        fakes.objects.before = lambda _call, _key: None
        yield None

    clock = seconds()
    followed = follow(
        fakes.services, lambda: pull(fakes, copy), every=5, on_error=errors.append, sleep=lambda _: next(clock)
    )

    assert next(followed).collections[0].records == 1
    assert next(followed).collections[0].records == 2
    assert ["S3 is busy" in str(error) for error in errors] == [True]


def test_a_pull_that_was_interrupted_is_finished_by_the_next(
    fakes: Fakes, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(fakes, "a", at=0)
    publish(fakes, "x", at=1, collection="others")
    pull(fakes, copy)
    publish(fakes, "b", at=2)
    publish(fakes, "y", at=3, collection="others")
    installed: list[Path] = []

    def interrupt(new: Path, target: Path) -> None:
        if installed:
            raise KeyboardInterrupt
        installed.append(target)
        install(new, target)

    monkeypatch.setattr("chromadb_compaction.operations.pull.install", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pull(fakes, copy)
    monkeypatch.undo()
    keys = downloads(fakes)
    pull(fakes, copy)

    assert {key.split("/")[2] for key in keys} == {"docs", "others"} - {installed[0].name}
    assert (ids(copy / "docs"), ids(copy / "others", "others")) == (["a", "b"], ["x", "y"])
    assert [path.name for path in copy.parent.iterdir() if path.name.startswith(".copy")] == []
