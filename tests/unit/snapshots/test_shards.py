"""Manifests in shards: what a pass reads and writes of them, and what a damaged one stops."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction import layout
from chromadb_compaction.errors import NoSuchCollectionError, SnapshotCorruptError
from chromadb_compaction.manifest import CollectionRef, Manifest, commit_id, shards
from chromadb_compaction.manifest.shards import number_of, shards_for
from chromadb_compaction.operations.verify import verify_snapshot
from chromadb_compaction.ports import StoredObject
from chromadb_compaction.snapshots.catalogue import read_catalogue
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer
from chromadb_compaction.snapshots.reader import SnapshotReader
from chromadb_compaction.snapshots.tree.shards import Changes, NextCollections, next_collections, shard_keys
from tests.builders import NOW, BuiltDelta, a_delta, a_drop
from tests.fakes.published import ZERO, parse_manifest
from tests.fakes.services import EXECUTION, Fakes, new_fakes
from tests.passes import compact

NAMES = [f"customer-{number}" for number in range(7)]
VERSION = "019a0000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module", autouse=True)
def few_names() -> Iterator[None]:
    """Divide manifests of more than four names into shards of about two."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shards, "MOST_WITHOUT_SHARDS", 4)
        patched.setattr(shards, "NAMES_IN_A_SHARD", 2)
        yield


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    return new_fakes(chromadb_cache_dir=tmp_path / "cache")


def deltas(names: list[str], *, at: float = NOW) -> list[BuiltDelta]:
    return [a_delta({"a": [1, 0]}, collection=name, at=at) for name in names]


def published(fakes: Fakes) -> Manifest:
    found = read_pointer(fakes.services)
    assert found
    return read_manifest(fakes.services, found.pointer)


def damage(fakes: Fakes, name: str) -> str:
    """Damage the shard of a collection, and return its key."""
    sharded = published(fakes).collections.sharded
    assert sharded is not None
    key = layout.shard_key(sharded.ref_of(name).snapshot_id, number_of(name, len(sharded.shard_refs)))
    fakes.objects.put(key, b"{}")
    return key


def a_manifest(snapshot_id: str, after: NextCollections) -> Manifest:
    return Manifest(
        format=after.format,
        snapshot_id=snapshot_id,
        parent=None,
        execution=EXECUTION,
        commit_id=commit_id(EXECUTION, 1),
        created_at=NOW,
        seconds=1,
        deltas_merged=1,
        deltas_quarantined=0,
        collections=after.collections,
        dropped=after.dropped,
    )


def ref(snapshot_id: str, records: int) -> CollectionRef:
    return CollectionRef(snapshot_id=snapshot_id, sha256=2 * ZERO, records=records, bytes=records)


CHANGES = st.lists(
    st.dictionaries(st.sampled_from(NAMES), st.one_of(st.none(), st.integers(1, 9)), max_size=7), max_size=8
)


@given(CHANGES, st.sets(st.sampled_from(NAMES)))
def test_manifests_in_shards_have_what_any_other_manifest_has(
    history: list[dict[str, int | None]], dropped: set[str]
) -> None:
    objects: dict[str, StoredObject] = {}
    expected: dict[str, int] = {}
    base: Manifest | None = None
    for number, records in enumerate(history, 1):
        snapshot_id = layout.new_snapshot_id(number, f"{number:08x}")
        refs = {name: ref(snapshot_id, each) if each else None for name, each in records.items()}
        drops = {name: VERSION for name in records if name in dropped}
        after = next_collections(base, Changes(refs, drops), snapshot_id=snapshot_id, prefix=layout.SNAPSHOT_PREFIX)
        objects |= {key: StoredObject(body, "", NOW) for key, body in after.shards.items()}
        base = parse_manifest(a_manifest(snapshot_id, after).model_dump_json().encode(), objects)
        expected = {name: n for name, n in {**expected, **records}.items() if n is not None}

        assert {name: each.records for name, each in base.collections.entries.items()} == expected
        assert (len(base.collections), base.records) == (len(expected), sum(expected.values()))
        assert {*base.all_dropped} == {name for each in history[:number] for name in each if name in dropped}
        assert (base.format == 3) == (base.collections.sharded is not None)


@given(st.lists(st.integers(0, 200), min_size=1, max_size=30))
def test_shards_stay_of_a_moderate_size_and_are_seldom_divided_again(counts: list[int]) -> None:
    number, changed_at = 0, counts[0]
    for names in counts:
        following = shards_for(names, number)
        if following:
            assert names / following > shards.NAMES_IN_A_SHARD / shards.GROWTH - 1
            assert names / following <= shards.NAMES_IN_A_SHARD * shards.GROWTH
        if number and following and following != number:
            assert not changed_at / 2 < names < changed_at * 2
        if following != number:
            number, changed_at = following, names


def test_a_pass_reads_and_writes_the_shard_of_the_collection_that_it_changes(fakes: Fakes) -> None:
    compact(fakes, *deltas(NAMES))
    before = published(fakes)
    fakes.objects.calls.clear()

    compact(fakes, a_delta({"b": [0, 1]}, collection=NAMES[3], at=NOW + 1))

    after = published(fakes)
    assert (before.format, after.format) == (3, 3)
    keys = [set(shard_keys(each, prefix=layout.SNAPSHOT_PREFIX)) for each in (before, after)]
    assert len(keys[1] - keys[0]) == 1
    written = {key for call, key in fakes.objects.calls if "/shard-" in key and call == "put"}
    read = {key for call, key in fakes.objects.calls if "/shard-" in key and call == "get"}
    assert (written, read) == (keys[1] - keys[0], keys[0] - keys[1])
    assert {name: each.records for name, each in after.collections.items()} == {n: 1 + (n == NAMES[3]) for n in NAMES}
    assert verify_snapshot(fakes.services, None, full=True).problems == []


def test_shards_keep_the_versions_of_drops(fakes: Fakes) -> None:
    compact(fakes, *deltas(NAMES[:4]))
    assert published(fakes).format == 2

    compact(fakes, *deltas(NAMES[4:], at=NOW + 1))
    assert published(fakes).format == 3
    assert len(published(fakes).collections) == 7

    late = [a_delta({"late": [1, 0]}, collection=name, at=NOW + 1.5) for name in NAMES]
    compact(fakes, *[a_drop(collection=name, at=NOW + 2) for name in NAMES])
    compact(fakes, *late)
    assert {*published(fakes).all_dropped} == {*NAMES}
    assert list(published(fakes).collections) == []


def test_a_damaged_shard_stops_its_own_collections_only(fakes: Fakes, reader: SnapshotReader) -> None:
    compact(fakes, *deltas(NAMES))
    key = damage(fakes, NAMES[0])
    sharded = published(fakes).collections.sharded
    assert sharded is not None
    good = next(name for name in NAMES if sharded.ref_of(name) != sharded.ref_of(NAMES[0]))

    assert compact(fakes, a_delta({"b": [0, 1]}, collection=good, at=NOW + 1)).published
    with reader.reading(fakes.services, good) as found:
        assert found.described.records == 2
    with pytest.raises(SnapshotCorruptError, match="shard"), reader.reading(fakes.services, NAMES[0]):
        pass
    assert any(key in problem for problem in verify_snapshot(fakes.services, None, full=False).problems)
    catalogue = read_catalogue(fakes.services)
    assert key in catalogue.absent(catalogue.find(None).manifest)


def test_a_reader_closes_a_collection_that_was_dropped(fakes: Fakes, reader: SnapshotReader) -> None:
    compact(fakes, *deltas(NAMES))
    with reader.reading(fakes.services, NAMES[0]):
        pass

    compact(fakes, a_drop(collection=NAMES[0], at=NOW + 1))

    reader.read_current(fakes.services)
    assert reader._copies.names == []
    with (
        pytest.raises(NoSuchCollectionError, match=f"has no collection '{NAMES[0]}'; it has: {NAMES[1]}, "),
        reader.reading(fakes.services, NAMES[0]),
    ):
        pass
