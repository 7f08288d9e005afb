"""A pointer or manifest that is damaged is named as such, and nothing is ever published over it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from chromadb_compaction import layout
from chromadb_compaction.errors import SnapshotCorruptError, SnapshotTooLargeError
from chromadb_compaction.manifest import Manifest, Pointer
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
    """A snapshot is published, and a delta is pending."""
    made = new_fakes(chromadb_cache_dir=str(tmp_path / "cache"))
    compact(made, FIRST)
    SECOND.put_into(made.objects)
    return made


def manifest_of(fakes: Fakes) -> str:
    pointer = Pointer.model_validate_json(fakes.objects.objects[POINTER].body)
    return layout.manifest_key(pointer.snapshot_id)


def outcome_over(fakes: Fakes, told: str) -> str:
    """Run a pass up to where it would publish, and return what it made of the snapshot. Nothing else may happen."""
    before = dict(fakes.objects.objects)
    one = Pass(fakes, f"{EXECUTION}-fuzzed")
    try:
        one.find()
        one.download()
    except (SnapshotCorruptError, SnapshotTooLargeError) as error:
        outcome, message = "refused", str(error)
    else:
        outcome, message = "harmless", ""
    assert "\n" not in message, told
    assert len(message) < 4000, told
    kept = {key: stored for key, stored in fakes.objects.objects.items() if not key.startswith("work/")}
    assert kept == {key: stored for key, stored in before.items() if not key.startswith("work/")}, told
    return outcome


def print_counts(what: str, outcomes: Counter[str], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{outcomes.total()} {what}: {dict(outcomes)}\n")


def replaced(fakes: Fakes, key: str, body: bytes) -> None:
    fakes.objects.objects[key] = StoredObject(body, f'"{hashlib.md5(body).hexdigest()}"', fakes.clock())


def test_a_damaged_pointer_is_refused_and_stays_as_it_is(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    whole = fakes.objects.objects[POINTER].body
    outcomes: Counter[str] = Counter()
    for number in range(MANY):
        replaced(fakes, POINTER, damaged(whole, Random(f"pointer {number}")))
        outcomes[outcome_over(fakes, f"pointer {number}")] += 1

    print_counts("damaged pointers", outcomes, capsys)
    assert outcomes["refused"] > MANY / 2
    replaced(fakes, POINTER, whole)
    assert compact(fakes).deltas_merged == 1


def test_a_damaged_manifest_is_refused_whatever_it_says(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    key = manifest_of(fakes)
    whole = fakes.objects.objects[key].body
    outcomes: Counter[str] = Counter()
    for number in range(MANY):
        body = damaged(whole, Random(f"manifest {number}"))
        if body != whole:
            replaced(fakes, key, body)
            outcomes[outcome_over(fakes, f"manifest {number}")] += 1

    print_counts("damaged manifests", outcomes, capsys)
    assert set(outcomes) == {"refused"}
    replaced(fakes, key, whole)
    assert compact(fakes).deltas_merged == 1


def test_a_manifest_that_lies_though_the_pointer_vouches_for_it_is_refused_or_does_no_harm(
    fakes: Fakes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = manifest_of(fakes)
    whole, pointer = fakes.objects.objects[key].body, json.loads(fakes.objects.objects[POINTER].body)
    outcomes: Counter[str] = Counter()
    for number in range(MANY):
        body = changed(whole, Random(f"vouched manifest {number}"))
        replaced(fakes, key, body)
        replaced(fakes, POINTER, json.dumps(pointer | {"manifest_sha256": hashlib.sha256(body).hexdigest()}).encode())
        outcomes[outcome_over(fakes, f"vouched manifest {number}")] += 1

    print_counts("lying manifests", outcomes, capsys)
    assert outcomes["refused"] > MANY / 2
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize("path", ["../escaped", "/escaped", "a/../../escaped", "", "a\0b"])
def test_no_file_of_a_snapshot_leaves_its_directory(fakes: Fakes, path: str) -> None:
    manifest = json.loads(fakes.objects.objects[manifest_of(fakes)].body)
    files = manifest["collections"]["docs"]["files"]
    files[path] = files.pop("chroma.sqlite3")

    with pytest.raises(ValueError, match="file path"):
        Manifest.model_validate(manifest)


@pytest.mark.parametrize("name", ["..", "../docs", "", "a/b"])
def test_no_collection_of_a_snapshot_leaves_its_directory(fakes: Fakes, name: str) -> None:
    manifest = json.loads(fakes.objects.objects[manifest_of(fakes)].body)
    manifest["collections"] = {name: manifest["collections"]["docs"]}

    with pytest.raises(ValueError, match="collection name"):
        Manifest.model_validate(manifest)
