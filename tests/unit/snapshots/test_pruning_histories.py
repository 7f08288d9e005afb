"""Whatever is published, overtaken and rolled back to, pruning keeps each manifest whole, and nothing for ever."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction import layout
from chromadb_compaction.manifest import CollectionRef, Manifest, Pointer, commit_id, shards
from chromadb_compaction.snapshots import pruning
from chromadb_compaction.snapshots.tree.shards import Changes, next_collections, shard_keys
from tests.fakes.published import parse_manifest, put_collection
from tests.fakes.services import EXECUTION, new_fakes

HOUR = 3_600
DAY = 24 * HOUR


class Bucket:
    """A bucket with snapshots of two collections. `pointers` are the published snapshots, and their swaps."""

    def __init__(self) -> None:
        self.fakes = new_fakes(snapshot_retention_count=2, snapshot_retention_days=2 / 24)
        self.pointers: list[tuple[Manifest | None, int]] = [(None, 0)]
        self.made = 0
        self.fold(3, keeping=False, since=0, clean=True)

    def fold(self, changed: int, *, keeping: bool, since: int, clean: bool) -> None:
        """Write a snapshot with some collections `changed`, `keeping` a file of each.

        The pass began `since` swaps ago. If that is now, publish the snapshot and, if `clean`, clean up.
        """
        base, swaps = self.pointers[-1 - since % len(self.pointers)]
        if base and base.snapshot_id not in self.complete():
            return  # it was pruned under the pass, which then fails
        self.made += 1
        snapshot_id = layout.new_snapshot_id(swaps + 1, f"{self.made:08x}")
        refs: dict[str, CollectionRef | None] = {}
        for bit, name in enumerate(("one", "second")):
            if changed >> bit & 1:
                before = base.collections.get(name) if base and keeping else None
                kept = [file.key for file in before.files.values()][-1:] if before else []
                files = [*kept, layout.snapshot_file_key(snapshot_id, name, "chroma.sqlite3")]
                refs[name] = put_collection(self.fakes, snapshot_id, name, files)
        changes = Changes(refs, {})
        after = next_collections(base, changes, snapshot_id=snapshot_id, prefix=layout.SNAPSHOT_PREFIX)
        for key, shard in after.shards.items():
            self.fakes.objects.put(key, shard)
        manifest = Manifest(
            format=after.format,
            snapshot_id=snapshot_id,
            parent=base.snapshot_id if base else None,
            execution=EXECUTION,
            commit_id=commit_id(EXECUTION, self.made),
            created_at=self.fakes.clock(),
            seconds=1,
            deltas_merged=1,
            deltas_quarantined=0,
            collections=after.collections,
        )
        self.fakes.objects.put(layout.manifest_key(snapshot_id), manifest.model_dump_json().encode())
        self.fakes.clock.tick(HOUR)
        if swaps == self.pointers[-1][1]:
            self.publish(snapshot_id)
            if clean:
                pruning.prune(snapshot_id, self.fakes.services)

    def roll_back(self, number: int) -> None:
        """Publish one of the snapshots that there are."""
        found = self.complete()
        target, published = found[number % len(found)], self.pointers[-1][0]
        if published and published.snapshot_id != target:
            self.publish(target)

    def wait(self) -> None:
        """Let a day pass."""
        self.fakes.clock.tick(DAY + 1)

    def publish(self, snapshot_id: str) -> None:
        """Swap the pointer."""
        swaps = self.pointers[-1][1] + 1
        body = self.fakes.objects.get(layout.manifest_key(snapshot_id)).body
        pointer = Pointer(
            snapshot_id=snapshot_id,
            sequence=swaps,
            manifest_sha256=hashlib.sha256(body).hexdigest(),
            commit_id=commit_id(EXECUTION, swaps),
            published_at=self.fakes.clock(),
        )
        self.fakes.objects.put(layout.pointer_key(), pointer.model_dump_json().encode())
        self.pointers.append((self.manifest(snapshot_id), swaps))

    def complete(self) -> list[str]:
        """Return the snapshots with a manifest."""
        keys = [key for key in self.fakes.objects.objects if key.endswith("/manifest.json")]
        return sorted(key.split("/")[1] for key in keys)

    def manifest(self, snapshot_id: str) -> Manifest:
        objects = self.fakes.objects.objects
        return parse_manifest(objects[layout.manifest_key(snapshot_id)].body, objects)

    def named(self) -> set[str]:
        """Return the keys of all files and shards that manifests name."""
        manifests = [self.manifest(each) for each in self.complete()]
        files = {file.key for each in manifests for file in each.files}
        return files | {key for each in manifests for key in shard_keys(each, prefix=layout.SNAPSHOT_PREFIX)}

    def files(self) -> set[str]:
        return {key for key in self.fakes.objects.objects if key.endswith(".sqlite3") or "/shard-" in key}


Step = Callable[[Bucket], None]


def a_fold(changed: int = 3, *, keeping: bool = False, since: int = 0, clean: bool = True) -> Step:
    return lambda bucket: bucket.fold(changed, keeping=keeping, since=since, clean=clean)


def a_rollback(number: int) -> Step:
    return lambda bucket: bucket.roll_back(number)


FOLDS = st.builds(
    a_fold,
    st.integers(1, 3),
    keeping=st.booleans(),
    since=st.sampled_from([0, 0, 0, 1, 2]),
    clean=st.sampled_from([True, True, False]),
)
STEPS = st.lists(
    st.one_of(FOLDS, FOLDS, FOLDS, FOLDS, st.builds(a_rollback, st.integers(0, 3)), st.just(Bucket.wait)),
    min_size=5,
    max_size=20,
)


def run(steps: list[Step], *, sharded: bool = False) -> Bucket:
    with patch.object(shards, "MOST_WITHOUT_SHARDS", 1 if sharded else 9), patch.object(shards, "NAMES_IN_A_SHARD", 1):
        bucket = Bucket()
        for step in steps:
            step(bucket)
            assert bucket.named() <= bucket.files()
        return bucket


@given(STEPS, st.booleans())
def test_every_manifest_stays_whole(steps: list[Step], sharded: bool) -> None:  # noqa: FBT001 - Hypothesis gives it
    run(steps, sharded=sharded)


@given(STEPS, st.booleans())
def test_a_day_later_nothing_is_left_that_no_manifest_names(steps: list[Step], sharded: bool) -> None:  # noqa: FBT001
    bucket = run([*steps, Bucket.wait, a_fold()], sharded=sharded)

    assert bucket.files() == bucket.named()


def test_pruning_by_age_alone_is_found() -> None:
    steps = [a_fold(2) for _ in range(5)]
    run(steps)
    with patch.object(pruning, "_needed", lambda *_: frozenset()), pytest.raises((AssertionError, KeyError)):
        run(steps)


def test_pruning_shards_by_age_alone_is_found() -> None:
    steps = [a_fold(2) for _ in range(5)]
    bucket = run(steps, sharded=True)
    assert bucket.manifest(bucket.complete()[-1]).format == 3
    with patch.object(pruning, "shard_keys", lambda *_, **__: []), pytest.raises((AssertionError, KeyError)):
        run(steps, sharded=True)
