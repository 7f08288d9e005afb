"""The stored formats: valid and invalid values, and the proof that nothing was lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chromadb_compaction.layout import LEDGER_FILE, partition_folder
from chromadb_compaction.manifest import (
    CollectionRef,
    CollectionSnapshot,
    Conservation,
    Manifest,
    PartitionSnapshot,
    Pointer,
    StoredFile,
    commit_id,
    totals,
)

u128 = st.integers(0, 2**128 - 1)
ZERO = "0" * 32
NEWEST = [f"01920000-0000-7000-8000-00000000000{number}" for number in range(2)]


def digits(number: int) -> str:
    return f"{number % 2**128:032x}"


def a_collection(**changes: object) -> CollectionSnapshot:
    fields: dict[str, object] = {
        "dimension": 2,
        "space": "l2",
        "embedding_function": None,
        "records": 3,
        "tombstones": 1,
        "conservation": Conservation(base=ZERO, replaced=ZERO, deleted=ZERO, added=ZERO, next=ZERO),
        "files": {"chroma.sqlite3": StoredFile(key="k", bytes=10, sha256="a" * 64)},
    }
    return CollectionSnapshot.model_validate(fields | changes)


def a_manifest(**collections: CollectionSnapshot) -> Manifest:
    return Manifest(
        format=1,
        snapshot_id="0000000001-3f2a9c1b",
        parent=None,
        execution="arn",
        commit_id="arn/1",
        created_at=1.0,
        seconds=2.0,
        deltas_merged=1,
        deltas_quarantined=0,
        collections=collections,
    )


@given(u128, u128, u128, u128)
def test_the_proof_holds_for_what_the_equation_gives(base: int, replaced: int, deleted: int, added: int) -> None:
    proof = Conservation(
        base=digits(base),
        replaced=digits(replaced),
        deleted=digits(deleted),
        added=digits(added),
        next=digits(base - replaced - deleted + added),
    )

    assert proof.holds()


@given(u128, u128, u128, u128, st.integers(1, 2**128 - 1))
def test_the_proof_fails_for_anything_else(base: int, replaced: int, deleted: int, added: int, wrong: int) -> None:
    proof = Conservation(
        base=digits(base),
        replaced=digits(replaced),
        deleted=digits(deleted),
        added=digits(added),
        next=digits(base - replaced - deleted + added + wrong),
    )

    assert not proof.holds()


@pytest.mark.parametrize(
    "text", ["", "0" * 31, "0" * 33, "0x" + "0" * 30, "+" + "0" * 31, "0_" * 16, "G" * 32, " " * 32]
)
def test_a_sum_is_exactly_32_hexadecimal_digits(text: str) -> None:
    with pytest.raises(ValidationError):
        Conservation(base=text, replaced=ZERO, deleted=ZERO, added=ZERO, next=ZERO)


def test_a_manifest_reads_back_as_it_was_written() -> None:
    manifest = a_manifest(docs=a_collection(), notes=a_collection(dimension=None, records=0))

    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_a_manifest_adds_up_its_collections() -> None:
    manifest = a_manifest(docs=a_collection(), notes=a_collection(records=4))

    assert (manifest.records, manifest.bytes) == (7, 20)


def a_ref(**changes: object) -> CollectionRef:
    fields = {"snapshot_id": "0000000001-3f2a9c1b", "sha256": "a" * 64, "records": 3, "bytes": 10}
    return CollectionRef.model_validate(fields | changes)


def a_tree(**changes: object) -> dict[str, object]:
    """Return a manifest of format 2 as it is stored."""
    stored = a_manifest().model_dump(mode="json") | {"format": 2, "records": 7, "bytes": 20}
    refs = {"docs": a_ref().model_dump(), "notes": a_ref(records=4).model_dump()}
    return stored | {"collections": refs} | changes


def test_a_collection_is_read_when_it_is_asked_for_and_once() -> None:
    read: list[str] = []

    def reading(name: str, _ref: CollectionRef) -> CollectionSnapshot:
        read.append(name)
        return a_collection()

    manifest = Manifest.model_validate(a_tree()).reading(reading)

    assert (list(manifest.collections), manifest.records, manifest.bytes, read) == (["docs", "notes"], 7, 20, [])
    assert "docs" in manifest.collections
    assert manifest.collection("docs") == manifest.collections["docs"] == a_collection()
    assert read == ["docs"]
    assert [name for name, _ in manifest.collections.items()] == ["docs", "notes"]
    assert read == ["docs", "notes"]


def test_a_collection_that_did_not_change_is_not_read_again() -> None:
    read: list[str] = []

    def reading(name: str, _ref: CollectionRef) -> CollectionSnapshot:
        read.append(name)
        return a_collection()

    known = Manifest.model_validate(a_tree()).reading(reading)
    known.collections.fetch(["docs", "notes", "unknown"])
    changed = {"docs": a_ref(sha256="b" * 64).model_dump(), "notes": a_ref(records=4).model_dump()}
    following = Manifest.model_validate(a_tree(collections=changed)).reading(reading, known)
    read.clear()

    following.collections.fetch(["docs", "notes"])

    assert read == ["docs"]


def test_a_tree_reads_back_as_it_was_written() -> None:
    manifest = Manifest.model_validate(a_tree())

    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


@pytest.mark.parametrize("change", [{"records": 8}, {"bytes": 21}, {"format": 1}, {"format": 3}])
def test_a_tree_whose_totals_or_format_are_wrong_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Manifest.model_validate(a_tree(**change))


@pytest.mark.parametrize(
    "change", [{"dimension": 0}, {"space": "manhattan"}, {"records": -1}, {"tombstones": -1}, {"colour": "red"}]
)
def test_an_invalid_collection_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        a_collection(**change)


def test_a_pointer_of_a_later_format_is_refused() -> None:
    fields = {
        "snapshot_id": "0000000001-3f2a9c1b",
        "sequence": 1,
        "manifest_sha256": "a" * 64,
        "commit_id": "arn/1",
        "published_at": 1.0,
    }
    Pointer.model_validate(fields)

    with pytest.raises(ValidationError):
        Pointer.model_validate(fields | {"format": 2})


def test_a_commit_is_named_by_execution_and_pass() -> None:
    assert commit_id("arn:aws:states:x", 3) == "arn:aws:states:x/3"


def test_a_manifest_from_before_settings_and_drops_can_be_read() -> None:
    stored = a_manifest(docs=a_collection(embedding_function="wordllama")).model_dump(mode="json")
    del stored["dropped"], stored["records"], stored["bytes"], stored["collections"]["docs"]["settings"]

    read = Manifest.model_validate(stored)

    assert read.dropped == {}
    settings = read.collections["docs"].settings_with_function
    assert settings.function is not None
    assert (settings.function.name, settings.function.config, settings.metadata_value) == ("wordllama", None, {})


@st.composite
def partitions(draw: st.DrawFn) -> list[PartitionSnapshot]:
    borders = draw(st.sets(st.text("ab\uffee\U0001f600", min_size=1), min_size=1, max_size=4))
    return [
        PartitionSnapshot(
            first=first,
            records=draw(st.integers(1, 9)),
            tombstones=draw(st.integers(0, 9)),
            conservation=Conservation(**{term: digits(draw(u128)) for term in Conservation.model_fields}),
            files={path: StoredFile(key=f"{n}/{path}", bytes=n, sha256="a" * 64) for path in ("a/x", LEDGER_FILE)},
            newest=draw(st.sampled_from([None, *NEWEST])),
            replaced_in_place=draw(st.integers(0, 3)),
        )
        for n, first in enumerate(["", *sorted(borders, key=str.encode)])
    ]


def partitioned(parts: list[PartitionSnapshot], **changes: object) -> CollectionSnapshot:
    return a_collection(**{"files": {}, "partitions": parts, **totals(parts), **changes})


@given(partitions(), st.text("ab\uffee\U0001f600"))
def test_a_partitioned_collection_is_its_partitions_together(parts: list[PartitionSnapshot], record_id: str) -> None:
    collection = partitioned(parts)
    holder = collection.directory_of(record_id)
    later = parts[parts.index(holder) + 1 :]

    assert CollectionSnapshot.model_validate_json(collection.model_dump_json()) == collection
    assert collection.directories == parts
    folders = [partition_folder(each.first) for each in parts]
    assert list(collection.all_files)[:2] == [f"{folders[0]}/a/x", f"{folders[0]}/{LEDGER_FILE}"]
    assert list(collection.chroma_files) == [f"{folder}/a/x" for folder in folders]
    assert collection.bytes == sum(file.bytes for each in parts for file in each.files.values())
    assert holder.first.encode() <= record_id.encode()
    assert not later or record_id.encode() < later[0].first.encode()
    assert all(collection.may_hold(each.newest) for each in parts if each.newest)


@given(partitions(), st.data())
def test_partitions_that_do_not_add_up_are_refused(parts: list[PartitionSnapshot], data: st.DataObject) -> None:
    expected = totals(parts)
    wrong = {
        "records": sum(each.records for each in parts) + 1,
        "tombstones": sum(each.tombstones for each in parts) + 1,
        "replaced_in_place": sum(each.replaced_in_place for each in parts) + 1,
        "newest": None if expected["newest"] else NEWEST[0],
        "files": {"chroma.sqlite3": StoredFile(key="k", bytes=10, sha256="a" * 64)},
    }
    name = data.draw(st.sampled_from(sorted([*wrong, *Conservation.model_fields])))
    if name in wrong:
        change: dict[str, object] = {name: wrong[name]}
    else:
        total = Conservation.total([each.conservation for each in parts])
        change = {"conservation": total.model_copy(update={name: digits(int(getattr(total, name), 16) + 1)})}

    with pytest.raises(ValidationError):
        partitioned(parts, **change)


@given(partitions(), st.sampled_from(["one", "reversed", "repeated", "without the first"]))
def test_partitions_with_gaps_or_overlaps_are_refused(parts: list[PartitionSnapshot], fault: str) -> None:
    faulty = {
        "one": parts[:1],
        "reversed": parts[::-1],
        "repeated": [*parts, parts[-1]],
        "without the first": parts[1:],
    }[fault]

    with pytest.raises(ValidationError):
        partitioned(faulty)


def test_a_collection_without_partitions_is_stored_as_before_and_is_one_directory() -> None:
    collection = a_collection(newest=NEWEST[0])

    assert "partitions" not in collection.model_dump_json()
    (directory,) = collection.directories
    assert (directory.first, directory.files, directory.newest) == ("", collection.files, NEWEST[0])
    assert collection.all_files == collection.files
