"""The stored formats: valid and invalid values, and the proof that nothing was lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chromadb_compaction.manifest import (
    CollectionRef,
    CollectionSnapshot,
    Conservation,
    Manifest,
    Pointer,
    StoredFile,
    commit_id,
)

u128 = st.integers(0, 2**128 - 1)
ZERO = "0" * 32


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
