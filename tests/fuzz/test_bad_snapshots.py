"""A damaged pointer or manifest is reported, and nothing is published over it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from chromadb_compaction import layout
from chromadb_compaction.errors import NewerFormatError, SnapshotCorruptError, SnapshotTooLargeError
from chromadb_compaction.manifest import CollectionSnapshot, Manifest, Pointer
from chromadb_compaction.ports import StoredObject
from tests.builders import NOW, a_delta, a_uuid7
from tests.fakes.services import EXECUTION, Fakes, new_fakes
from tests.fuzz.json_damage import changed, damaged
from tests.passes import Pass, compact

MANY = 500
POINTER = layout.pointer_key()
FIRST, SECOND = (
    a_delta({name: [1, 2], "b": [3, 4]}, collection=collection, name=a_uuid7(NOW - 60, number))
    for number, (name, collection) in enumerate((("a", "docs"), ("c", "docs")))
)


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    """Return services with a published snapshot and a pending delta."""
    services = new_fakes(chromadb_cache_dir=str(tmp_path / "cache"))
    compact(services, FIRST)
    SECOND.put_into(services.objects)
    return services


def manifest_of(fakes: Fakes) -> str:
    pointer = Pointer.model_validate_json(fakes.objects.objects[POINTER].body)
    return layout.manifest_key(pointer.snapshot_id)


def outcome_of_pass(fakes: Fakes, damage: str) -> str:
    """Run a pass up to its download, and return whether it refused the snapshot. Check that nothing changed."""
    before = dict(fakes.objects.objects)
    one = Pass(fakes, f"{EXECUTION}-fuzzed")
    try:
        one.find()
        one.download()
    except (NewerFormatError, SnapshotCorruptError, SnapshotTooLargeError) as error:
        outcome, message = "refused", str(error)
    else:
        outcome, message = "harmless", ""
    assert "\n" not in message, damage
    assert len(message) < 4000, damage
    kept = {key: stored for key, stored in fakes.objects.objects.items() if not key.startswith("work/")}
    assert kept == {key: stored for key, stored in before.items() if not key.startswith("work/")}, damage
    return outcome


def print_counts(name: str, outcomes: Counter[str], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{outcomes.total()} {name}: {dict(outcomes)}\n")


def replace(fakes: Fakes, key: str, body: bytes) -> None:
    fakes.objects.objects[key] = StoredObject(body, f'"{hashlib.md5(body).hexdigest()}"', fakes.clock())


def test_a_damaged_pointer_is_refused_and_not_changed(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    whole = fakes.objects.objects[POINTER].body
    outcomes: Counter[str] = Counter()
    for number in range(MANY):
        replace(fakes, POINTER, damaged(whole, Random(f"pointer {number}")))
        outcomes[outcome_of_pass(fakes, f"pointer {number}")] += 1

    print_counts("damaged pointers", outcomes, capsys)
    assert outcomes["refused"] > MANY / 2
    replace(fakes, POINTER, whole)
    assert compact(fakes).deltas_merged == 1


def test_a_damaged_manifest_is_always_refused(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    key = manifest_of(fakes)
    whole = fakes.objects.objects[key].body
    outcomes: Counter[str] = Counter()
    for number in range(MANY):
        body = damaged(whole, Random(f"manifest {number}"))
        if body != whole:
            replace(fakes, key, body)
            outcomes[outcome_of_pass(fakes, f"manifest {number}")] += 1

    print_counts("damaged manifests", outcomes, capsys)
    assert set(outcomes) == {"refused"}
    replace(fakes, key, whole)
    assert compact(fakes).deltas_merged == 1


def test_a_wrong_manifest_with_a_matching_digest_is_refused_or_does_no_damage(
    fakes: Fakes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = manifest_of(fakes)
    whole, pointer = fakes.objects.objects[key].body, json.loads(fakes.objects.objects[POINTER].body)
    outcomes: Counter[str] = Counter()
    for number in range(MANY):
        body = changed(whole, Random(f"vouched manifest {number}"))
        replace(fakes, key, body)
        replace(fakes, POINTER, json.dumps(pointer | {"manifest_sha256": hashlib.sha256(body).hexdigest()}).encode())
        outcomes[outcome_of_pass(fakes, f"vouched manifest {number}")] += 1

    print_counts("wrong manifests with a matching digest", outcomes, capsys)
    assert outcomes["refused"] > MANY / 2
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize("path", ["../escaped", "/escaped", "a/../../escaped", "", "a\0b"])
def test_no_file_of_a_snapshot_leaves_its_directory(fakes: Fakes, path: str) -> None:
    manifest = json.loads(fakes.objects.objects[manifest_of(fakes)].body)
    described = json.loads(fakes.objects.objects[layout.collection_key(manifest["snapshot_id"], "docs")].body)
    described["files"][path] = described["files"].pop("chroma.sqlite3")

    with pytest.raises(ValueError, match="file path"):
        CollectionSnapshot.model_validate(described)


@pytest.mark.parametrize("name", ["..", "../docs", "", "a/b"])
def test_no_collection_of_a_snapshot_leaves_its_directory(fakes: Fakes, name: str) -> None:
    manifest = json.loads(fakes.objects.objects[manifest_of(fakes)].body)
    manifest["collections"] = {name: manifest["collections"]["docs"]}

    with pytest.raises(ValueError, match="collection name"):
        Manifest.model_validate(manifest)
